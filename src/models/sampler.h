/* SPDX-License-Identifier: MIT */
/* sampler.h -- guided sampling of a batch of pictures, with hooks on the way.
 *
 *   x_T = torch noise of the picture's seed
 *   for t = T..1: eps = UNet([x, x], t, [uncond, cond]);  x = scheduler step of x and the guided eps
 *                 euler-a: x += its share of the seed's next noise
 *
 * The UNet's batch is [uncond of every picture..., cond of every picture...]; with guidance 1 there is no uncond half.
 * A picture's latent depends on its own record only, not on its batch. Pictures of a batch with the same seed and
 * texts, as a sweep of sd-steer-text has them, are drawn once where no hook watches. Texts of one length are drawn at
 * once: a batch of several lengths in as many runs, each with the pictures of one. Nothing is allocated inside the loop
 * after the first batch of a size. */
#ifndef SRC_MODELS_SAMPLER_H
#define SRC_MODELS_SAMPLER_H

#include "src/models/conditioning.h"
#include "src/models/noise.h"
#include "src/models/scheduler.h"
#include "src/models/unet.h"

typedef struct SamplerOptions {
    const char *model;              /* folder */
    DType type;                     /* of the matrix products */
    const char *method;             /* as scheduler_load has them; NULL: ddim */
    int steps;
    double guidance;
    int batch;                      /* pictures at once, at most */
    int height, width;              /* of the latent; 0: the model's sample_size */
} SamplerOptions;

typedef struct Sampler {
    UNet *unet;
    Scheduler *scheduler;
    SamplerOptions options;
    int C, H, W;                    /* latent */
    int halves;                     /* 2 with guidance, else 1 */
    int n;                          /* pictures of the current run; its rows: halves * n images */
    int *picture;                   /* [n] their places in the batch, rising */
    int *twin;                      /* [batch] the first picture of the batch that is drawn of the same */
    int step;                       /* current step, for hooks: scheduler->step[step] */
    float *x, *x_halves, *eps;      /* device: (batch,H,W,C), (halves*batch,H,W,C) twice */
    float *memory;                  /* device (scheduler->memory, batch,H,W,C): scheduler_step's; NULL: it has none */
    Noise *noise;                   /* [batch] of each picture's seed */
    float *host, *planes;           /* (H,W,C) and (C,H,W), one picture's for transposition */
    float *states;                  /* host (texts,S,E), what unet_set_text reads */
    float *pooled;                  /* host (texts,P), for Stable Diffusion XL, else NULL */
    int32_t *state_of;              /* (halves*batch) */
    size_t state_size;              /* S*E of the current run */
    size_t states_room, texts_room; /* values that `states` holds, texts that `pooled` does */
    int cell;                       /* pixels of a latent's cell */
} Sampler;

int sampler_create(Sampler **s, const SamplerOptions *options, Err *e);
void sampler_free(Sampler *s);

/* Called before each step of a run with s->step set. Returns 0, or -1 with e set. */
typedef int (*StepFn)(void *context, Sampler *s, Err *e);

/* Draws the batch's pictures (batch->count <= options.batch): latents (count,C,H,W) f32 host, as the UNet has them. */
int sampler_run(Sampler *s, const CondBatch *batch, float *latents, StepFn before_step, void *context, Err *e);

/* First image and number of images of a half in the UNet's batch: "cond", "uncond", "both".
 * Without guidance all is cond. */
typedef enum { HALF_COND, HALF_UNCOND, HALF_BOTH } Half;
int half_parse(Half *half, const char *name, Err *e);
void sampler_half(const Sampler *s, Half half, int *first, int *count);

/* "HIGH-LOW", "T" or "" (all) to timesteps, as option (--at, --when) has them. */
int t_range_parse(const char *option, const char *text, int *high, int *low, Err *e);

#endif
