/* SPDX-License-Identifier: MIT */
/* scheduler_lcm.c -- timesteps and coefficients of sampling from a latent consistency model.
 *
 *   y = c_skip x + c_out x0      x' = alpha' y + sigma' noise      after the last step x' = y
 *   c_skip = 1/(s^2 + 1), c_out = s/sqrt(s^2 + 1), s = "timestep_scaling" t/0.5
 *
 * alpha' and sigma' are those of the next timestep. Of the "original_inference_steps" that the model was distilled for,
 * k t' - 1 with k = T/their number and t' = 1, 2, ..., as many are taken as were asked for, from the noisiest on,
 * however the config spaces timesteps. In x the step is dpm++2m's of first order, with noise behind it: no other op is
 * needed. Luo et al. 2023 (arXiv 2310.04378), algorithm 2 and equation 9; diffusers schedulers/scheduling_lcm.py. */
#include <math.h>
#include "formats/json_file.h"
#include "src/models/scheduler_parts.h"

static const double SIGMA_DATA = 0.5, MOST_SCALING = 1e6;

static int space(Scheduler *s, const SchedulerConfig *c, Err *e)
{
    int64_t original;
    if (json_get_int(c->file, c->json, "original_inference_steps", 50, &original, e))
        return -1;
    if (original < 1 || original > c->T)
        return err_set(e, "%s: \"original_inference_steps\" is %lld, expected 1 to %lld", c->file, (long long)original,
                       (long long)c->T);
    if (s->steps > original)
        return err_set(e, "%d steps: lcm takes at most %lld, the \"original_inference_steps\" of %s", s->steps,
                       (long long)original, c->file);
    const double apart = (double)original/s->steps;
    for (int i = 0; i < s->steps; i++) {
        s->step[i].t = (int)((original - (int64_t)(i*apart))*(c->T/original) - 1);
        s->step[i].time = (float)s->step[i].t;
    }
    return 0;
}

static void fill_step(SchedulerStep *step, double scaling, float a, float a_next)
{
    const double s = step->t*scaling/SIGMA_DATA, skip = 1/(s*s + 1), out = s/sqrt(s*s + 1);
    scheduler_set_step(step, a, a_next);
    step->keep = (float)(step->sqrt_a_prev*skip);
    step->data = (float)(step->sqrt_a_prev*out);
    step->noise = step->sqrt_1m_a_prev;
}

int scheduler_plan_lcm(Scheduler *s, const SchedulerConfig *c, const float *bar, Err *e)
{
    double scaling;
    s->kind = STEP_DPM;
    s->memory = 1;
    if (space(s, c, e) || json_get_number(c->file, c->json, "timestep_scaling", 10, &scaling, e))
        return -1;
    if (!(scaling >= 0 && scaling <= MOST_SCALING))
        return err_set(e, "%s: \"timestep_scaling\" is %g, expected 0 to %g", c->file, scaling, MOST_SCALING);
    for (int i = 0; i < s->steps; i++)
        fill_step(&s->step[i], scaling, bar[s->step[i].t], i < s->steps - 1 ? bar[s->step[i + 1].t] : 1);
    return scheduler_check_signal(s, c, bar, e);
}
