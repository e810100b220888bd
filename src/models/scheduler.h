/* SPDX-License-Identifier: MIT */
/* scheduler.h -- timesteps and coefficients of a run, from DIR/scheduler/scheduler_config.json, whichever of diffusers'
 * schedulers that folder was made for: as from_config makes one of these of it.
 *
 *   ddim             DDIMScheduler, eta 0. clip_sample must be false
 *   dpm++2m          DPMSolverMultistepScheduler as it is: second order, midpoint, x0 prediction; good pictures in half
 *                    of DDIM's steps
 *   dpm++2m-karras   the same with use_karras_sigmas: steps closer where there is little noise
 *
 * Betas linear, scaled_linear, squaredcos_cap_v2 or trained_betas; leading, trailing and linspace spacing;
 * steps_offset; set_alpha_to_one; epsilon and v_prediction; rescale_betas_zero_snr. */
#ifndef SRC_MODELS_SCHEDULER_H
#define SRC_MODELS_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>
#include "formats/err.h"

typedef struct SchedulerStep {
    int t;                                          /* timestep, 999..0 */
    float sqrt_a, sqrt_1m_a;                        /* shares of picture and noise in x: alpha and sigma */
    float sqrt_a_prev, sqrt_1m_a_prev;              /* ddim: of what comes next */
    float keep, data, change;                       /* dpm++2m: x = keep x + data x0 + change (x0 - x0 before) */
} SchedulerStep;

typedef struct Scheduler {
    int steps;
    SchedulerStep *step;                            /* in the order they are taken */
    bool v_prediction;
    bool dpm;                                       /* not ddim */
} Scheduler;

/* method: one of the names above. Fails for a config that diffusers would draw by otherwise. */
int scheduler_load(Scheduler **s, const char *dir, const char *method, int steps, Err *e);
void scheduler_free(Scheduler *s);
/* Step i of n values of latents x, in place, from the UNet's output for them (uncond NULL: without guidance);
 * all device memory. x0 (n): what the step before has left there; NULL with ddim. */
void scheduler_step(const Scheduler *s, int i, float *x, float *x0, const float *uncond, const float *cond,
                    float guidance, int64_t n);

#endif
