/* SPDX-License-Identifier: MIT */
/* scheduler_betas.c -- how much of the picture is left at each timestep.
 *
 *   linear              beta_start .. beta_end
 *   scaled_linear       sqrt(beta_start) .. sqrt(beta_end), squared
 *   squaredcos_cap_v2   min(1 - f((s+1)/T) / f(s/T), 0.999), f(x) = cos((x + 0.008)/1.008 pi/2)^2
 *
 * All are rounded to f32 where torch rounds them, since sqrt(1 - a) of a near 1 shows each bit; the product runs in
 * f64. rescale_betas_zero_snr: Lin et al. 2023 (arXiv 2305.08891). */
#include <math.h>
#include <string.h>
#include "src/models/scheduler_parts.h"

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

static int trained_betas(const SchedulerConfig *c, const json_t *list, float *beta, Err *e)
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

static int fill_betas(const SchedulerConfig *c, float *beta, Err *e)
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

int scheduler_cumulate(float *bar, float *beta, const SchedulerConfig *c, Err *e)
{
    if (fill_betas(c, beta, e))
        return -1;
    for (int t = 0; t < c->T; t++)
        if (!(beta[t] >= 0 && beta[t] < 1))
            return err_set(e, "%s: the beta of timestep %d is %g, expected 0 to less than 1", c->file, t,
                           (double)beta[t]);
    if (c->zero_snr)
        rescale_zero_snr(beta, bar, (int)c->T);
    cumulate(bar, beta, (int)c->T);
    return 0;
}
