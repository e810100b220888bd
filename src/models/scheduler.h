/* SPDX-License-Identifier: MIT */
/* scheduler.h -- timesteps and coefficients of a run, from DIR/scheduler/scheduler_config.json, whichever of diffusers'
 * schedulers that folder was made for: as from_config makes one of these of it.
 *
 *   ddim             DDIMScheduler, eta 0
 *   pndm             PNDMScheduler, which Stable Diffusion 1.x comes with: one evaluation more than the steps asked
 *                    for, with Runge-Kutta steps nine more; see scheduler_pndm.c
 *   dpm++2m          DPMSolverMultistepScheduler as it is: second order, midpoint, x0 prediction; good pictures in half
 *                    of DDIM's steps
 *   dpm++2m-karras   the same with use_karras_sigmas: steps closer where there is little noise
 *   unipc            UniPCMultistepScheduler as it is: second order, and a corrector that costs no evaluation; see
 *                    scheduler_unipc.c
 *   unipc-karras     the same with use_karras_sigmas
 *   euler            EulerDiscreteScheduler as it is
 *   euler-a          EulerAncestralDiscreteScheduler: each step adds noise anew; distilled models take few of these
 *   lcm              LCMScheduler: each step says what the picture is and adds noise anew, but for the last; latent
 *                    consistency models, and what LCM-LoRA makes of others, take 1 to 8 of these
 *   auto             ddim
 *
 * A model that matches flows, whose config is FlowMatchEulerDiscreteScheduler's (Stable Diffusion 3), is drawn by that
 * one, which is its auto and its euler; see scheduler_flow.c.
 *
 * Betas linear, scaled_linear, squaredcos_cap_v2 or trained_betas; leading, trailing and linspace spacing;
 * set_alpha_to_one; epsilon, v_prediction and sample; rescale_betas_zero_snr. What the pipeline that model_index.json
 * names makes of steps_offset and clip_sample: see scheduler.c. */
#ifndef SRC_MODELS_SCHEDULER_H
#define SRC_MODELS_SCHEDULER_H

#include "kernels/op.h"
#include "src/models/t_range.h"

/* pndm: where a step starts: at x; at x, which later ones start at too; at that x */
typedef enum { FROM_X, FROM_MARKED_X, FROM_THE_MARK } Origin;

typedef struct Mix {                                /* pndm: what stands for the output, as op->multistep has it */
    float weight[4], share;                         /* unipc: what x becomes; share 0: nothing is done */
    int before[3], store;                           /* places in memory; store -1: nowhere */
} Mix;

typedef struct SchedulerStep {
    int t;                                          /* timestep, 1000..0: its name, in streams and ranks; may repeat */
    float time;                                     /* what the network is told: t, or what was rounded to t (euler) */
    float sqrt_a, sqrt_1m_a;                        /* shares of picture and noise in x: alpha and sigma */
    float sqrt_a_prev, sqrt_1m_a_prev;              /* all but dpm++2m: of what comes next */
    float noise;                                    /* euler-a, lcm: share of new noise in what comes next */
    float keep, data, change;                       /* dpm++2m, lcm: x = keep x + data x0 + change (x0 - x0 before);
                                                     * flows: x = x + data v */
    Origin origin;
    Mix mix, corrected;                             /* corrected: unipc's, of what x was before this step */
} SchedulerStep;

typedef enum { STEP_DDIM, STEP_DPM, STEP_PNDM, STEP_UNIPC, STEP_FLOW } StepKind;

typedef struct Scheduler {
    const char *method;                             /* the one of the names above that is taken, never auto */
    int steps;                                      /* evaluations of the network */
    SchedulerStep *step;                            /* in the order they are taken */
    Prediction prediction;
    StepKind kind;                                  /* what scheduler_step does */
    float first;                                    /* x before the first step is this times the noise of the seed */
    int memory;                                     /* what steps leave for later ones, in latents */
} Scheduler;

/* method: one of the names above. strength: 0, or of a run that begins with a picture what share of the steps is taken,
 * the last ones: rounded down, as diffusers' pipelines do, and of flows up, as StableDiffusion3Img2ImgPipeline does.
 * pndm's first evaluations are then taken at the next timestep's, where diffusers goes on as if they had been.
 * Fails for a config that diffusers would draw by otherwise, and where no step is left. */
int scheduler_load(Scheduler **s, const char *dir, const char *method, int steps, double strength, Err *e);
void scheduler_free(Scheduler *s);
/* The first step whose timestep lies in the range; s->steps: none. */
int scheduler_first(const Scheduler *s, TRange when);
/* Step i of n values of latents x, in place, from the network's output for them (uncond NULL: without guidance);
 * all device memory. memory (s->memory, n): zeros before the first step, then as the step before has left it. */
void scheduler_step(const Scheduler *s, int i, float *x, float *memory, const float *uncond, const float *cond,
                    float guidance, int64_t n);
/* noise = the picture x with the noise that it has before step i: diffusers' add_noise. n values, host memory. */
void scheduler_add_noise(const Scheduler *s, int i, float *noise, const float *x, size_t n);
/* ddim: x = the mean of what comes after step i where all is noised anew at each step (eta = 1; DDPM), the noise left
 * out: arXiv 2010.02502, eq. 12 and 16. Arguments as scheduler_step's. */
void scheduler_mean(const Scheduler *s, int i, float *x, const float *uncond, const float *cond, float guidance,
                    int64_t n);

#endif
