/* SPDX-License-Identifier: MIT */
/* unet.h -- UNet2DConditionModel of the Stable Diffusion 1.x, 2.x and XL kind: any widths, depths, block types, head
 * counts.
 *
 *   x, eps (B,H,W,C) f32 channels-last      state (B,S,E) text states      t one timestep for the whole batch
 *
 * Everything is in device memory and allocated at the first evaluation of a shape; later ones allocate nothing. */
#ifndef SRC_MODELS_UNET_H
#define SRC_MODELS_UNET_H

#include <stdbool.h>
#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"
#include "src/models/hooks.h"

typedef struct UNet UNet;

/* Loads DIR/unet. A config that asks for what is not implemented (class embeddings, addition embeddings other than
 * "text_time", other block types, ...) is refused by the name of its key. type: of the matrix products; residual: of
 * the residual stream beside those of 16 bits, F32 or op->residual. */
int unet_load(UNet **u, const char *dir, DType type, DType residual, Err *e);
void unet_free(UNet *u);
int unet_channels(const UNet *u);                   /* of the latent, 4 */
void unet_sample_size(const UNet *u, int *height, int *width);      /* of the latents it was made for */
int unet_text_width(const UNet *u);                 /* E, cross_attention_dim */
int unet_pooled_width(const UNet *u);               /* P, of the pooled embedding of Stable Diffusion XL; 0: none */

bool unet_takes_guidance(const UNet *u);            /* it was distilled with guidance, and is told how much */

/* Of a UNet that takes it: the guidance of the evaluations that follow, classifier-free guidance's factor, which is not
 * done then. Without it the embedding is that of t alone. */
int unet_set_guidance(UNet *u, double guidance, Err *e);

/* Text states for the evaluations that follow: `images` distinct states (images,S,E) f32 in host memory; image b of the
 * batch uses states[index[b]] (host; b < B). Keys and values of every cross attention are computed here, once, not in
 * each step. */
int unet_set_text(UNet *u, const float *states, int64_t images, int64_t S, const int32_t *index, int64_t B, Err *e);

/* Of a UNet whose P is not 0, after each unet_set_text: pooled embeddings (images,P) f32 of its texts (host), and the
 * size of the pictures in pixels, which stands for the original and the target size that SDXL is told of, with a crop
 * at (0,0). What they add to the time embedding is computed here, once. */
int unet_set_added(UNet *u, const float *pooled, int height, int width, Err *e);

/* eps = UNet(x, t, text): x device (B,H,W,C), eps (n*B,H,W,C) of as many images as there is text for: each latent with
 * n texts, x being there n times over in the batch. What does not depend on the text is computed once. The hooks run
 * inside, on the whole batch. An error a hook reports ends it. */
int unet_eval(UNet *u, float *eps, const float *x, int64_t B, int64_t H, int64_t W, float t, Err *e);

/* ---- hooks, by diffusers' module path ---- */

/* Modules: conv_in, conv_out, mid_block, {down,up}_blocks.I, and under them resnets.J, attentions.J, downsamplers.0,
 * upsamplers.0, attentions.J.transformer_blocks.K and its attn1, attn2, ff. */
Hooks *unet_hooks(UNet *u);

#endif
