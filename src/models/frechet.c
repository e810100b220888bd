/* SPDX-License-Identifier: MIT */
/* frechet.c -- moments of embeddings, and the Frechet distance between two sets of them. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/frechet.h"

struct Frechet {
    int P;
    double *mean, *root;            /* [P]; (P,P) S^(1/2) */
    double trace;                   /* of S */
    double *a, *b;                  /* (P,P) scratch */
};

int moments_create(Moments *m, int P, Err *e)
{
    *m = (Moments){.P = P};
    if (P < 1 || P > FRECHET_MAX_P)
        return err_set(e, "--reference: Frechet distance of embeddings of %d values: 1 to %d are possible", P,
                       FRECHET_MAX_P);
    m->sum = calloc((size_t)P, sizeof *m->sum);
    m->products = calloc((size_t)P * P, sizeof *m->products);
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
    m->count++;
    for (int i = 0; i < m->P; i++) {
        m->sum[i] += (double)x[i];
        for (int j = i; j < m->P; j++)
            m->products[(size_t)i*m->P + j] += (double)x[i] * (double)x[j];
    }
}

void moments_merge(Moments *to, const Moments *from)
{
    to->count += from->count;
    for (int i = 0; i < to->P; i++)
        to->sum[i] += from->sum[i];
    for (size_t i = 0; i < (size_t)to->P * to->P; i++)
        to->products[i] += from->products[i];
}

/* S (P,P), whole; returns its trace. */
static double covariance(double *S, const Moments *m)
{
    const int P = m->P;
    const double n = (double)m->count;
    double trace = 0;
    for (int i = 0; i < P; i++) {
        for (int j = i; j < P; j++)
            S[(size_t)i*P + j] = S[(size_t)j*P + i]
                               = (m->products[(size_t)i*P + j] - m->sum[i] * m->sum[j] / n) / (n - 1);
        trace += S[(size_t)i*P + i];
    }
    return trace;
}

/* Rotates rows p and q of A, and its columns, and the rows of V (NULL: none), so that A[p][q] becomes 0. */
static void rotate(double *A, double *V, int P, int p, int q)
{
    const double apq = A[(size_t)p*P + q], theta = (A[(size_t)q*P + q] - A[(size_t)p*P + p]) / (2*apq);
    const double t = (theta >= 0 ? 1 : -1) / (fabs(theta) + sqrt(theta*theta + 1)), c = 1 / sqrt(t*t + 1), s = t*c;
    for (int k = 0; k < P; k++) {
        const double x = A[(size_t)k*P + p], y = A[(size_t)k*P + q];
        A[(size_t)k*P + p] = c*x - s*y;
        A[(size_t)k*P + q] = s*x + c*y;
    }
    for (int k = 0; k < P; k++) {
        const double x = A[(size_t)p*P + k], y = A[(size_t)q*P + k];
        A[(size_t)p*P + k] = c*x - s*y;
        A[(size_t)q*P + k] = s*x + c*y;
    }
    for (int k = 0; V && k < P; k++) {
        const double x = V[(size_t)p*P + k], y = V[(size_t)q*P + k];
        V[(size_t)p*P + k] = c*x - s*y;
        V[(size_t)q*P + k] = s*x + c*y;
    }
}

/* Symmetric A becomes diagonal (cyclic Jacobi); the rows of V, the identity before, become its eigenvectors. */
static void diagonalize(double *A, double *V, int P)
{
    double all = 0;
    for (size_t i = 0; i < (size_t)P * P; i++)
        all += A[i] * A[i];
    for (int sweep = 0; sweep < 60; sweep++) {
        double off = 0;
        for (int p = 0; p < P; p++)
            for (int q = p + 1; q < P; q++)
                off += 2 * A[(size_t)p*P + q] * A[(size_t)p*P + q];
        if (off <= all * 1e-24)
            return;
        for (int p = 0; p < P; p++)
            for (int q = p + 1; q < P; q++)
                if (A[(size_t)p*P + q] * A[(size_t)p*P + q] > all * 1e-30 / P)
                    rotate(A, V, P, p, q);
    }
}

static double root(double x)
{
    return x > 0 ? sqrt(x) : 0;
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
        f->root = calloc((size_t)P * P, sizeof(double));
        f->a = malloc(sizeof(double) * P * P);
        f->b = calloc((size_t)P * P, sizeof(double));
    }
    if (!f || !f->mean || !f->root || !f->a || !f->b) {
        frechet_free(f);
        return err_set(e, "out of memory for a Frechet distance of %d values", P);
    }
    f->trace = covariance(f->a, m);
    for (int i = 0; i < P; i++) {
        f->mean[i] = m->sum[i] / (double)m->count;
        f->b[(size_t)i*P + i] = 1;
    }
    diagonalize(f->a, f->b, P);
    for (int k = 0; k < P; k++)             /* S^(1/2) = sum_k sqrt(lambda_k) v_k v_k^T */
        for (int i = 0; i < P; i++)
            for (int j = 0; j < P; j++)
                f->root[(size_t)i*P + j] += root(f->a[(size_t)k*P + k]) * f->b[(size_t)k*P + i] * f->b[(size_t)k*P + j];
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
    free(f);
}

/* y = A B, all (P,P) */
static void product(double *y, const double *A, const double *B, int P)
{
    memset(y, 0, sizeof *y * (size_t)P * P);
    for (int i = 0; i < P; i++)
        for (int k = 0; k < P; k++)
            for (int j = 0; j < P; j++)
                y[(size_t)i*P + j] += A[(size_t)i*P + k] * B[(size_t)k*P + j];
}

double frechet_distance(const Frechet *f, const Moments *m)
{
    const int P = f->P;
    if (m->count < 2)
        return NAN;
    double d = f->trace + covariance(f->a, m);
    product(f->b, f->root, f->a, P);
    product(f->a, f->b, f->root, P);
    diagonalize(f->a, NULL, P);
    for (int i = 0; i < P; i++) {
        const double away = f->mean[i] - m->sum[i] / (double)m->count;
        d += away*away - 2 * root(f->a[(size_t)i*P + i]);
    }
    return d > 0 ? d : 0;
}
