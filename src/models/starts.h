/* SPDX-License-Identifier: MIT */
/* starts.h -- pictures to begin with, as latents: of a record the file DIR/INIT_IMAGE, where it has such a field,
 * else DIR/ID.png, or .jpg or .jpeg; or one file for all.
 *
 *   z = scaling_factor (mean + exp(log_variance/2) n - shift)
 *
 * of the VAE's posterior, n being the first noise of the record's seed, as StableDiffusionImg2ImgPipeline draws it; or
 * the mean alone. A picture of another size is brought to the least that covers the sampler's (resample.h), and its
 * middle is taken. */
#ifndef SRC_MODELS_STARTS_H
#define SRC_MODELS_STARTS_H

#include <stdbool.h>
#include "src/models/conditioning.h"
#include "src/models/vae.h"

typedef struct Starts Starts;

/* path: a folder, or a file by its ending (image_ending). Latents (C,H,W) get one of vae's, which stays the caller's.
 * sampled: else the mean. */
int starts_open(Starts **s, const char *path, Vae *vae, int C, int H, int W, bool sampled, Err *e);
void starts_free(Starts *s);                        /* NULL is fine */
/* Gives each of the batch's records its start. */
int starts_fill(Starts *s, CondBatch *batch, Err *e);

#endif
