/* SPDX-License-Identifier: MIT */
/* frechet.c -- moments of embeddings, and the Frechet distance between two sets of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/frechet.h"
#include "src/models/symmetric.h"

struct Frechet {
    int P;
    double *mean, *root;            /* [P]; (P,P) S^(1/2) */
    double trace;                   /* of S */
    double *a, *b;                  /* (P,P) scratch */
    double *value, *scratch;        /* [P]; [2P] */
};

/* Values of the upper triangle of (P,P). */
static size_t triangle(int P)
{
    return (size_t)P * (size_t)(P + 1) / 2;
}

int moments_create(Moments *m, int P, Err *e)
{
    *m = (Moments){.P = P};
    if (P < 1 || P > FRECHET_MAX_P)
        return err_set(e, "Frechet distance of embeddings of %d values: 1 to %d are possible", P,
                       FRECHET_MAX_P);
    m->sum = calloc((size_t)P, sizeof *m->sum);
    m->products = calloc(triangle(P), sizeof *m->products);
    return m->sum && m->products ? 0 : err_set(e, "out of memory for moments of %d values", P);
}

void moments_free(Moments *m)
{
    free(m->sum);
    free(m->products);
    *m = (Moments){0};
}

void moments_add(Moments *m, const float *x)
{
    double *product = m->products;
    m->count++;
    for (int i = 0; i < m->P; i++) {
        m->sum[i] += (double)x[i];
        for (int j = i; j < m->P; j++)
            *product++ += (double)x[i] * (double)x[j];
    }
}

void moments_merge(Moments *to, const Moments *from)
{
    to->count += from->count;
    for (int i = 0; i < to->P; i++)
        to->sum[i] += from->sum[i];
    for (size_t i = 0; i < triangle(to->P); i++)
        to->products[i] += from->products[i];
}

/* S (P,P), whole; returns its trace. */
static double covariance(double *S, const Moments *m)
{
    const int P = m->P;
    const double n = (double)m->count, *product = m->products;
    double trace = 0;
    for (int i = 0; i < P; i++) {
        for (int j = i; j < P; j++)
            S[(size_t)i*P + j] = S[(size_t)j*P + i]
                               = (*product++ - m->sum[i] * m->sum[j] / n) / (n - 1);
        trace += S[(size_t)i*P + i];
    }
    return trace;
}

static double root(double x)
{
    return x > 0 ? sqrt(x) : 0;
}

/* y = A B, all (P,P); ROWS rows of y at a time, for which each of B's is read once. */
static void product(double *y, const double *A, const double *B, int P)
{
    enum { ROWS = 8 };
    memset(y, 0, sizeof *y * (size_t)P * P);
    #pragma omp parallel for
    for (int first = 0; first < P; first += ROWS)
        for (int k = 0; k < P; k++)
            for (int i = first; i < P && i < first + ROWS; i++)
                add_scaled(y + (size_t)i*P, A[(size_t)i*P + k], B + (size_t)k*P, P);
}

int frechet_create(Frechet **out, const Moments *m, Err *e)
{
    const int P = m->P;
    *out = NULL;
    if (m->count < 2)
        return err_set(e, "Frechet distance: a reference of %ld pictures; two or more are needed", m->count);
    Frechet *f = calloc(1, sizeof *f);
    if (f) {
        f->P = P;
        f->mean = malloc(sizeof(double) * P);
        f->root = malloc(sizeof(double) * P * P);
        f->a = malloc(sizeof(double) * P * P);
        f->b = malloc(sizeof(double) * P * P);
        f->value = malloc(sizeof(double) * P);
        f->scratch = malloc(sizeof(double) * 2 * P);
    }
    if (!f || !f->mean || !f->root || !f->a || !f->b || !f->value || !f->scratch) {
        frechet_free(f);
        return err_set(e, "out of memory for a Frechet distance of %d values", P);
    }
    f->trace = covariance(f->a, m);
    for (int i = 0; i < P; i++)
        f->mean[i] = m->sum[i] / (double)m->count;
    symmetric_eigen(f->a, f->value, f->b, f->scratch, P);
    for (int k = 0; k < P; k++)             /* S^(1/2) = sum_k sqrt(lambda_k) v_k v_k^T */
        for (int i = 0; i < P; i++)
            f->a[(size_t)i*P + k] = root(f->value[k]) * f->b[(size_t)k*P + i];
    product(f->root, f->a, f->b, P);
    *out = f;
    return 0;
}

void frechet_free(Frechet *f)
{
    if (!f)
        return;
    free(f->mean);
    free(f->root);
    free(f->a);
    free(f->b);
    free(f->value);
    free(f->scratch);
    free(f);
}

double frechet_distance(const Frechet *f, const Moments *m)
{
    const int P = f->P;
    if (m->count < 2)
        return NAN;
    double d = f->trace + covariance(f->a, m);
    product(f->b, f->root, f->a, P);
    product(f->a, f->b, f->root, P);
    symmetric_eigen(f->a, f->value, NULL, f->scratch, P);
    for (int i = 0; i < P; i++) {
        const double away = f->mean[i] - m->sum[i] / (double)m->count;
        d += away*away - 2 * root(f->value[i]);
    }
    return d > 0 ? d : 0;
}
