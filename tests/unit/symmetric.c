/* SPDX-License-Identifier: MIT */
/* symmetric.c -- eigenvalues and eigenvectors: of hand-made matrices as known, of random ones by what they must be. */
#include <stdint.h>
#include "src/models/symmetric.h"
#include "tests/unit/test.h"

/* [-1,1), the same every time */
static double next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)*state / 9223372036854775808.0;
}

/* Of A (P,P): |A v - value v| and |v' w - (v is w)| of all eigenvectors, at most `most` and 1e-12; the values without
 * vectors are the same. */
static int test_eigen(const char *name, const double *A, int P, double most)
{
    double *V = malloc(sizeof(double) * (size_t)P*P), *a = malloc(sizeof(double) * (size_t)P*P);
    double *value = malloc(sizeof(double) * (size_t)P*4), *alone = value + P, *scratch = value + 2*P;
    double off = 0, askew = 0, apart = 0;
    memcpy(a, A, sizeof(double) * (size_t)P*P);
    symmetric_eigen(a, value, V, scratch, P);
    memcpy(a, A, sizeof(double) * (size_t)P*P);
    symmetric_eigen(a, alone, NULL, scratch, P);
    for (int k = 0; k < P; k++) {
        const double *v = V + (size_t)k*P;
        apart = fmax(apart, fabs(value[k] - alone[k]));
        for (int i = 0; i < P; i++) {
            double image = 0, both = 0;
            for (int j = 0; j < P; j++) {
                image += A[(size_t)i*P + j] * v[j];
                both += V[(size_t)i*P + j] * v[j];
            }
            off = fmax(off, fabs(image - value[k]*v[i]));
            askew = fmax(askew, fabs(both - (i == k)));
        }
    }
    test_note("%s: A v - value v %.2g, v' w %.2g, values alone %.2g", name, off, askew, apart);
    free(V);
    free(a);
    free(value);
    return test_ok(name, off <= most && askew < 1e-12 && apart <= most);
}

/* rank vectors' outer products, each `ratio` times the one before. */
static int test_rank(const char *name, int P, int rank, double ratio)
{
    double *A = calloc((size_t)P*P, sizeof *A), *x = malloc(sizeof *x * (size_t)P), scale = 1;
    uint64_t state = (uint64_t)P;
    for (int r = 0; r < rank; r++, scale *= ratio) {
        for (int i = 0; i < P; i++)
            x[i] = next(&state);
        for (int i = 0; i < P; i++)
            for (int j = 0; j < P; j++)
                A[(size_t)i*P + j] += scale * x[i] * x[j];
    }
    const int failed = test_eigen(name, A, P, 1e-14 * P * P);
    free(A);
    free(x);
    return failed;
}

/* 2 - 2 cos(k pi / (P + 1)), k from 1: of the matrix with 2 on the diagonal and -1 beside it. */
static int test_known(void)
{
    enum { P = 6 };
    double A[P*P] = {0}, value[P], scratch[2*P], sum = 0;
    float got[P], want[P];
    for (int i = 0; i < P; i++) {
        A[i*P + i] = 2;
        if (i + 1 < P)
            A[i*P + i + 1] = A[(i + 1)*P + i] = -1;
    }
    int failed = test_eigen("tridiagonal", A, P, 1e-13);
    symmetric_eigen(A, value, NULL, scratch, P);
    for (int k = 0; k < P; k++) {
        want[k] = (float)(2 - 2*cos((k + 1) * acos(-1.0) / (P + 1)));
        int below = 0;
        for (int i = 0; i < P; i++)
            below += value[i] < value[k];
        got[below] = (float)value[k];
        sum += value[k];
    }
    failed += test_close("its values", got, want, P, 1e-6f, 0);
    return failed + test_ok("their sum", fabs(sum - 2*P) < 1e-12);
}

int main(void)
{
    static const double zero[9] = {0}, one[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, single[1] = {-3};
    static const double swap[4] = {0, 1, 1, 0}, corner[9] = {0, 0, 5, 0, 0, 0, 5, 0, 0};
    double none[4] = {NAN, 1, 1, 2}, value[2], scratch[4];
    int failed = test_eigen("zero", zero, 3, 0) + test_eigen("identity", one, 3, 0) + test_eigen("1x1", single, 1, 0)
                 + test_eigen("no diagonal", swap, 2, 1e-15) + test_eigen("a corner", corner, 3, 1e-14)
                 + test_known() + test_rank("20x20", 20, 40, 1) + test_rank("of rank 5", 50, 5, 1)
                 + test_rank("over twenty decades", 60, 60, 0.45) + test_rank("300x300", 300, 500, 1);
    symmetric_eigen(none, value, NULL, scratch, 2);
    failed += test_ok("not a number", isnan(value[0]) || isnan(value[1]));
    return failed != 0;
}
