/* SPDX-License-Identifier: MIT */
/* scheduler.h -- DDIM, eta 0, as diffusers' DDIMScheduler reads it from DIR/scheduler/scheduler_config.json (also of a
 * folder made for PNDM and others: DDIMScheduler.from_config). Betas linear, scaled_linear, squaredcos_cap_v2 or
 * trained_betas; leading, trailing and linspace spacing; steps_offset; set_alpha_to_one; epsilon and v_prediction;
 * rescale_betas_zero_snr. clip_sample must be false. */
#ifndef SRC_MODELS_SCHEDULER_H
#define SRC_MODELS_SCHEDULER_H

#include <stdbool.h>
#include "formats/err.h"

typedef struct SchedulerStep {
    int t;                                          /* timestep, 999..0 */
    float sqrt_a, sqrt_1m_a, sqrt_a_prev, sqrt_1m_a_prev;
} SchedulerStep;

typedef struct Scheduler {
    int steps;
    SchedulerStep *step;                            /* in the order they are taken */
    bool v_prediction;
} Scheduler;

int scheduler_load(Scheduler **s, const char *dir, int steps, Err *e);
void scheduler_free(Scheduler *s);

#endif
