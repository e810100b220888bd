/* SPDX-License-Identifier: MIT */
/* scheduler.c -- the timesteps of a run and their coefficients, as diffusers' DDIMScheduler computes them.
 *
 *   alpha_cumprod(t) = prod_{s <= t} (1 - beta_s), t in [0, T)
 *   a = alpha_cumprod(t)      a_prev = alpha_cumprod(t - T/steps)
 *
 * Before the first timestep a_prev is 1 (set_alpha_to_one) or alpha_cumprod(0). Betas:
 *   linear         beta_start .. beta_end
 *   scaled_linear  sqrt(beta_start) .. sqrt(beta_end), squared
 *   squaredcos_cap_v2   min(1 - f((s+1)/T) / f(s/T), 0.999), f(x) = cos((x + 0.008)/1.008 pi/2)^2
 * All are rounded to f32 where torch rounds them, since sqrt(1 - a) of a near 1 shows each bit; the product runs in
 * f64. Roots are correctly rounded, torch's may be an ulp off. diffusers schedulers/scheduling_ddim.py;
 * rescale_betas_zero_snr: Lin et al. 2023 (arXiv 2305.08891). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "src/models/scheduler.h"

enum { MAX_T = 100000 };

typedef struct Config {
    char file[4200];
    json_t *json;
    int64_t T, steps_offset;
    double beta_start, beta_end;
    const char *schedule, *spacing, *prediction;
    bool clip_sample, thresholding, set_alpha_to_one, zero_snr;
} Config;

static int config_load(Config *c, const char *dir, Err *e)
{
    snprintf(c->file, sizeof c->file, "%.4096s/scheduler/scheduler_config.json", dir);
    const char *file = c->file;
    const json_t *json = c->json = json_file_load(file, e);
    if (!json || json_get_int(file, json, "num_train_timesteps", 1000, &c->T, e)
        || json_get_int(file, json, "steps_offset", 0, &c->steps_offset, e)
        || json_get_number(file, json, "beta_start", 0.0001, &c->beta_start, e)
        || json_get_number(file, json, "beta_end", 0.02, &c->beta_end, e)
        || json_get_text(file, json, "beta_schedule", "linear", &c->schedule, e)
        || json_get_text(file, json, "timestep_spacing", "leading", &c->spacing, e)
        || json_get_text(file, json, "prediction_type", "epsilon", &c->prediction, e)
        || json_get_bool(file, json, "clip_sample", true, &c->clip_sample, e)
        || json_get_bool(file, json, "thresholding", false, &c->thresholding, e)
        || json_get_bool(file, json, "set_alpha_to_one", true, &c->set_alpha_to_one, e)
        || json_get_bool(file, json, "rescale_betas_zero_snr", false, &c->zero_snr, e))
        return -1;
    if (c->T < 1 || c->T > MAX_T)
        return err_set(e, "%s: \"num_train_timesteps\" is %lld, expected 1 to %d", file, (long long)c->T, MAX_T);
    if (c->steps_offset < 0 || c->steps_offset >= c->T)
        return err_set(e, "%s: \"steps_offset\" is %lld, expected 0 to %lld", file, (long long)c->steps_offset,
                       (long long)c->T - 1);
    if (c->clip_sample || c->thresholding)
        return err_set(e, "%s: \"%s\" is %s; a latent is not clipped here, expected false", file,
                       c->clip_sample ? "clip_sample" : "thresholding",
                       json_object_get(json, "clip_sample") || c->thresholding ? "true" : "missing, which means true");
    if (strcmp(c->prediction, "epsilon") != 0 && strcmp(c->prediction, "v_prediction") != 0)
        return err_set(e, "%s: \"prediction_type\" is \"%s\", expected epsilon or v_prediction", file, c->prediction);
    return 0;
}

/* n values from start to end as torch.linspace rounds them: from both ends to the middle, multiply and add in one. */
static void linspace(float *y, int n, double start, double end)
{
    const float a = (float)start, b = (float)end, step = n > 1 ? (b - a) / (float)(n - 1) : 0;
    for (int i = 0; i < n; i++)
        y[i] = i < n / 2 ? fmaf(step, (float)i, a) : fmaf(-step, (float)(n - 1 - i), b);
}

static double cosine_bar(double x)
{
    const double c = cos((x + 0.008) / 1.008 * M_PI / 2);
    return c * c;
}

static int trained_betas(const Config *c, const json_t *list, float *beta, Err *e)
{
    if (!json_is_array(list) || json_array_size(list) != (size_t)c->T)
        return err_set(e, "%s: \"trained_betas\" is not a list of num_train_timesteps (%lld) numbers", c->file,
                       (long long)c->T);
    for (int t = 0; t < c->T; t++) {
        if (!json_is_number(json_array_get(list, t)))
            return err_set(e, "%s: \"trained_betas\"[%d] is not a number", c->file, t);
        beta[t] = (float)json_number_value(json_array_get(list, t));
    }
    return 0;
}

static int fill_betas(const Config *c, float *beta, Err *e)
{
    const int T = (int)c->T;
    const json_t *list = json_object_get(c->json, "trained_betas");
    if (list && !json_is_null(list))
        return trained_betas(c, list, beta, e);
    if (strcmp(c->schedule, "linear") == 0) {
        linspace(beta, T, c->beta_start, c->beta_end);
    } else if (strcmp(c->schedule, "scaled_linear") == 0) {
        linspace(beta, T, sqrt(c->beta_start), sqrt(c->beta_end));
        for (int t = 0; t < T; t++)
            beta[t] *= beta[t];
    } else if (strcmp(c->schedule, "squaredcos_cap_v2") == 0) {
        for (int t = 0; t < T; t++)
            beta[t] = (float)fmin(1 - cosine_bar((t + 1) / (double)T) / cosine_bar(t / (double)T), 0.999);
    } else {
        return err_set(e, "%s: \"beta_schedule\" is \"%s\", expected linear, scaled_linear or squaredcos_cap_v2",
                       c->file, c->schedule);
    }
    return 0;
}

static void cumulate(float *bar, const float *beta, int T)
{
    double product = 1;
    for (int t = 0; t < T; t++) {
        product *= (double)(1.0f - beta[t]);
        bar[t] = (float)product;
    }
}

/* Shifts and scales sqrt(alpha_cumprod) so that it ends in 0, and returns to betas, as the paper's algorithm 1. bar:
 * scratch (T). */
static void rescale_zero_snr(float *beta, float *bar, int T)
{
    cumulate(bar, beta, T);
    const float first = sqrtf(bar[0]), last = sqrtf(bar[T-1]), scale = first / (first - last);
    for (int t = 0; t < T; t++) {
        const float root = (sqrtf(bar[t]) - last) * scale;
        bar[t] = root * root;
    }
    for (int t = 0; t < T; t++)
        beta[t] = 1.0f - (t ? bar[t] / bar[t-1] : bar[t]);
}

static int fill_timesteps(Scheduler *s, const Config *c, Err *e)
{
    const int T = (int)c->T, n = s->steps;
    const double down = (T - T / (double)n) - T;        /* rounded as numpy.arange rounds its step: it decides ties */
    for (int i = 0; i < n; i++) {
        SchedulerStep *step = &s->step[i];
        if (strcmp(c->spacing, "leading") == 0)
            step->t = (n - 1 - i) * (T / n) + (int)c->steps_offset;
        else if (strcmp(c->spacing, "trailing") == 0)
            step->t = (int)nearbyint(T + i * down) - 1;
        else if (strcmp(c->spacing, "linspace") == 0)
            step->t = (int)nearbyint(n > 1 ? (n - 1 - i) * ((T - 1) / (double)(n - 1)) : 0);
        else
            return err_set(e, "%s: \"timestep_spacing\" is \"%s\", expected leading, trailing or linspace", c->file,
                           c->spacing);
        if (step->t < 0 || step->t >= T)
            return err_set(e, "%s: with %d steps a timestep is %d, outside 0 to %d; take fewer steps", c->file, n,
                           step->t, T - 1);
    }
    return 0;
}

static void fill_coefficients(Scheduler *s, const Config *c, const float *bar)
{
    const float before = c->set_alpha_to_one ? 1.0f : bar[0];
    for (int i = 0; i < s->steps; i++) {
        SchedulerStep *step = &s->step[i];
        const int t_prev = step->t - (int)(c->T / s->steps);
        const float a = bar[step->t], a_prev = t_prev >= 0 ? bar[t_prev] : before;
        step->sqrt_a = sqrtf(a);
        step->sqrt_1m_a = sqrtf(1.0f - a);
        step->sqrt_a_prev = sqrtf(a_prev);
        step->sqrt_1m_a_prev = sqrtf(1.0f - a_prev);
    }
}

static int plan(Scheduler *s, const Config *c, float *beta, float *bar, Err *e)
{
    if (s->steps < 1 || s->steps > c->T)
        return err_set(e, "%d steps: expected 1 to %lld, the timesteps of %s", s->steps, (long long)c->T, c->file);
    if (fill_betas(c, beta, e) || fill_timesteps(s, c, e))
        return -1;
    if (c->zero_snr)
        rescale_zero_snr(beta, bar, (int)c->T);
    cumulate(bar, beta, (int)c->T);
    if (c->zero_snr && strcmp(c->prediction, "epsilon") == 0 && bar[s->step[0].t] == 0)
        return err_set(e,
                       "%s: \"rescale_betas_zero_snr\" leaves no signal at t = %d, which epsilon prediction divides by",
                       c->file, s->step[0].t);
    fill_coefficients(s, c, bar);
    s->v_prediction = strcmp(c->prediction, "v_prediction") == 0;
    return 0;
}

int scheduler_load(Scheduler **out, const char *dir, int steps, Err *e)
{
    *out = NULL;
    Config c = {0};
    if (config_load(&c, dir, e)) {
        json_decref(c.json);
        return -1;
    }
    Scheduler *s = calloc(1, sizeof *s);
    float *betas = calloc((size_t)c.T * 2, sizeof *betas);          /* and the cumulative products behind them */
    if (s && steps > 0)
        s->step = calloc(steps, sizeof *s->step);
    int failed;
    if (!s || !betas || (steps > 0 && !s->step)) {
        failed = err_set(e, "out of memory");
    } else {
        s->steps = steps;
        failed = plan(s, &c, betas, betas + c.T, e);
    }
    free(betas);
    json_decref(c.json);
    if (failed)
        scheduler_free(s);
    else
        *out = s;
    return failed;
}

void scheduler_free(Scheduler *s)
{
    if (s)
        free(s->step);
    free(s);
}
