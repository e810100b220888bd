/* SPDX-License-Identifier: MIT */
/* vae.h -- AutoencoderKL: latents to pictures and back, shapes from config.json.
 *
 *   latent (B,h,w,c) f32 channels-last, as the network has it (scaled by scaling_factor)
 *   image (B,H,W,3) u8 or f32 in [-1,1] */
#ifndef SRC_MODELS_VAE_H
#define SRC_MODELS_VAE_H

#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"

typedef struct Vae Vae;

/* Pixels a latent cell by DIR/vae/config.json alone; 8 where DIR has no VAE. */
int vae_cell(int *pixels, const char *dir, Err *e);
int vae_load(Vae **v, const char *dir, DType type, Err *e);
void vae_free(Vae *v);
int vae_load_encoder(Vae *v, Err *e);               /* which vae_encode does of itself */
int vae_scale(const Vae *v);                        /* pixels a latent cell: 8 */
int vae_channels(const Vae *v);                     /* c, of the latent */
int vae_takes(const Vae *v, int channels, Err *e);  /* an error where latents have another number of channels */
/* pixels (B,H,W,3) f32 host = decoder(latent / scaling_factor + shift) of latent (B,h,w,c) host, about [-1,1], not
 * clipped. One picture at a time inside, so memory is flat in B. */
int vae_decode(Vae *v, const float *latent, int64_t B, int64_t h, int64_t w, float *pixels, Err *e);
/* u8 = round(clip(pixels / 2 + 0.5, 0, 1) * 255), ties to even, as diffusers' VaeImageProcessor does. */
void vae_to_u8(uint8_t *image, const float *pixels, int64_t n);
/* mean and log_variance (NULL: not wanted) (B,h,w,c) host of the encoder's posterior for pixels (B,H,W,3) host in
 * [-1,1]; not scaled. */
int vae_encode(Vae *v, const float *pixels, int64_t B, int64_t H, int64_t W, float *mean, float *log_variance, Err *e);
/* n values of a posterior's sample or mean, in place, as the network has them: (x - shift) * scaling_factor. */
void vae_scale_latent(const Vae *v, float *latent, size_t n);

#endif
