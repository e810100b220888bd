/* SPDX-License-Identifier: MIT */
/* op_norm.h -- norms as plain loops in double, and parts of a matrix, for the tests of norms. */
#ifndef TESTS_UNIT_OP_NORM_H
#define TESTS_UNIT_OP_NORM_H

#include "tests/unit/op_test.h"

static void plain_group_norm(float *y, const float *x, const float *shift, const float *gamma, const float *beta,
                             int64_t B, int64_t HW, int C, int groups, double eps, Activation act)
{
    const int width = C/groups;
    #pragma omp parallel for collapse(2)
    for (int64_t b = 0; b < B; b++)
        for (int g = 0; g < groups; g++) {
            double sum = 0, square = 0;
            for (int pass = 0; pass < 2; pass++)
                for (int64_t i = 0; i < HW; i++)
                    for (int c = g*width; c < (g + 1)*width; c++) {
                        const double v = (double)x[(b*HW + i)*C + c] + (shift ? (double)shift[b*C + c] : 0);
                        if (pass == 0)
                            sum += v;
                        else
                            square += (v - sum/((double)HW*width))*(v - sum/((double)HW*width));
                    }
            const double mean = sum/((double)HW*width), rstd = 1/sqrt(square/((double)HW*width) + eps);
            for (int64_t i = 0; i < HW; i++)
                for (int c = g*width; c < (g + 1)*width; c++) {
                    const double v = (double)x[(b*HW + i)*C + c] + (shift ? (double)shift[b*C + c] : 0);
                    const double z = (v - mean)*rstd*(double)gamma[c] + (double)beta[c];
                    y[(b*HW + i)*C + c] = (float)(act == ACT_SILU ? z/(1 + exp(-z)) : z);
                }
        }
}

/* Rows of image b times one + gamma, plus beta, at b*stride of both. */
static void plain_layer_norm(float *y, const float *x, const float *gamma, const float *beta, double one,
                             int64_t stride, int64_t B, int64_t S, int D, double eps)
{
    for (int64_t n = 0; n < B*S; n++) {
        double sum = 0, square = 0;
        for (int d = 0; d < D; d++)
            sum += (double)x[n*D + d];
        for (int d = 0; d < D; d++)
            square += ((double)x[n*D + d] - sum/D)*((double)x[n*D + d] - sum/D);
        for (int d = 0; d < D; d++)
            y[n*D + d] = (float)(((double)x[n*D + d] - sum/D)/sqrt(square/D + eps)
                                 *(one + (double)gamma[n/S*stride + d]) + (double)beta[n/S*stride + d]);
    }
}

/* What is beside the groups of a row of y stays. */
static void plain_rms_norm(float *y, int64_t y_stride, const float *x, int64_t x_stride, const float *gamma, int64_t N,
                           int groups, int D, double eps)
{
    for (int64_t n = 0; n < N; n++)
        for (int g = 0; g < groups; g++) {
            double square = 0;
            for (int d = 0; d < D; d++)
                square += (double)x[n*x_stride + g*D + d]*(double)x[n*x_stride + g*D + d];
            for (int d = 0; d < D; d++)
                y[n*y_stride + g*D + d] = (float)((double)x[n*x_stride + g*D + d]/sqrt(square/D + eps)
                                                  *(double)gamma[d]);
        }
}

/* Columns [from, from + width) of rows of C. The caller frees. */
static float *columns(const float *x, size_t rows, int C, int from, int width)
{
    float *y = op_space(rows*(size_t)width*sizeof *y);
    for (size_t i = 0; i < rows; i++)
        memcpy(y + i*(size_t)width, x + i*(size_t)C + from, (size_t)width*sizeof *y);
    return y;
}

#endif
