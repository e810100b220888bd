/* SPDX-License-Identifier: MIT */
/* golden.h -- what the tests against recorded values share: tensors of the files, layouts, errors. */
#ifndef TESTS_UNIT_GOLDEN_H
#define TESTS_UNIT_GOLDEN_H

#include <math.h>
#include <stdlib.h>
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/model.h"
#include "tests/unit/test.h"

static Err err;

static void die_if(int failed)
{
    if (failed) {
        printf("FAIL %s\n", err.text);
        exit(1);
    }
}

/* Types of products that the backend makes: f32, then halves. Returns how many; others are noted. */
__attribute__((unused)) static int product_types(DType types[3])
{
    static const DType halves[] = {BF16, F16};
    int count = 1;
    types[0] = F32;
    for (int i = 0; i < 2; i++) {
        Err e = {0};
        if (model_dtype(&types[count], dtype_name(halves[i]), &e))
            test_note("%s not tested: %s", dtype_name(halves[i]), e.text);
        else
            count++;
    }
    return count;
}

/* A tolerance by type; f16 keeps 11 bits where bf16 keeps 8. */
__attribute__((unused)) static double limit_of(DType type, double f32, double bf16)
{
    return type == F32 ? f32 : type == BF16 ? bf16 : bf16/8;
}

__attribute__((unused)) static const Weight *tensor(const Weights *w, const char *name)
{
    const Weight *t = weights_find(w, name);
    if (!t)
        die_if(err_set(&err, "%s: no %s", weights_path(w), name));
    return t;
}

/* A fresh (B,H,W,C) of (B,C,H,W), and back */
__attribute__((unused)) static float *rows_of(const float *x, int B, int C, int HW)
{
    float *y = malloc((size_t)B*C*HW*sizeof *y);
    for (int b = 0; b < B; b++)
        for (int c = 0; c < C; c++)
            for (int i = 0; i < HW; i++)
                y[((size_t)b*HW + i)*C + c] = x[((size_t)b*C + c)*HW + i];
    return y;
}

__attribute__((unused)) static void to_planes(float *y, const float *x, int B, int C, int HW)
{
    for (int b = 0; b < B; b++)
        for (int c = 0; c < C; c++)
            for (int i = 0; i < HW; i++)
                y[((size_t)b*C + c)*HW + i] = x[((size_t)b*HW + i)*C + c];
}

/* |got - want| / |want| */
__attribute__((unused)) static double relative_l2(const float *got, const float *want, size_t n)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)got[i] - want[i])*((double)got[i] - want[i]);
        norm += (double)want[i]*want[i];
    }
    return sqrt(error/norm);
}

/* Largest error as a share of the largest value; NaN counts as infinite. */
__attribute__((unused)) static double range_error(const float *got, const float *want, size_t n)
{
    double most = 0, range = 0;
    for (size_t i = 0; i < n; i++) {
        const double error = fabs((double)got[i] - want[i]);
        most = isnan(error) ? INFINITY : fmax(most, error);
        range = fmax(range, fabs((double)want[i]));
    }
    return most/range;
}

__attribute__((unused)) static int test_below(const char *name, double got, double limit)
{
    printf("%s %s: %.3g, limit %g\n", got < limit ? "ok  " : "FAIL", name, got, limit);
    fflush(stdout);
    return !(got < limit);
}

#endif
