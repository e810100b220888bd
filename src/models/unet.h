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

typedef struct UNet UNet;

/* Loads DIR/unet. A config that asks for what is not implemented (class embeddings, addition embeddings other than
 * "text_time", other block types, ...) is refused by the name of its key. type: of the matrix products. */
int unet_load(UNet **u, const char *dir, DType type, Err *e);
void unet_free(UNet *u);
int unet_channels(const UNet *u);                   /* of the latent, 4 */
void unet_sample_size(const UNet *u, int *height, int *width);      /* of the latents it was made for */
int unet_text_width(const UNet *u);                 /* E, cross_attention_dim */
int unet_pooled_width(const UNet *u);               /* P, of the pooled embedding of Stable Diffusion XL; 0: none */

/* Text states for the evaluations that follow: `images` distinct states (images,S,E) f32 in host memory; image b of the
 * batch uses states[index[b]] (host; b < B). Keys and values of every cross attention are computed here, once, not in
 * each step. */
int unet_set_text(UNet *u, const float *states, int64_t images, int64_t S, const int32_t *index, int64_t B, Err *e);

/* Of a UNet whose P is not 0, after each unet_set_text: pooled embeddings (images,P) f32 of its texts (host), and the
 * size of the pictures in pixels, which stands for the original and the target size that SDXL is told of, with a crop
 * at (0,0). What they add to the time embedding is computed here, once. */
int unet_set_added(UNet *u, const float *pooled, int height, int width, Err *e);

/* eps = UNet(x, t, text): x, eps device (B,H,W,C). The hooks run inside. An error a hook reports ends it. */
int unet_eval(UNet *u, float *eps, const float *x, int64_t B, int64_t H, int64_t W, float t, Err *e);

/* ---- hooks, by diffusers' module path ---- */

/* Called with the module's output `act` (B,H,W,C) f32 rows in device memory, which it may change in place (the change
 * goes on through the network), and the module's input of the same shape (NULL where the shapes differ or the module is
 * not hooked with input). For attn1, attn2 and ff that is what the module itself reads, after the norm. Returns 0, or
 * -1 with e set. */
typedef struct HookCall {
    const char *path;           /* "up_blocks.1.attentions.1" */
    int index;                  /* of the hook in the order unet_hook gave */
    float *act;
    const float *input;
    int64_t B, H, W;            /* tokens of attn1, attn2 and ff are laid out as the H x W they stand for */
    int C;
} HookCall;
typedef int (*HookFn)(void *context, const HookCall *call, Err *e);

/* Hooks every module whose path matches pattern: a shell glob whose stars stay within one part of the path, as in file
 * names, unless two of them ("**.attn2") go over the dots; a leading "unet." is dropped. Modules: conv_in, conv_out,
 * mid_block, {down,up}_blocks.I, and under them resnets.J, attentions.J, downsamplers.0, upsamplers.0,
 * attentions.J.transformer_blocks.K and its attn1, attn2, ff. Returns how many matched, or -1 with an error that lists
 * the nearest names. need_input: keep the input too. */
int unet_hook(UNet *u, const char *pattern, bool need_input, HookFn fn, void *context, Err *e);
int unet_hook_count(const UNet *u);
const char *unet_hook_path(const UNet *u, int index);
/* Names of all modules that can be hooked, NULL-terminated, for --list-hooks. */
const char *const *unet_modules(const UNet *u);

#endif
