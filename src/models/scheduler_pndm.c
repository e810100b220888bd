/* SPDX-License-Identifier: MIT */
/* scheduler_pndm.c -- timesteps and coefficients of PNDM: a linear multistep method in which DDIM's step is the
 * straight line, with or without steps of Runge and Kutta before it.
 *
 * t_0 > t_1 > ... the n timesteps as they are spaced, out the guided output of the UNet, out', out'', ... those of the
 * evaluations before that count, h = T/n. A step from t to t' is DDIM's with e for the output:
 *
 *   "skip_prk_steps" true (PLMS)                                                      n + 1 evaluations, 1 where n is 1
 *     t_0   e = out                            t_0 -> t_0 - h
 *     t_1   e = (out + out')/2                 t_1 + h -> t_1, from the x of t_0; this out does not count later
 *     t_1   e = (3 out - out')/2               t_1 -> t_1 - h
 *     t_2   e = (23 out - 16 out' + 5 out'')/12
 *     then  e = (55 out - 59 out' + 37 out'' - 9 out''')/24, t -> t - h
 *
 *   "skip_prk_steps" false, n >= 4                                                    n + 9 evaluations
 *     t_i           e = a = out                t_i -> t_i - h/2           i = 0, 1, 2; the a count later
 *     t_i+1 + h/2   e = b = out                t_i -> t_i+1 + h/2         from the x of t_i, as the next two
 *     t_i+1 + h/2   e = c = out                t_i -> t_i+1
 *     t_i+1         e = (a + 2b + 2c + out)/6  t_i -> t_i+1
 *     then from t_3 on as above
 *
 * h and h/2 are whole numbers, cut. What is below timestep 0 is set_alpha_to_one's. PNDMScheduler has no rescaling to
 * zero terminal SNR, and neither clips nor thresholds. Liu et al. 2022 (arXiv 2202.09778), whose formula 9 is DDIM's
 * step; diffusers schedulers/scheduling_pndm.py. */
#include <stdlib.h>
#include "formats/json_file.h"
#include "src/models/scheduler_parts.h"

enum { KEPT = 3,                                /* outputs before that a step goes by */
       PLACE_B = PLACE_OUTPUT + KEPT, PLACE_C, RK_STEPS = 3 };

typedef struct Pndm {
    Scheduler *s;
    const float *bar;
    float end;                                  /* alpha_cumprod below timestep 0 */
    const int *t;                               /* [n] as they are spaced */
    int n, h;
    int counted;                                /* outputs so far that count */
} Pndm;

static int place(int output)
{
    return PLACE_OUTPUT + output%KEPT;
}

/* The next step, whose evaluation is at timestep t; e = out, which is not kept. */
static SchedulerStep *add(Pndm *p, int t, int from, int to, Origin origin)
{
    SchedulerStep *step = &p->s->step[p->s->steps++];
    *step = (SchedulerStep){.t = t, .time = (float)t, .origin = origin,
                            .mix = {.weight = {1}, .share = 1, .before = {PLACE_MIX}, .store = -1}};
    scheduler_set_step(step, p->bar[from], to < 0 ? p->end : p->bar[to]);
    return step;
}

static void count_output(Pndm *p, SchedulerStep *step)
{
    step->mix.store = place(p->counted++);
}

/* Adams and Bashforth's step at t, of as many outputs as there are. */
static void add_multistep(Pndm *p, int t, Origin origin)
{
    static const struct { float weight[KEPT + 1]; double of; } order[] = {
        {{1}, 1}, {{3, -1}, 2}, {{23, -16, 5}, 12}, {{55, -59, 37, -9}, 24}};
    const int before = p->counted < KEPT ? p->counted : KEPT;
    SchedulerStep *step = add(p, t, t, t - p->h, origin);
    for (int j = 0; j <= before; j++)
        step->mix.weight[j] = order[before].weight[j];
    for (int j = 0; j < before; j++)
        step->mix.before[j] = place(p->counted - 1 - j);
    step->mix.share = (float)(1/order[before].of);
    count_output(p, step);
}

static void add_corrector(Pndm *p, int t)
{
    Mix *mix = &add(p, t, t + p->h, t, FROM_THE_MARK)->mix;
    mix->weight[1] = 1;
    mix->share = 0.5f;
    mix->before[0] = place(0);
}

static void add_runge_kutta(Pndm *p, int t, int next)
{
    const int half = p->h/2;
    count_output(p, add(p, t, t, t - half, FROM_MARKED_X));
    add(p, next + half, t, next + half, FROM_THE_MARK)->mix.store = PLACE_B;
    add(p, next + half, t, next, FROM_THE_MARK)->mix.store = PLACE_C;
    add(p, next, t, next, FROM_THE_MARK)->mix = (Mix){.weight = {1, 2, 2, 1}, .share = (float)(1/6.0),
                                                      .before = {PLACE_C, PLACE_B, place(p->counted - 1)}, .store = -1};
}

static void plan_multistep(Pndm *p)
{
    add_multistep(p, p->t[0], FROM_MARKED_X);
    if (p->n > 1)
        add_corrector(p, p->t[1]);
    for (int i = 1; i < p->n; i++)
        add_multistep(p, p->t[i], FROM_X);
    p->s->memory = PLACE_OUTPUT + KEPT;
}

static void plan_runge_kutta(Pndm *p)
{
    for (int i = 0; i < RK_STEPS; i++)
        add_runge_kutta(p, p->t[i], p->t[i + 1]);
    for (int i = RK_STEPS; i < p->n; i++)
        add_multistep(p, p->t[i], FROM_X);
    p->s->memory = PLACE_C + 1;
}

static int check_config(const Scheduler *s, const SchedulerConfig *c, bool *skip, Err *e)
{
    if (json_get_bool(c->file, c->json, "skip_prk_steps", false, skip, e))
        return -1;
    if (c->prediction == PREDICT_SAMPLE)
        return err_set(e, "%s: \"prediction_type\" is \"sample\", for pndm expected epsilon or v_prediction", c->file);
    if (!*skip && s->steps - c->begin <= RK_STEPS)
        return err_set(e, "%s: \"skip_prk_steps\" is not true, so that pndm begins with Runge-Kutta steps over 4 "
                       "timesteps: %d of %d steps, expected 4 or more", c->file, s->steps - c->begin, s->steps);
    return 0;
}

int scheduler_plan_pndm(Scheduler *s, const SchedulerConfig *c, const float *bar, Err *e)
{
    const int n = s->steps;
    bool skip;
    if (check_config(s, c, &skip, e) || scheduler_space(s, c, n, e))
        return -1;
    int *t = malloc(sizeof *t*(size_t)n);
    if (!t)
        return err_set(e, "out of memory");
    for (int i = 0; i < n; i++)
        t[i] = s->step[i].t;
    Pndm p = {.s = s, .bar = bar, .end = c->set_alpha_to_one ? 1 : bar[0], .t = t + c->begin, .n = n - c->begin,
              .h = (int)c->T/n};
    s->kind = STEP_PNDM;
    s->steps = 0;
    if (skip)
        plan_multistep(&p);
    else
        plan_runge_kutta(&p);
    free(t);
    return 0;
}
