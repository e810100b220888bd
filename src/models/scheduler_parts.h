/* SPDX-License-Identifier: MIT */
/* scheduler_parts.h -- what scheduler.c has read, for the methods that plan from it. */
#ifndef SRC_MODELS_SCHEDULER_PARTS_H
#define SRC_MODELS_SCHEDULER_PARTS_H

#include <jansson.h>
#include "src/models/scheduler.h"

typedef struct SchedulerConfig {
    char file[4200];
    json_t *json;
    int64_t T;
    double beta_start, beta_end;
    const char *schedule, *spacing;
    Prediction prediction;
    bool set_alpha_to_one, zero_snr;
    int steps_offset;
    bool dpm, karras;                               /* the method */
} SchedulerConfig;

/* Timesteps of s->step as they are spaced: leading and linspace, of `points` points of which the first s->steps are
 * taken. */
int scheduler_space(Scheduler *s, const SchedulerConfig *c, int points, Err *e);
/* Fills s->step of DPM-Solver++(2M). bar (T): alpha_cumprod. */
int scheduler_plan_dpm(Scheduler *s, const SchedulerConfig *c, const float *bar, Err *e);

#endif
