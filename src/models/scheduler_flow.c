/* SPDX-License-Identifier: MIT */
/* scheduler_flow.c -- timesteps and steps of a model that matches flows: straight lines from noise to picture.
 *
 *   x = sigma noise + (1 - sigma) picture      v = noise - picture, which is predicted      x' = x + (sigma' - sigma) v
 *
 *   shifted(s) = k s/(1 + (k - 1) s), k = "shift"
 *   sigma = shifted(s) of n values s evenly from shifted(1) to shifted(1/T), and 0 behind them
 *
 * The shift is taken twice, for diffusers keeps the shifted ends to space by. The network is told T sigma, which is no
 * whole number; records and ranks have the nearest one, T at most. Sums are in f32 where torch's are and in f64 where
 * numpy's are, so that times are diffusers' to the bit. Lipman et al. 2023 (arXiv 2210.02747), Esser et al. 2024 (arXiv
 * 2403.03206); diffusers schedulers/scheduling_flow_match_euler_discrete.py. */
#include <math.h>
#include "formats/json_file.h"
#include "src/models/scheduler_parts.h"

static const double MOST_SHIFT = 1000;

/* A config may space otherwise, or add noise. */
static int check_config(const SchedulerConfig *c, Err *e)
{
    static const char *const other[] = {"use_dynamic_shifting", "invert_sigmas", "use_karras_sigmas",
                                        "use_exponential_sigmas", "use_beta_sigmas", "stochastic_sampling"};
    const json_t *terminal = json_object_get(c->json, "shift_terminal");
    if (terminal && !json_is_null(terminal))
        return err_set(e, "%s: \"shift_terminal\" is not null, expected null", c->file);
    return scheduler_check_false(c, other, sizeof other / sizeof *other, e);
}

/* Of timestep t, as torch has it in f32. */
static double end_of(double shift, int64_t t, int64_t T)
{
    const float s = (float)t/(float)T;
    return (double)((float)shift*s/(1 + (float)(shift - 1)*s));
}

int scheduler_plan_flow(Scheduler *s, const SchedulerConfig *c, Err *e)
{
    const int n = s->steps;
    const double T = (double)c->T;
    double shift;
    if (check_config(c, e) || json_get_number(c->file, c->json, "shift", 1, &shift, e))
        return -1;
    if (!(shift > 0 && shift <= MOST_SHIFT))
        return err_set(e, "%s: \"shift\" is %g, expected more than 0, and %g at most", c->file, shift, MOST_SHIFT);
    s->kind = STEP_FLOW;
    s->memory = 1;
    const double from = end_of(shift, c->T, c->T)*T, to = end_of(shift, 1, c->T)*T;
    const double apart = n > 1 ? (to - from)/(n - 1) : 0;
    for (int i = 0; i < n; i++) {
        const double even = (i > 0 && i == n - 1 ? to : i*apart + from)/T;
        SchedulerStep *step = &s->step[i];
        const float sigma = (float)(shift*even/(1 + (shift - 1)*even));
        step->time = sigma*(float)T;
        step->t = (int)nearbyintf(step->time);
        step->sqrt_a = 1 - sigma;
        step->sqrt_1m_a = sigma;
    }
    for (int i = 0; i < n; i++)
        s->step[i].data = (i < n - 1 ? s->step[i + 1].sqrt_1m_a : 0) - s->step[i].sqrt_1m_a;
    return 0;
}
