/* SPDX-License-Identifier: MIT */
/* scheduler.h -- DDIM, eta 0, as diffusers' DDIMScheduler reads it from DIR/scheduler/scheduler_config.json (also of a
 * folder made for PNDM and others: DDIMScheduler.from_config). Betas linear, scaled_linear, squaredcos_cap_v2 or
 * trained_betas; leading, trailing and linspace spacing; set_alpha_to_one; rescale_betas_zero_snr; epsilon,
 * v_prediction and sample. What StableDiffusionPipeline makes of steps_offset and clip_sample: see scheduler.c. */
#ifndef SRC_MODELS_SCHEDULER_H
#define SRC_MODELS_SCHEDULER_H

#include "kernels/op.h"

typedef struct SchedulerStep {
    int t;                                          /* timestep, 999..0 */
    float sqrt_a, sqrt_1m_a, sqrt_a_prev, sqrt_1m_a_prev;
} SchedulerStep;

typedef struct Scheduler {
    int steps;
    SchedulerStep *step;                            /* in the order they are taken */
    Prediction prediction;
} Scheduler;

int scheduler_load(Scheduler **s, const char *dir, int steps, Err *e);
void scheduler_free(Scheduler *s);

#endif
