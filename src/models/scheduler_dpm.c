/* SPDX-License-Identifier: MIT */
/* scheduler_dpm.c -- timesteps and coefficients of DPM-Solver++(2M) with x0 prediction.
 *
 *   sigma = sqrt((1 - a)/a) at timestep t, a = alpha_cumprod; of x the picture has the share
 *   alpha = 1/sqrt(1 + sigma^2), the noise sigma alpha. From sigma_i to sigma_{i+1}, h_i = log(sigma_i / sigma_{i+1}),
 *   after the first step:
 *   x = alpha' sigma'/(alpha_i sigma_i) x - alpha' (e^-h - 1) [x0 + h_i/(2 h_{i-1}) (x0 - x0 of the step before)]
 *
 * The first step has no step before, and the last, to sigma = 0, is of first order too. Lu et al. 2022
 * (arXiv 2211.01095), algorithm 2; diffusers schedulers/scheduling_dpmsolver_multistep.py, whose defaults and roundings
 * these are. Karras et al. 2022 (arXiv 2206.00364), equation 5, with rho = 7. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "src/models/scheduler_parts.h"

enum { FEW_STEPS = 15 };            /* with fewer, diffusers ends with a step of first order (lower_order_final) */

typedef struct Dpm {
    int T, n;
    const float *sigma;             /* [T] of the model's timesteps */
    float *at;                      /* [n + 1] of the steps, and of the end */
    bool lower_last;
} Dpm;

/* A config made for this scheduler may ask for another solver than ours. */
static int check_solver(const SchedulerConfig *c, Err *e)
{
    static const char *const other_sigmas[] = {"use_lu_lambdas", "use_exponential_sigmas", "use_beta_sigmas",
                                               "use_flow_sigmas"};
    const char *algorithm, *solver;
    int64_t order;
    if (json_get_text(c->file, c->json, "algorithm_type", "dpmsolver++", &algorithm, e)
        || json_get_text(c->file, c->json, "solver_type", "midpoint", &solver, e)
        || json_get_int(c->file, c->json, "solver_order", 2, &order, e))
        return -1;
    if (strcmp(algorithm, "dpmsolver++") != 0 && strcmp(algorithm, "deis") != 0)
        return err_set(e, "%s: \"algorithm_type\" is \"%s\", expected dpmsolver++", c->file, algorithm);
    if (strcmp(solver, "heun") == 0)
        return err_set(e, "%s: \"solver_type\" is \"heun\", expected midpoint", c->file);
    if (json_is_number(json_object_get(c->json, "lambda_min_clipped")))         /* -Infinity is no number of JSON's */
        return err_set(e, "%s: \"lambda_min_clipped\" is %g, expected -Infinity", c->file,
                       json_number_value(json_object_get(c->json, "lambda_min_clipped")));
    if (order != 2)
        return err_set(e, "%s: \"solver_order\" is %lld, expected 2", c->file, (long long)order);
    return scheduler_check_karras(c, e) ? -1
         : scheduler_check_false(c, other_sigmas, sizeof other_sigmas / sizeof *other_sigmas, e);
}

/* Timesteps as the config spaces them: those of one step more, without that one. */
static int fill_spaced(Scheduler *s, const SchedulerConfig *c, const Dpm *d, Err *e)
{
    if (scheduler_space(s, c, d->n + 1, e))
        return -1;
    for (int i = 0; i < d->n; i++) {
        if (i && s->step[i].t >= s->step[i - 1].t)
            return err_set(e, "%s: with %d steps timestep %d comes twice; take fewer steps", c->file, d->n,
                           s->step[i].t);
        d->at[i] = d->sigma[s->step[i].t];
    }
    return 0;
}

/* The timestep of a noise level, between two of which its logarithm is interpolated. The levels' logarithms are f32. */
static double timestep_of(const Dpm *d, double sigma)
{
    const double x = log(fmax(sigma, 1e-10));
    int low = 0;
    while (low < d->T - 2 && x >= (float)log((double)d->sigma[low + 1]))
        low++;
    const float a = (float)log((double)d->sigma[low]), b = (float)log((double)d->sigma[low + 1]);
    const double w = fmin(fmax((a - x) / (double)(a - b), 0), 1);
    return (1 - w)*low + w*(low + 1);
}

/* DPMSolverMultistepScheduler cuts the timesteps of a cosine schedule, and rounds all others. */
static void fill_karras(Scheduler *s, const SchedulerConfig *c, const Dpm *d)
{
    const bool cut = c->method == METHOD_DPM && strcmp(c->schedule, "squaredcos_cap_v2") == 0;
    const double rho = 7, low = pow(d->sigma[0], 1/rho), high = pow(d->sigma[d->T - 1], 1/rho);
    for (int i = 0; i < d->n; i++) {
        const double ramp = d->n > 1 ? i / (double)(d->n - 1) : 0, sigma = pow(high + ramp * (low - high), rho);
        d->at[i] = (float)sigma;
        const double t = timestep_of(d, sigma);
        s->step[i].t = (int)(cut ? t : nearbyint(t));
        s->step[i].time = (float)s->step[i].t;
    }
}

static void fill_coefficients(Scheduler *s, const Dpm *d)
{
    for (int i = 0; i < d->n; i++) {
        SchedulerStep *step = &s->step[i];
        const double now = d->at[i], next = d->at[i + 1];
        const double alpha = 1 / sqrt(1 + now*now), alpha_next = 1 / sqrt(1 + next*next);
        const double shrunk = next/now - 1;                             /* e^-h - 1 */
        const bool first_order = i == 0 || (i == d->n - 1 && (d->lower_last || next == 0));
        step->sqrt_a = (float)alpha;
        step->sqrt_1m_a = (float)(alpha * now);
        step->keep = (float)(alpha_next * next / (alpha * now));
        step->data = (float)(-alpha_next * shrunk);
        step->change = first_order ? 0
                     : (float)(-0.5 * alpha_next * shrunk * log(now / next) / log((double)d->at[i - 1] / now));
    }
}

int scheduler_sigmas(Scheduler *s, const SchedulerConfig *c, const float *sigma, float *at, Err *e)
{
    const Dpm d = {.T = (int)c->T, .n = s->steps, .sigma = sigma, .at = at};
    if (scheduler_last_sigma(&at[d.n], c, sigma[0], e))
        return -1;
    if (!c->karras)
        return fill_spaced(s, c, &d, e);
    fill_karras(s, c, &d);
    return 0;
}

static int plan(Scheduler *s, const SchedulerConfig *c, Dpm *d, Err *e)
{
    bool lower_final, euler_final;
    if (scheduler_sigmas(s, c, d->sigma, d->at, e)
        || json_get_bool(c->file, c->json, "lower_order_final", true, &lower_final, e)
        || json_get_bool(c->file, c->json, "euler_at_final", false, &euler_final, e))
        return -1;
    d->lower_last = euler_final || (lower_final && d->n < FEW_STEPS);
    fill_coefficients(s, d);
    return 0;
}

int scheduler_plan_dpm(Scheduler *s, const SchedulerConfig *c, const float *sigma, Err *e)
{
    Dpm d = {.T = (int)c->T, .n = s->steps, .sigma = sigma};
    s->kind = STEP_DPM;
    s->memory = 1;
    if (check_solver(c, e))
        return -1;
    if (!(d.at = malloc(sizeof(float) * (d.n + 1))))
        return err_set(e, "out of memory");
    const int failed = plan(s, c, &d, e);
    free(d.at);
    return failed;
}
