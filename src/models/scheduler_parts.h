/* SPDX-License-Identifier: MIT */
/* scheduler_parts.h -- what scheduler.c has read, for the methods that plan from it. */
#ifndef SRC_MODELS_SCHEDULER_PARTS_H
#define SRC_MODELS_SCHEDULER_PARTS_H

#include <jansson.h>
#include "src/models/scheduler.h"

typedef struct SchedulerConfig {
    char file[4200];
    json_t *json;
    int64_t T, steps_offset;
    double beta_start, beta_end;
    const char *schedule, *spacing, *prediction;    /* spacing "": the method's default */
    bool thresholding, set_alpha_to_one, zero_snr;
} SchedulerConfig;

/* Timesteps of "trailing" spacing, which all methods share. */
int trailing_timestep(const SchedulerConfig *c, int steps, int i);
/* Fills s->step of DPM-Solver++(2M). bar (T): alpha_cumprod. */
int scheduler_plan_dpm(Scheduler *s, const SchedulerConfig *c, bool karras, const float *bar, Err *e);

#endif
