/* SPDX-License-Identifier: MIT */
/* op_norm.h -- group norm as a plain loop in double, and parts of a matrix, for the tests of norms. */
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

/* Columns [from, from + width) of rows of C. The caller frees. */
static float *columns(const float *x, size_t rows, int C, int from, int width)
{
    float *y = op_space(rows*(size_t)width*sizeof *y);
    for (size_t i = 0; i < rows; i++)
        memcpy(y + i*(size_t)width, x + i*(size_t)C + from, (size_t)width*sizeof *y);
    return y;
}

#endif
