/* SPDX-License-Identifier: MIT */
/* sae_metrics.c -- the figures of two tokens worked by hand; dead shares at 1e4 tokens; the density histogram. */
#include "src/models/sae_metrics.h"
#include "tests/unit/test.h"

enum { D = 2, F = 4, K = 2, MANY = 10000 };

static int test_number(const char *name, double got, double want)
{
    return test_close(name, (float[]){(float)got}, (float[]){(float)want}, 1, 1e-6f, 0);
}

/* x = (3, 4), (1, 0). */
static int figures_of(Figures *f, const float y[2*D], Err *e)
{
    const float x[] = {3, 4, 1, 0}, a[] = {2, 1, 5, 0};
    const int32_t i[] = {0, 2, 0, 3};
    Metrics m;
    const int failed = metrics_create(&m, D, F, K, e) || metrics_add(&m, "t", x, y, a, i, 2, e)
                    || group_figures(&m, &m.group[1], f, e);
    metrics_free(&m);
    return failed;
}

/* x' = (3, 3), (1, 1), so e = (0, 1), (0, -1). */
static int test_by_hand(void)
{
    Figures f;
    Err e = {0};
    if (figures_of(&f, (float[]){3, 3, 1, 1}, &e))
        return test_ok(e.text, 0);
    int failed = 0;
    failed += test_number("fvu: 2 / (1 + 4 + 1 + 4)", f.fvu, 0.2);
    failed += test_number("ev: 1 - 2/10, the mean of e is 0", f.ev, 0.8);
    failed += test_number("mse: 2 / 4", f.mse, 0.5);
    failed += test_number("cosine: mean of 21/(5 sqrt 18) and 1/sqrt 2", f.cosine,
                          (21/(5*sqrt(18)) + 1/sqrt(2))/2);
    failed += test_number("norm_ratio: mean of sqrt 18 / 5 and sqrt 2", f.norm_ratio, (sqrt(18)/5 + sqrt(2))/2);
    failed += test_number("l0: 3 kept above 0 in 2 tokens", f.l0, 1.5);
    failed += test_number("dead: features 1 and 3, which was kept at 0", f.dead, 0.5);
    failed += test_number("density_max: feature 0 in both", f.density_max, 1);
    failed += test_number("density_median: of 1 and 1/2", f.density_median, 0.75);
    failed += test_ok("density 1 is in the last bin, 1/2 too", f.density[DENSITY_BINS - 1] == 2);
    failed += test_ok("no dead share at 1e4 tokens from 2", isnan(f.dead_at[0]) && isnan(f.dead_at[2]));
    return failed;
}

/* x' = (3, 3), (1, 0): e = (0, 1), (0, 0) has the mean (0, 1/2). */
static int test_error_mean(void)
{
    Figures f;
    Err e = {0};
    if (figures_of(&f, (float[]){3, 3, 1, 0}, &e))
        return test_ok(e.text, 0);
    return test_number("fvu: 1 / 10", f.fvu, 0.1) + test_number("ev: 1 - 1/2 / 10, about the mean of e", f.ev, 0.95);
}

/* x = (3, 4), (0, 0), (1, 0) and x' = (3, 4), (1, 1), (0, 0): the second has no direction, the third's x' none. */
static int test_no_length(void)
{
    const float x[] = {3, 4, 0, 0, 1, 0}, y[] = {3, 4, 1, 1, 0, 0}, a[] = {1, 0, 1, 0, 1, 0};
    const int32_t i[] = {0, 1, 0, 1, 0, 1};
    Metrics m;
    Figures f;
    Err e = {0};
    if (metrics_create(&m, D, F, K, &e) || metrics_add(&m, "all of them", x, y, a, i, 3, &e)
        || metrics_add(&m, "none", x + 2, y + 2, a, i, 1, &e) || group_figures(&m, &m.group[1], &f, &e))
        return test_ok(e.text, 0);
    int failed = test_number("cosine: mean of 1 and 0", f.cosine, 0.5);
    failed += test_number("norm_ratio: mean of 1 and 0", f.norm_ratio, 0.5);
    failed += test_number("mse: (2 + 1) / 6", f.mse, 0.5);
    if (group_figures(&m, &m.group[2], &f, &e))
        return test_ok(e.text, 0);
    failed += test_ok("no token has a length: neither cosine nor norm_ratio", isnan(f.cosine) && isnan(f.norm_ratio));
    metrics_free(&m);
    return failed;
}

/* One token, and three equal ones, whose squares do not come out even: no variance, whatever rounding leaves of it. */
static int test_no_variance(void)
{
    static const float x[] = {3.3f, 4.7f, 3.3f, 4.7f, 3.3f, 4.7f}, y[] = {3, 5, 3, 5, 3, 5}, a[] = {1, 0, 1, 0, 1, 0};
    static const int32_t i[] = {0, 1, 0, 1, 0, 1};
    int failed = 0;
    for (int tokens = 1; tokens <= 3; tokens += 2) {
        Metrics m;
        Figures f;
        Err e = {0};
        if (metrics_create(&m, D, F, K, &e) || metrics_add(&m, NULL, x, y, a, i, tokens, &e)
            || group_figures(&m, &m.group[0], &f, &e))
            return test_ok(e.text, 0);
        failed += test_ok("no variance: neither fvu nor ev", isnan(f.fvu) && isnan(f.ev));
        failed += test_number("but mse", f.mse, 0.09);
        metrics_free(&m);
    }
    return failed;
}

/* 10,000 tokens that keep feature 0, and feature 1 in the last of them; then one that keeps feature 2. */
static int test_dead(void)
{
    static float x[MANY*D], a[MANY*K];
    static int32_t i[MANY*K];
    Metrics m;
    Figures f;
    Err e = {0};
    for (int n = 0; n < MANY; n++) {
        x[n*D] = n % 2 ? 1 : -1;
        a[n*K] = 1;
        i[n*K + 1] = 1;
    }
    a[MANY*K - 1] = 1;
    if (metrics_create(&m, D, F, K, &e) || metrics_add(&m, NULL, x, x, a, i, MANY - 1, &e)
        || group_figures(&m, &m.group[0], &f, &e))
        return test_ok(e.text, 0);
    int failed = test_ok("one token short of 1e4: none", isnan(f.dead_at[0]));
    if (metrics_add(&m, NULL, x, x, a + (MANY - 1)*K, i + (MANY - 1)*K, 1, &e)
        || metrics_add(&m, NULL, x, x, (float[]){1, 0}, (int32_t[]){2, 0}, 1, &e)
        || group_figures(&m, &m.group[0], &f, &e))
        return test_ok(e.text, 0);
    failed += test_number("dead_1e4: features 2 and 3", f.dead_at[0], 0.5);
    failed += test_number("dead, of all 10,001: feature 3", f.dead, 0.25);
    failed += test_ok("no dead share at 1e6", isnan(f.dead_at[1]));
    failed += test_ok("features 1 and 2, in 1 of 10,001, lie below 10^-4: bin -4.5", f.density[7] == 2);
    failed += test_ok("feature 0, in all but one, is in the last bin", f.density[DENSITY_BINS - 1] == 1);
    metrics_free(&m);
    return failed;
}

int main(void)
{
    return test_by_hand() + test_error_mean() + test_no_length() + test_no_variance() + test_dead() != 0;
}
