/* SPDX-License-Identifier: MIT */
/* mmdit.h -- SD3Transformer2DModel, the transformer of Stable Diffusion 3 and 3.5: any widths, depths, head counts,
 * with and without norms of q and k, with dual attention in any of its blocks.
 *
 *   x, v (B,H,W,C) f32 channels-last      state (B,S,E) text states      t one timestep for the whole batch
 *
 * Everything is in device memory and allocated at the first evaluation of a shape; later ones allocate nothing. Text
 * and image meet in the blocks' attention; hooks see the image's rows alone, as the h x w patches that they are. */
#ifndef SRC_MODELS_MMDIT_H
#define SRC_MODELS_MMDIT_H

#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"
#include "src/models/hooks.h"

typedef struct MMDiT MMDiT;

/* Loads DIR/transformer. A config that asks for what is not implemented is refused by the name of its key. type: of the
 * matrix products. */
int mmdit_load(MMDiT **m, const char *dir, DType type, Err *e);
void mmdit_free(MMDiT *m);
int mmdit_channels(const MMDiT *m);                 /* of the latent, 16 */
void mmdit_sample_size(const MMDiT *m, int *height, int *width);    /* of the latents it was made for */
/* An error where sides of a latent are no multiples of its patches', or more than it has positions for. */
int mmdit_check_size(const MMDiT *m, int64_t height, int64_t width, Err *e);
int mmdit_text_width(const MMDiT *m);               /* E, joint_attention_dim */
int mmdit_pooled_width(const MMDiT *m);             /* P, pooled_projection_dim */

/* Text states for the evaluations that follow: `images` distinct states (images,S,E) f32 in host memory; image b of the
 * batch uses states[index[b]] (host; b < B). They are projected to the blocks' width here, once, not in each step. */
int mmdit_set_text(MMDiT *m, const float *states, int64_t images, int64_t S, const int32_t *index, int64_t B, Err *e);
/* After each mmdit_set_text: pooled embeddings (images,P) f32 of its texts (host), projected here, once. */
int mmdit_set_added(MMDiT *m, const float *pooled, Err *e);

/* v = MMDiT(x, t, text): x device (B,H,W,C), v (n*B,H,W,C) of as many images as there is text for: each latent with n
 * texts, x being there n times over in the batch. The hooks run inside. An error a hook reports ends it. */
int mmdit_eval(MMDiT *m, float *v, const float *x, int64_t B, int64_t H, int64_t W, float t, Err *e);

/* Modules, by diffusers' paths: transformer_blocks.I, and under it attn, attn2 (where there is one) and ff, which are
 * what the block adds to its stream, before the gates. */
Hooks *mmdit_hooks(MMDiT *m);
const char *mmdit_usual_hook(const MMDiT *m);       /* the block in the middle */

#endif
