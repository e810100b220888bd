/* SPDX-License-Identifier: MIT */
/* sampler.h -- guided sampling of a batch of pictures, with hooks on the way.
 *
 *   x_T = torch noise of the picture's seed
 *   for t = T..1: eps = network([x, x], t, [uncond, cond]);  x = scheduler step of x and the guided eps
 *                 euler-a, lcm: x += its share of the seed's next noise
 *
 * Pictures that begin with others (CondItem's start, z): of the first steps `strength` says how many are left out, and
 * x_t is z with the seed's noise (Meng et al. 2022, SDEdit, arXiv 2108.01073), as in diffusers'
 * StableDiffusionImg2ImgPipeline and StableDiffusion3Img2ImgPipeline. With INVERSION_DDPM what is drawn departs from z
 * by nothing but what hooks change (Huberman-Spiegelglas et al. 2024, An Edit Friendly DDPM Noise Space, arXiv
 * 2304.06140):
 *
 *   z_t = z with noise for t, the seed's next at each step      of z itself, as if it had just been drawn
 *   x_T = z_T;   x_t-1 = z_t-1 + mu(x_t) - mu(z_t), and z + mu(x_1) - mu(z_1) at the end
 *
 * mu(x) being the mean of a DDPM step (eta = 1) from x. That is their x_t-1 = mu(x_t) + sigma_t n_t with the noise n_t
 * that gives z_t-1 from z_t. mu(z_t) is of the text that says what z shows (CondItem's init_state), mu(x_t) of the one
 * to draw. Where the texts are one and hooks change nothing, x_t is z_t bit for bit, and z comes out. With a mask,
 * x_t - z_t is multiplied by it (Avrahami et al. 2023, Blended Latent Diffusion, arXiv 2206.02779).
 *
 * The network's batch is [uncond of every picture..., cond of every picture...]; with guidance 1, and where a UNet is
 * told its guidance (unet_set_guidance), there is no uncond half. A picture's latent depends on its own record only,
 * not on its batch. Pictures of a batch with the same seed and texts, as a sweep of sd-steer-text has them, are drawn
 * once where no hook watches. Texts of one length are drawn at once: a batch of several lengths in as many runs, each
 * with the pictures of one. Nothing is allocated inside the loop after the first batch of a size. */
#ifndef SRC_MODELS_SAMPLER_H
#define SRC_MODELS_SAMPLER_H

#include "formats/image.h"
#include "src/models/conditioning.h"
#include "src/models/denoiser.h"
#include "src/models/noise.h"
#include "src/models/scheduler.h"

typedef enum { INVERSION_NONE, INVERSION_DDPM } Inversion;

typedef struct SamplerOptions {
    const char *model;              /* folder */
    DType type;                     /* of the matrix products */
    bool wide;                      /* the residual stream is f32 beside all of them */
    const char *method;             /* as scheduler_load has them; NULL: auto */
    int steps;
    double guidance;
    int batch;                      /* pictures at once, at most */
    int height, width;              /* of the latent; 0: the model's sample_size */
    double strength;                /* 0, 1: pictures begin with noise; else share of the steps that are taken */
    Inversion inversion;            /* ddim alone */
} SamplerOptions;

typedef struct Sampler {
    Denoiser *denoiser;
    Scheduler *scheduler;
    SamplerOptions options;
    int C, H, W;                    /* latent */
    int halves;                     /* 2 with classifier-free guidance, else 1 */
    int n;                          /* pictures of the current run; its rows: halves * n images */
    int *picture;                   /* [n] their places in the batch, rising */
    int *twin;                      /* [batch] the first picture of the batch that is drawn of the same */
    int step;                       /* current step, for hooks: scheduler->step[step] */
    int first;                      /* step that the run began at */
    float *x, *fresh, *eps;         /* device: (batch,H,W,C) and new noise for it, (halves*batch,H,W,C) */
    float *memory;                  /* device (scheduler->memory, batch,H,W,C): scheduler_step's; NULL: it has none */
    float *change, *traced;         /* device, for an inversion: (batch,H,W,C) x_t - z_t; (steps,batch,H,W,C) mu(z_t),
                                     * by the pictures' places */
    bool tracing;
    int *traced_at;                 /* [batch] the place whose mu(z_t) a place has: its own, or that of its twin */
    float *where;                   /* device (H,W,C): what share of a change a cell of the latent gets; NULL: all */
    Noise *noise;                   /* [batch] of each picture's seed */
    float *host, *planes;           /* (batch,H,W,C) and (batch,C,H,W), for transposition */
    float *states;                  /* host (texts,S,E), what denoiser_set_text reads */
    float *pooled;                  /* host (texts,P), where the network takes them, else NULL */
    int32_t *state_of;              /* (halves*batch) */
    size_t state_size;              /* S*E of the current run */
    size_t states_room, texts_room; /* values that `states` holds, texts that `pooled` does */
    int cell;                       /* pixels of a latent's cell */
    int *waypoint;                  /* [waypoints] steps, rising */
    int waypoints, from, leave;     /* from, leave: of the run: where it begins, and the last it leaves; -1: none */
    float *left;                    /* device (waypoints,batch,1 + scheduler->memory,H,W,C), by the pictures' places */
} Sampler;

/* Values of a picture's latent. */
static inline size_t sampler_latent(const Sampler *s)
{
    return (size_t)s->C*s->H*s->W;
}

int sampler_create(Sampler **s, const SamplerOptions *options, Err *e);
void sampler_free(Sampler *s);

/* By an inversion a picture stays what it is where the mask is black (mask.h). */
int sampler_mask(Sampler *s, const Image *mask, Err *e);

/* Called before each step of a run with s->step set. Returns 0, or -1 with e set. */
typedef int (*StepFn)(void *context, Sampler *s, Err *e);

/* Draws the batch's pictures (batch->count <= options.batch): latents (count,C,H,W) f32 host, as the network has them.
 * With an inversion, pictures of the batch that sampler_run_plain had last. */
int sampler_run(Sampler *s, const CondBatch *batch, float *latents, StepFn before_step, void *context, Err *e);
/* Runs of the same pictures that have their first steps in common need not all draw them: at waypoints, `count` rising
 * steps above 0, one leaves what the others begin with. Once, before the runs; not with an inversion. */
int sampler_waypoints(Sampler *s, const int *step, int count, Err *e);
/* sampler_run from a waypoint on, by its number, up to which an earlier run of these pictures was as this one is; -1:
 * from the noise. Leaves the waypoints up to number `leave`. The latents are sampler_run's bit for bit. */
int sampler_run_from(Sampler *s, int waypoint, int leave, const CondBatch *batch, float *latents, StepFn before_step,
                     void *context, Err *e);
/* The same for hooks that change nothing. With an inversion the network is evaluated at z_t of each picture at each
 * step; the latents are the pictures' own, unless their texts are to be others. */
int sampler_run_plain(Sampler *s, const CondBatch *batch, float *latents, StepFn before_step, void *context, Err *e);

/* First image and number of images of a half in the network's batch: "cond", "uncond", "both".
 * Without guidance all is cond. */
typedef enum { HALF_COND, HALF_UNCOND, HALF_BOTH } Half;
int half_parse(Half *half, const char *name, Err *e);
void sampler_half(const Sampler *s, Half half, int *first, int *count);
/* Refuses the unconditional half where there is none: nothing would be `what` ("steered"). */
int sampler_check_half(const Sampler *s, Half half, const char *what, Err *e);

#endif
