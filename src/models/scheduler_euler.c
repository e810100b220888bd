/* SPDX-License-Identifier: MIT */
/* scheduler_euler.c -- timesteps and coefficients of Euler's method, and of the ancestral one.
 *
 *   z = x / alpha, alpha = 1/sqrt(1 + sigma^2), is the picture and noise of deviation sigma. From sigma to sigma':
 *   z' = x0 + sigma_down eps + sigma_up noise
 *   euler      sigma_down = sigma', sigma_up = 0
 *   euler-a    sigma_up^2 = sigma'^2 (sigma^2 - sigma'^2)/sigma^2, sigma_down^2 = sigma'^2 - sigma_up^2
 *
 * In x this is DDIM's step, x' = alpha' x0 + alpha' sigma_down eps, with noise behind it: no other op is needed, and
 * what the UNet is given is x itself. Spaced linearly, timesteps are no whole numbers, and sigma is interpolated
 * between two; the UNet is told the number, its records and ranks the nearest whole one. Karras et al. 2022
 * (arXiv 2206.00364), algorithm 1 without churn; diffusers schedulers/scheduling_euler_discrete.py and
 * scheduling_euler_ancestral_discrete.py. */
#include <math.h>
#include <string.h>
#include "formats/json_file.h"
#include "src/models/scheduler_parts.h"

/* A config made for this scheduler may ask for another spacing than ours. */
static int check_config(const SchedulerConfig *c, Err *e)
{
    static const char *const other_sigmas[] = {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"};
    const char *interpolation, *type;
    if (json_get_text(c->file, c->json, "interpolation_type", "linear", &interpolation, e)
        || json_get_text(c->file, c->json, "timestep_type", "discrete", &type, e))
        return -1;
    if (strcmp(interpolation, "linear") != 0)
        return err_set(e, "%s: \"interpolation_type\" is \"%s\", expected linear", c->file, interpolation);
    if (strcmp(type, "discrete") != 0)
        return err_set(e, "%s: \"timestep_type\" is \"%s\", expected discrete", c->file, type);
    return scheduler_check_false(c, other_sigmas, sizeof other_sigmas / sizeof *other_sigmas, e);
}

static float sigma_at(const float *sigma, int T, float time)
{
    const int t = (int)time < T - 1 ? (int)time : T - 1;
    const double low = sigma[t], high = sigma[t + 1 < T ? t + 1 : t];
    return (float)((high - low) * ((double)time - t) + low);
}

static void fill_step(SchedulerStep *step, bool ancestral, double now, double next)
{
    const double alpha = 1 / sqrt(1 + now*now), alpha_next = 1 / sqrt(1 + next*next);
    const double up = ancestral ? sqrt(next*next * (now*now - next*next)) / now : 0;
    step->sqrt_a = (float)alpha;
    step->sqrt_1m_a = (float)(alpha * now);
    step->sqrt_a_prev = (float)alpha_next;
    step->sqrt_1m_a_prev = (float)(alpha_next * sqrt(next*next - up*up));
    step->noise = (float)(alpha_next * up);
}

int scheduler_plan_euler(Scheduler *s, const SchedulerConfig *c, const float *sigma, Err *e)
{
    const int T = (int)c->T, n = s->steps;
    const bool linspace = strcmp(c->spacing, "linspace") == 0;
    float last = 0;
    if (check_config(c, e) || scheduler_space(s, c, n, e)
        || (!c->ancestral && scheduler_last_sigma(&last, c, sigma[0], e)))
        return -1;
    for (int i = 0; i < n && linspace && n > 1; i++)
        s->step[i].time = i ? (float)((n - 1 - i) * ((T - 1) / (double)(n - 1))) : (float)(T - 1);
    for (int i = 0; i < n; i++)
        fill_step(&s->step[i], c->ancestral, sigma_at(sigma, T, s->step[i].time),
                  i < n - 1 ? sigma_at(sigma, T, s->step[i + 1].time) : last);
    if (strcmp(c->spacing, "leading") != 0)
        s->first = s->step[0].sqrt_1m_a;        /* sigma noise is taken for z, not sqrt(1 + sigma^2) noise */
    return 0;
}
