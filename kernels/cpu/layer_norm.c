/* SPDX-License-Identifier: MIT */
/* layer_norm.c -- norms of rows: layer norm, the same modulated by an image, and RMS norm.
 *
 *     layer     y[n,d]   = (x[n,d] - mean[n]) * rstd[n] * gamma[d] + beta[d],      rstd = 1/sqrt(variance + eps)
 *     modulate  y[b,s,d] = (x[b,s,d] - mean[b,s]) * rstd[b,s] * (1 + scale[b,d]) + shift[b,d]
 *     rms       y[n,g,d] = x[n,g,d] / sqrt(mean of x[n,g,:]^2 + eps) * gamma[d]
 *
 *   x (N,D) or (B,S,D) f32; of rms groups of D values of a row, rows at any stride, f32 or bf16   y f32 or bf16
 *   Ba et al. 2016 (arXiv 1607.06450); Zhang and Sennrich 2019 (arXiv 1910.07467). Variances are biased.
 *
 * AT_ONCE rows go side by side: a row alone would wait for its own sums. Each has the same instructions as it would
 * alone. Bound by memory. */
#include <assert.h>
#include <math.h>
#include "kernels/cpu/level.h"
#include "kernels/cpu/vec.h"

enum { BLOCK_VALUES = 8192, AT_ONCE = 4 };      /* 32 KB of rows are one thread's at a time */

static int64_t rows_of_block(int64_t width)
{
    return width < BLOCK_VALUES ? BLOCK_VALUES/width : 1;
}

/* Rows n to n + rows. modulated: gamma and beta are scale and shift. */
ALWAYS_INLINE void layer_norm_as(void *y, DType y_type, const float *x, const float *gamma, const float *beta,
                                 bool modulated, int64_t n, int rows, int D, float eps)
{
    const int whole = D/LANES*LANES, rest = D - whole;
    const float *row = x + n*D;
    V sum[AT_ONCE], square[AT_ONCE];
    float mean[AT_ONCE], rstd[AT_ONCE];
    for (int r = 0; r < rows; r++)
        sum[r] = square[r] = (V){0};
    for (int d = 0; d < whole; d += LANES)
        for (int r = 0; r < rows; r++)
            sum[r] += v_load(row + r*D + d, LANES);
    for (int r = 0; r < rows; r++) {
        if (rest)
            sum[r] += v_load(row + r*D + whole, rest);
        mean[r] = v_sum(sum[r])/(float)D;
    }

    for (int d = 0; d < whole; d += LANES)
        for (int r = 0; r < rows; r++) {
            const V v = v_load(row + r*D + d, LANES) - mean[r];
            square[r] += v*v;
        }
    for (int r = 0; r < rows; r++) {
        if (rest) {
            const V v = v_load(row + r*D + whole, rest) - mean[r];
            V inside;
            EACH_LANE(l)
                inside[l] = l < rest ? v[l] : 0;
            square[r] += inside*inside;
        }
        rstd[r] = 1/sqrtf(v_sum(square[r])/(float)D + eps);
    }

    for (int d = 0; d < whole; d += LANES) {
        const V by = modulated ? 1.0f + v_load(gamma + d, LANES) : v_load(gamma + d, LANES);
        const V from = v_load(beta + d, LANES);
        for (int r = 0; r < rows; r++) {
            const V v = (v_load(row + r*D + d, LANES) - mean[r])*rstd[r];
            v_store_as(y, y_type, (n + r)*D + d, v*by + from, LANES);
        }
    }
    for (int r = 0; r < rows && rest; r++) {
        const V v = (v_load(row + r*D + whole, rest) - mean[r])*rstd[r];
        const V by = modulated ? 1.0f + v_load(gamma + whole, rest) : v_load(gamma + whole, rest);
        const V from = v_load(beta + whole, rest);
        v_store_as(y, y_type, (n + r)*D + whole, v*by + from, rest);
    }
}

ALWAYS_INLINE void layer_norm_rows(void *y, DType y_type, const float *x, const float *gamma, const float *beta,
                                   bool modulated, int64_t n, int64_t end, int D, float eps)
{
    for (; y_type == BF16 && n + AT_ONCE <= end; n += AT_ONCE)
        layer_norm_as(y, BF16, x, gamma, beta, modulated, n, AT_ONCE, D, eps);
    for (; y_type == F32 && n + AT_ONCE <= end; n += AT_ONCE)
        layer_norm_as(y, F32, x, gamma, beta, modulated, n, AT_ONCE, D, eps);
    for (; n < end; n++)
        layer_norm_as(y, y_type, x, gamma, beta, modulated, n, 1, D, eps);
}

void cpu_layer_norm(void *y, DType y_type, const void *x, DType x_type, const float *gamma, const float *beta,
                    int64_t N, int D, float eps)
{
    assert(x_type == F32);
    const int64_t rows = rows_of_block(D);
#pragma omp parallel for schedule(static) if (N*D >= CPU_PARALLEL)
    for (int64_t n = 0; n < N; n += rows)
        layer_norm_rows(y, y_type, x, gamma, beta, false, n, least(n + rows, N), D, eps);
}

void cpu_modulate(void *y, DType y_type, const float *x, const float *shift, const float *scale, int64_t stride,
                  int64_t B, int64_t S, int D, float eps)
{
    const int64_t rows = rows_of_block(D);
#pragma omp parallel for collapse(2) schedule(static) if (B*S*D >= CPU_PARALLEL)
    for (int64_t b = 0; b < B; b++)
        for (int64_t s = 0; s < S; s += rows)
            layer_norm_rows(y, y_type, x, scale + b*stride, shift + b*stride, true, b*S + s,
                            b*S + least(s + rows, S), D, eps);
}

/* D values each of `rows` rows, from elements y_at and x_at on. */
ALWAYS_INLINE void rms_norm_as(void *y, DType y_type, int64_t y_at, int64_t y_stride, const void *x, DType x_type,
                               int64_t x_at, int64_t x_stride, const float *gamma, int rows, int D, float eps)
{
    const int whole = D/LANES*LANES, rest = D - whole;
    V square[AT_ONCE];
    float rrms[AT_ONCE];
    for (int r = 0; r < rows; r++)
        square[r] = (V){0};
    for (int d = 0; d < whole; d += LANES)
        for (int r = 0; r < rows; r++) {
            const V v = v_load_as(x, x_type, x_at + r*x_stride + d, LANES);
            square[r] += v*v;
        }
    for (int r = 0; r < rows; r++) {
        if (rest) {
            const V v = v_load_as(x, x_type, x_at + r*x_stride + whole, rest);
            square[r] += v*v;
        }
        rrms[r] = 1/sqrtf(v_sum(square[r])/(float)D + eps);
    }

    for (int d = 0; d < whole; d += LANES) {
        const V by = v_load(gamma + d, LANES);
        for (int r = 0; r < rows; r++) {
            const V v = v_load_as(x, x_type, x_at + r*x_stride + d, LANES);
            v_store_as(y, y_type, y_at + r*y_stride + d, v*rrms[r]*by, LANES);
        }
    }
    for (int r = 0; r < rows && rest; r++) {
        const V v = v_load_as(x, x_type, x_at + r*x_stride + whole, rest), by = v_load(gamma + whole, rest);
        v_store_as(y, y_type, y_at + r*y_stride + whole, v*rrms[r]*by, rest);
    }
}

ALWAYS_INLINE void rms_norm_rows(void *y, DType y_type, int64_t y_stride, const void *x, DType x_type, int64_t x_stride,
                                 const float *gamma, int64_t n, int64_t end, int groups, int D, float eps)
{
    for (; n + AT_ONCE <= end; n += AT_ONCE)
        for (int g = 0; g < groups; g++)
            rms_norm_as(y, y_type, n*y_stride + g*D, y_stride, x, x_type, n*x_stride + g*D, x_stride, gamma, AT_ONCE,
                        D, eps);
    for (; n < end; n++)
        for (int g = 0; g < groups; g++)
            rms_norm_as(y, y_type, n*y_stride + g*D, y_stride, x, x_type, n*x_stride + g*D, x_stride, gamma, 1, D,
                        eps);
}

void cpu_rms_norm(void *y, DType y_type, int64_t y_stride, const void *x, DType x_type, int64_t x_stride,
                  const float *gamma, int64_t N, int groups, int D, float eps)
{
    const int64_t width = (int64_t)groups*D, rows = rows_of_block(width);
#pragma omp parallel for schedule(static) if (N*width >= CPU_PARALLEL)
    for (int64_t n = 0; n < N; n += rows) {
        const int64_t end = least(n + rows, N);
        if (x_type == F32 && y_type == F32)
            rms_norm_rows(y, F32, y_stride, x, F32, x_stride, gamma, n, end, groups, D, eps);
        else if (x_type == F32)
            rms_norm_rows(y, BF16, y_stride, x, F32, x_stride, gamma, n, end, groups, D, eps);
        else if (y_type == BF16)
            rms_norm_rows(y, BF16, y_stride, x, BF16, x_stride, gamma, n, end, groups, D, eps);
        else
            rms_norm_rows(y, F32, y_stride, x, BF16, x_stride, gamma, n, end, groups, D, eps);
    }
}
