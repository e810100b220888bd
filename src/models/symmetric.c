/* SPDX-License-Identifier: MIT */
/* symmetric.c -- eigenvalues and eigenvectors of a symmetric matrix. Both triangles are kept, so that every loop runs
 * along rows. */
#include <float.h>
#include <math.h>
#include <string.h>
#include "src/models/symmetric.h"

static double dot(const double *a, const double *b, int n)
{
    double sum = 0;
    #pragma omp simd reduction(+: sum)
    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* The n rows of width P become H rows, H = 1 - 2 v v' / v'v; w [P] is scratch. */
static void reflect_rows(double *rows, const double *v, double vv, double *w, int n, int P)
{
    memset(w, 0, sizeof *w * (size_t)P);
    for (int i = 0; i < n; i++)
        add_scaled(w, v[i], rows + (size_t)i*P, P);
    for (int i = 0; i < n; i++)
        add_scaled(rows + (size_t)i*P, -2 * v[i] / vv, w, P);
}

/* A, of n rows of stride P, becomes H A H. */
static void reflect_both(double *A, const double *v, double vv, double *w, int n, int P)
{
    for (int i = 0; i < n; i++)
        w[i] = 2 / vv * dot(A + (size_t)i*P, v, n);
    add_scaled(w, -dot(w, v, n) / vv, v, n);
    for (int i = 0; i < n; i++) {
        add_scaled(A + (size_t)i*P, -v[i], w, n);
        add_scaled(A + (size_t)i*P, -w[i], v, n);
    }
}

/* A = V' T V, T tridiagonal: d [P] its diagonal, e [P-1] beside it. */
static void make_tridiagonal(double *A, double *d, double *e, double *V, double *w, int P)
{
    for (int k = 0; k < P; k++) {
        double *v = A + (size_t)k*P + k + 1;
        const int n = P - k - 1;
        d[k] = A[(size_t)k*P + k];
        if (n == 0)
            return;
        const double rest = dot(v + 1, v + 1, n - 1);
        e[k] = v[0];
        if (!(rest > DBL_MIN))
            continue;
        e[k] = -copysign(sqrt(v[0]*v[0] + rest), v[0]);
        v[0] -= e[k];
        const double vv = v[0]*v[0] + rest;
        reflect_both(A + (size_t)(k + 1)*(P + 1), v, vv, w, n, P);
        if (V)
            reflect_rows(V + (size_t)(k + 1)*P, v, vv, w, n, P);
    }
}

/* Rows k and k + 1 of T, its columns and the rows of V turn by the angle of cosine c and sine s. */
static void turn(double *d, double *e, double *V, int k, int P, double c, double s)
{
    const double a = d[k], b = e[k], g = d[k + 1];
    d[k] = c*c*a + 2*c*s*b + s*s*g;
    d[k + 1] = s*s*a - 2*c*s*b + c*c*g;
    e[k] = (c*c - s*s)*b + c*s*(g - a);
    #pragma omp simd
    for (int i = 0; i < (V ? P : 0); i++) {
        double *u = V + (size_t)k*P + i;
        const double upper = u[0], lower = u[P];
        u[0] = c*upper + s*lower;
        u[P] = c*lower - s*upper;
    }
}

/* One step of QR on rows low to high of T, shifted by the eigenvalue of its last two rows nearer to the last. */
static void shifted_step(double *d, double *e, double *V, int low, int high, int P)
{
    const double half = (d[high - 1] - d[high]) / 2, b = e[high - 1];
    const double shift = d[high] - b / (half + copysign(hypot(half, b), half)) * b;
    double x = d[low] - shift, z = e[low];
    for (int k = low; k < high; k++) {      /* (x, z) becomes (r, 0) */
        const double r = hypot(x, z), c = r > 0 ? x / r : 1, s = r > 0 ? z / r : 0;
        turn(d, e, V, k, P, c, s);
        if (k > low)
            e[k - 1] = r;
        x = e[k];
        if (k + 1 < high) {
            z = s*e[k + 1];
            e[k + 1] *= c;
        }
    }
}

void symmetric_eigen(double *A, double *value, double *V, double *scratch, int P)
{
    enum { STEPS = 60 };                /* two or three a value are usual */
    double *e = scratch, *w = scratch + P, most = 0;
    for (int i = 0; V && i < P; i++) {
        memset(V + (size_t)i*P, 0, sizeof *V * (size_t)P);
        V[(size_t)i*P + i] = 1;
    }
    make_tridiagonal(A, value, e, V, w, P);
    for (int i = 0; i < P; i++)
        most = fmax(most, fmax(fabs(value[i]), i + 1 < P ? fabs(e[i]) : 0));
    const double nothing = most * DBL_EPSILON;
    for (int high = P - 1, step = 0; high > 0 && step < STEPS*P; step++) {
        int low = high;
        while (low > 0 && fabs(e[low - 1]) > nothing)
            low--;
        if (low == high)
            high--;
        else
            shifted_step(value, e, V, low, high, P);
    }
}
