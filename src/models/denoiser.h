/* SPDX-License-Identifier: MIT */
/* denoiser.h -- the network that draws: a UNet (unet.h), or the transformer of Stable Diffusion 3 (mmdit.h), by which
 * of them a model folder has.
 *
 *   x, eps (B,H,W,C) f32 channels-last      state (B,S,E) text states      t one timestep for the whole batch
 *
 * eps stands for what the network predicts, whatever that is. Everything is in device memory and allocated at the first
 * evaluation of a shape; later ones allocate nothing. */
#ifndef SRC_MODELS_DENOISER_H
#define SRC_MODELS_DENOISER_H

#include <stdbool.h>
#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"
#include "src/models/hooks.h"

typedef struct Denoiser Denoiser;

/* What messages call it. */
typedef struct DenoiserWords {
    const char *network;                            /* "UNet", "transformer" */
    const char *text_width, *pooled_width;          /* its config's keys for E and for what P comes of */
} DenoiserWords;

/* Loads DIR/unet or DIR/transformer; both, or neither, is an error. type: of the matrix products; residual: as
 * unet_load has it. */
int denoiser_load(Denoiser **d, const char *dir, DType type, DType residual, Err *e);
void denoiser_free(Denoiser *d);
const DenoiserWords *denoiser_words(const Denoiser *d);
int denoiser_channels(const Denoiser *d);           /* C, of the latent */
void denoiser_sample_size(const Denoiser *d, int *height, int *width);      /* of the latents it was made for */
int denoiser_check_size(const Denoiser *d, int height, int width, Err *e);  /* an error where it takes no such latent */
int denoiser_text_width(const Denoiser *d);         /* E */
int denoiser_pooled_width(const Denoiser *d);       /* P, of the pooled embedding; 0: it takes none */

/* A UNet that was distilled with guidance is told how much (unet.h). */
bool denoiser_takes_guidance(const Denoiser *d);
int denoiser_set_guidance(Denoiser *d, double guidance, Err *e);

/* Text for the evaluations that follow: `images` distinct states (images,S,E) f32 in host memory; image b of the batch
 * uses states[index[b]] (host; b < B). What depends on the text alone is computed here, once, not in each step. */
int denoiser_set_text(Denoiser *d, const float *states, int64_t images, int64_t S, const int32_t *index, int64_t B,
                      Err *e);
/* Where P is not 0, after each denoiser_set_text: pooled embeddings (images,P) f32 of its texts (host), and the size of
 * the pictures in pixels, which Stable Diffusion XL is told of. */
int denoiser_set_added(Denoiser *d, const float *pooled, int height, int width, Err *e);

/* eps = network(x, t, text): x device (B,H,W,C), eps (n*B,H,W,C) of as many images as there is text for: each latent
 * with n texts, as classifier-free guidance has two, x being there n times over in the batch. What does not depend on
 * the text is computed once. The hooks run inside, on the whole batch. An error a hook reports ends it. */
int denoiser_eval(Denoiser *d, float *eps, const float *x, int64_t B, int64_t H, int64_t W, float t, Err *e);

Hooks *denoiser_hooks(Denoiser *d);                 /* by diffusers' module path */
/* The module that is captured where none is named: in the middle of the network. */
const char *denoiser_usual_hook(const Denoiser *d);

#endif
