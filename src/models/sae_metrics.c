/* SPDX-License-Identifier: MIT */
/* sae_metrics.c -- sums over tokens and the figures made of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/sae_metrics.h"

enum { MAX_GROUPS = 65536 };
static const double SAME = 1e-12;           /* of sum |x|^2: less spread than that is rounding */
const int64_t dead_mark[DEAD_MARKS] = {10000, 1000000, 10000000};

static void group_free(Group *g)
{
    free(g->name);
    free(g->x);
    free(g->e);
    free(g->fired);
    free(g->value);
}

static int group_create(Metrics *m, const char *name, Err *e)
{
    if (m->count == MAX_GROUPS)
        return err_set(e, "more than %d groups: '%.100s' is one too many", MAX_GROUPS - 1, name);
    Group *more = realloc(m->group, sizeof *more*((size_t)m->count + 1));
    if (!more)
        return err_set(e, "out of memory for %d groups", m->count + 1);
    m->group = more;
    Group *g = &m->group[m->count];
    *g = (Group){.name = strdup(name)};
    g->x = calloc((size_t)m->D, sizeof *g->x);
    g->e = calloc((size_t)m->D, sizeof *g->e);
    g->fired = calloc((size_t)m->F, sizeof *g->fired);
    g->value = calloc((size_t)m->F, sizeof *g->value);
    if (!g->name || !g->x || !g->e || !g->fired || !g->value) {
        group_free(g);
        return err_set(e, "out of memory for %d groups", m->count + 1);
    }
    return m->count++;
}

int metrics_create(Metrics *m, int D, int F, int K, Err *e)
{
    *m = (Metrics){.D = D, .F = F, .K = K};
    return group_create(m, "all", e) < 0 ? -1 : 0;
}

void metrics_free(Metrics *m)
{
    for (int g = 0; g < m->count; g++)
        group_free(&m->group[g]);
    free(m->group);
    *m = (Metrics){0};
}

static void add(const Metrics *m, Group *g, const float *x, const float *y, const float *a, const int32_t *i, int64_t N)
{
    const int D = m->D, K = m->K;
    for (int64_t n = 0; n < N; n++, x += D, y += D, a += K, i += K) {
        double xx = 0, yy = 0, xy = 0, ee = 0;
        for (int d = 0; d < D; d++) {
            const double error = (double)x[d] - (double)y[d];
            xx += (double)x[d]*(double)x[d];
            yy += (double)y[d]*(double)y[d];
            xy += (double)x[d]*(double)y[d];
            ee += error*error;
            g->x[d] += (double)x[d];
            g->e[d] += error;
        }
        g->xx += xx;
        g->ee += ee;
        g->long_tokens += xx > 0;
        g->cosine += xx > 0 && yy > 0 ? xy/sqrt(xx*yy) : 0;
        g->ratio += xx > 0 ? sqrt(yy/xx) : 0;
        for (int k = 0; k < K; k++)
            if (a[k] > 0) {
                g->kept++;
                g->living += g->fired[i[k]]++ == 0;
                g->value[i[k]] += (double)a[k];
            }
        g->tokens++;
        for (int t = 0; t < DEAD_MARKS; t++)
            if (g->tokens == dead_mark[t])
                g->living_at[t] = g->living;
    }
}

int metrics_add(Metrics *m, const char *name, const float *x, const float *y, const float *a, const int32_t *i,
                int64_t N, Err *e)
{
    add(m, &m->group[0], x, y, a, i, N);
    if (!name)
        return 0;
    int g = 1;
    while (g < m->count && strcmp(m->group[g].name, name) != 0)
        g++;
    if (g == m->count && (g = group_create(m, name, e)) < 0)
        return -1;
    add(m, &m->group[g], x, y, a, i, N);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const char *x = ((const Group *)a)->name, *y = ((const Group *)b)->name;
    char *x_end, *y_end;
    const double u = strtod(x, &x_end), v = strtod(y, &y_end);
    const int x_number = *x && !*x_end, y_number = *y && !*y_end;
    if (x_number && y_number && u != v)
        return u < v ? 1 : -1;
    return x_number != y_number ? y_number - x_number : strcmp(x, y);
}

void metrics_sort(Metrics *m)
{
    if (m->count > 1)
        qsort(m->group + 1, (size_t)m->count - 1, sizeof *m->group, by_name);
}

static int rising(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int density_bin(double density)
{
    const int b = (int)floor(2*(log10(density) - DENSITY_LOWEST));
    return b < 0 ? 0 : b < DENSITY_BINS ? b : DENSITY_BINS - 1;
}

int group_figures(const Metrics *m, const Group *g, Figures *f, Err *e)
{
    const double N = (double)g->tokens;
    double x_spread = g->xx, e_spread = g->ee;
    int64_t *density = malloc(sizeof *density*(size_t)m->F);
    int living = 0;
    if (!density)
        return err_set(e, "out of memory");
    for (int d = 0; d < m->D; d++) {
        x_spread -= g->x[d]*g->x[d]/N;
        e_spread -= g->e[d]*g->e[d]/N;
    }
    if (x_spread <= SAME*g->xx)
        x_spread = NAN;
    for (int j = 0; j < m->F; j++)
        if (g->fired[j])
            density[living++] = g->fired[j];
    qsort(density, (size_t)living, sizeof *density, rising);
    *f = (Figures){
        .fvu = g->ee/x_spread, .ev = 1 - e_spread/x_spread, .mse = g->ee/(N*m->D),
        .cosine = g->cosine/(double)g->long_tokens, .norm_ratio = g->ratio/(double)g->long_tokens,
        .l0 = (double)g->kept/N, .dead = 1 - (double)living/m->F,
        .density_median = living ? (double)(density[(living - 1)/2] + density[living/2])/(2*N) : 0,
        .density_max = living ? (double)density[living - 1]/N : 0,
    };
    for (int t = 0; t < DEAD_MARKS; t++)
        f->dead_at[t] = g->tokens >= dead_mark[t] ? 1 - (double)g->living_at[t]/m->F : NAN;
    for (int j = 0; j < living; j++)
        f->density[density_bin((double)density[j]/N)]++;
    free(density);
    return 0;
}
