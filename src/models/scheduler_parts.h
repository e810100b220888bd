/* SPDX-License-Identifier: MIT */
/* scheduler_parts.h -- what scheduler.c has read, for the methods that plan from it. */
#ifndef SRC_MODELS_SCHEDULER_PARTS_H
#define SRC_MODELS_SCHEDULER_PARTS_H

#include <jansson.h>
#include "src/models/pipeline.h"
#include "src/models/scheduler.h"

typedef enum { METHOD_DDIM, METHOD_DPM, METHOD_EULER, METHOD_PNDM, METHOD_LCM, METHOD_UNIPC, METHOD_FLOW } Method;

typedef struct SchedulerConfig {
    char file[4200];
    json_t *json;
    Pipeline pipeline;
    const char *class;                      /* of diffusers' schedulers, whose config it is; "" where it does not say */
    int64_t T;
    double beta_start, beta_end;
    const char *schedule, *spacing;
    Prediction prediction;
    bool set_alpha_to_one, zero_snr;
    int steps_offset, begin;
    Method method;
    const char *name, *own;                 /* the method's, and its class */
    bool karras, ancestral;
} SchedulerConfig;

/* Evaluations that a method may take beyond the steps asked for, at most: s->step has room for them. */
enum { SCHEDULER_MORE = 9 };

/* Places in a scheduler's memory: what a step of pndm goes by, the marked x, and from there on outputs. */
enum { PLACE_MIX, PLACE_MARK, PLACE_OUTPUT };
/* Of unipc's: c, and from there on m. */
enum { PLACE_LAST, PLACE_FIRST_X0 };

/* bar (T): alpha_cumprod. beta: scratch (T). */
int scheduler_cumulate(float *bar, float *beta, const SchedulerConfig *c, Err *e);
/* Timesteps of s->step as they are spaced: leading and linspace, of `points` points of which the first s->steps are
 * taken. */
int scheduler_space(Scheduler *s, const SchedulerConfig *c, int points, Err *e);
/* "final_sigmas_type": the sigma behind the last step, 0 or that of timestep 0. */
int scheduler_last_sigma(float *sigma, const SchedulerConfig *c, float lowest, Err *e);
/* Refuses a config of Karras' levels where the sampler is not the one of its method that goes by them. */
int scheduler_check_karras(const SchedulerConfig *c, Err *e);
/* Refuses a config in which one of n keys is true. */
int scheduler_check_false(const SchedulerConfig *c, const char *const *key, int n, Err *e);
/* Refuses a first step that epsilon prediction would divide by 0 at: rescaled to zero terminal SNR. */
int scheduler_check_signal(const Scheduler *s, const SchedulerConfig *c, const float *bar, Err *e);
/* A step from a share of a = alpha_cumprod to one of a_prev. */
void scheduler_set_step(SchedulerStep *step, float a, float a_prev);
/* Fills s->step, s->steps and s->memory. bar as above. */
int scheduler_plan_pndm(Scheduler *s, const SchedulerConfig *c, const float *bar, Err *e);
int scheduler_plan_lcm(Scheduler *s, const SchedulerConfig *c, const float *bar, Err *e);
/* Fills s->step. */
int scheduler_plan_flow(Scheduler *s, const SchedulerConfig *c, Err *e);
/* Timesteps of s->step, and at (s->steps + 1): their sigmas and that of the end, as dpm++ and unipc have them, by
 * Karras or as the config spaces them. sigma as below. */
int scheduler_sigmas(Scheduler *s, const SchedulerConfig *c, const float *sigma, float *at, Err *e);
/* Fill s->step, and s->first where it is not 1. sigma (T): sqrt((1 - a)/a) of a = alpha_cumprod. */
int scheduler_plan_dpm(Scheduler *s, const SchedulerConfig *c, const float *sigma, Err *e);
int scheduler_plan_euler(Scheduler *s, const SchedulerConfig *c, const float *sigma, Err *e);
int scheduler_plan_unipc(Scheduler *s, const SchedulerConfig *c, const float *sigma, Err *e);

#endif
