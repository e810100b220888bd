/* SPDX-License-Identifier: MIT */
/* elementwise.c -- ops that take a value to a value: activations, gated GELU, conversion, sums, the sampler's step.
 *
 *     activate  y = act(x)      geglu  y[n,d] = h[n,d] * gelu(h[n,D+d])      add  y += x      subtract  y = a - b
 *     multiply  y *= x          add_gated  x[b,s,d] += gate[b,d] * y[b,s,d]
 *     ddim      x' = sqrt_a_prev x0 + sqrt_1m_a_prev eps,  x0 = (x - sqrt_1m_a eps)/sqrt_a  (arXiv 2010.02502, eq. 12)
 *
 * Bound by memory, once exp and erf are in vectors. Work is cut at multiples of BLOCK values, so that a value's
 * instructions do not depend on the number of threads. */
#include <math.h>
#include <string.h>
#include "kernels/cpu/level.h"
#include "kernels/cpu/vec.h"

enum { BLOCK = 4096 };

ALWAYS_INLINE void activate_as(void *y, DType y_type, const float *x, int64_t i, int64_t end, Activation act)
{
    for (; i + LANES <= end; i += LANES)
        v_store_as(y, y_type, i, v_activate(v_load(x + i, LANES), act), LANES);
    if (i < end)
        v_store_as(y, y_type, i, v_activate(v_load(x + i, (int)(end - i)), act), (int)(end - i));
}

static void activate_range(void *y, DType y_type, const float *x, int64_t i, int64_t end, Activation act)
{
    if (act == ACT_SILU && y_type == F32)
        activate_as(y, F32, x, i, end, ACT_SILU);
    else if (act == ACT_SILU)
        activate_as(y, BF16, x, i, end, ACT_SILU);
    else
        activate_as(y, y_type, x, i, end, act);
}

void cpu_activate(void *y, DType y_type, const float *x, int64_t n, Activation act)
{
#pragma omp parallel for if (n >= CPU_PARALLEL)
    for (int64_t i = 0; i < n; i += BLOCK)
        activate_range(y, y_type, x, i, least(i + BLOCK, n), act);
}

ALWAYS_INLINE void geglu_as(void *y, DType y_type, const float *h, int64_t n, int64_t end, int D)
{
    for (; n < end; n++)
        for (int d = 0; d < D; d += LANES) {
            const int w = D - d < LANES ? D - d : LANES;
            const V value = v_load(h + 2*n*D + d, w), gate = v_load(h + (2*n + 1)*D + d, w);
            v_store_as(y, y_type, n*D + d, value*v_gelu(gate), w);
        }
}

static void geglu_rows(void *y, DType y_type, const float *h, int64_t n, int64_t end, int D)
{
    if (y_type == F32)
        geglu_as(y, F32, h, n, end, D);
    else
        geglu_as(y, BF16, h, n, end, D);
}

void cpu_geglu(void *y, DType y_type, const float *h, int64_t N, int D)
{
    const int64_t rows = D < BLOCK ? BLOCK/D : 1;
#pragma omp parallel for if (N*D >= CPU_PARALLEL/4)
    for (int64_t n = 0; n < N; n += rows)
        geglu_rows(y, y_type, h, n, least(n + rows, N), D);
}

static void convert_range(void *y, DType y_type, const void *x, DType x_type, int64_t i, int64_t end)
{
    for (; i < end; i += LANES) {
        const int w = end - i < LANES ? (int)(end - i) : LANES;
        const V v = v_load_as(x, x_type, i, w);
        if (y_type == BF16)
            v_store_half((uint16_t *)y + i, v_to_bf16(v), w);
        else
            v_store((float *)y + i, v, w);
    }
}

/* F32 and BF16 go by vectors; what else there is (half precision from a file) is rare and goes through
 * formats/dtype.h. */
static void convert_block(void *y, DType y_type, const void *x, DType x_type, int64_t i, int64_t end)
{
    if ((x_type == F32 || x_type == BF16) && (y_type == F32 || y_type == BF16)) {
        convert_range(y, y_type, x, x_type, i, end);
        return;
    }
    float values[BLOCK];
    dtype_to_f32(values, (const char *)x + (size_t)i*dtype_size(x_type), x_type, (size_t)(end - i));
    dtype_from_f32((char *)y + (size_t)i*dtype_size(y_type), y_type, values, (size_t)(end - i));
}

void cpu_convert(void *y, DType y_type, const void *x, DType x_type, int64_t n)
{
#pragma omp parallel for if (n >= CPU_PARALLEL)
    for (int64_t i = 0; i < n; i += BLOCK)
        convert_block(y, y_type, x, x_type, i, least(i + BLOCK, n));
}

/* The first of a block, as op.h packs it. */
static uint64_t first_unfit(const float *x, int64_t i, int64_t end, float bound)
{
    int unfit = 0;
    for (int64_t j = i; j < end; j++)
        unfit |= !(fabsf(x[j]) < bound);
    for (int64_t j = i; unfit && j < end; j++)
        if (!(fabsf(x[j]) < bound)) {
            uint32_t bits;
            memcpy(&bits, &x[j], sizeof bits);
            return (uint64_t)j << 32 | bits;
        }
    return UINT64_MAX;
}

void cpu_store(void *y, DType y_type, const float *x, int64_t n, uint64_t *unfit)
{
    const float bound = dtype_bound(y_type);
    uint64_t first = *unfit;
#pragma omp parallel for reduction(min: first) if (n >= CPU_PARALLEL)
    for (int64_t i = 0; i < n; i += BLOCK) {
        const int64_t end = least(i + BLOCK, n);
        const uint64_t found = first_unfit(x, i, end, bound);
        first = found < first ? found : first;
        convert_block(y, y_type, x, F32, i, end);
    }
    *unfit = first;
}

/* y = a + sign b, sign 1 or -1: exact either way, since sign b is. */
static void sum_range(float *y, const float *a, const float *b, float sign, int64_t i, int64_t end)
{
    for (; i < end; i += LANES) {
        const int w = end - i < LANES ? (int)(end - i) : LANES;
        v_store(y + i, v_load(a + i, w) + sign*v_load(b + i, w), w);
    }
}

void cpu_add(float *y, const float *x, int64_t n)
{
#pragma omp parallel for if (n >= CPU_PARALLEL)
    for (int64_t i = 0; i < n; i += BLOCK)
        sum_range(y, y, x, 1, i, least(i + BLOCK, n));
}

void cpu_subtract(float *y, const float *a, const float *b, int64_t n)
{
#pragma omp parallel for if (n >= CPU_PARALLEL)
    for (int64_t i = 0; i < n; i += BLOCK)
        sum_range(y, a, b, -1, i, least(i + BLOCK, n));
}

ALWAYS_INLINE void multiply_as(void *y, const void *x, DType type, int64_t i, int64_t end)
{
    for (; i < end; i += LANES) {
        const int w = end - i < LANES ? (int)(end - i) : LANES;
        v_store_as(y, type, i, v_load_as(y, type, i, w)*v_load_as(x, type, i, w), w);
    }
}

void cpu_multiply(void *y, const void *x, DType type, int64_t n)
{
#pragma omp parallel for if (n >= CPU_PARALLEL)
    for (int64_t i = 0; i < n; i += BLOCK)
        if (type == F32)
            multiply_as(y, x, F32, i, least(i + BLOCK, n));
        else
            multiply_as(y, x, BF16, i, least(i + BLOCK, n));
}

ALWAYS_INLINE void add_gated_row(float *x, const void *y, DType y_type, int64_t at, const float *gate, int D)
{
    for (int d = 0; d < D; d += LANES) {
        const int w = D - d < LANES ? D - d : LANES;
        const V sum = v_load(x + at + d, w), more = v_load_as(y, y_type, at + d, w), by = v_load(gate + d, w);
        v_store(x + at + d, sum + by*more, w);
    }
}

void cpu_add_gated(float *x, const void *y, DType y_type, const float *gate, int64_t stride, int64_t B, int64_t S,
                   int D)
{
#pragma omp parallel for schedule(static) if (B*S*D >= CPU_PARALLEL)
    for (int64_t n = 0; n < B*S; n++)
        if (y_type == F32)
            add_gated_row(x, y, F32, n*D, gate + n/S*stride, D);
        else
            add_gated_row(x, y, BF16, n*D, gate + n/S*stride, D);
}

/* In the steps each product is rounded before it is added, as the reference does it on tensors: no fused
 * multiply-add. */
__attribute__((optimize("fp-contract=off")))
static inline float guided(const float *uncond, const float *cond, float guidance, int64_t i)
{
    return uncond ? uncond[i] + guidance*(cond[i] - uncond[i]) : cond[i];
}

__attribute__((optimize("fp-contract=off")))
void cpu_ddim_step(float *x, const float *uncond, const float *cond, float guidance, float sqrt_a, float sqrt_1m_a,
                   float sqrt_a_prev, float sqrt_1m_a_prev, Prediction prediction, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float out = guided(uncond, cond, guidance, i);
        float x0 = out, eps = out;
        if (prediction == PREDICT_V) {
            x0 = sqrt_a*x[i] - sqrt_1m_a*out;
            eps = sqrt_a*out + sqrt_1m_a*x[i];
        } else if (prediction == PREDICT_SAMPLE) {
            eps = (x[i] - sqrt_a*out)/sqrt_1m_a;
        } else {
            x0 = (x[i] - sqrt_1m_a*out)/sqrt_a;
        }
        x[i] = sqrt_a_prev*x0 + sqrt_1m_a_prev*eps;
    }
}

__attribute__((optimize("fp-contract=off")))
void cpu_dpm_step(float *x, float *x0, const float *uncond, const float *cond, float guidance, float alpha, float sigma,
                  float keep, float data, float change, Prediction prediction, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float out = guided(uncond, cond, guidance, i);
        const float now = prediction == PREDICT_V      ? alpha*x[i] - sigma*out
                        : prediction == PREDICT_SAMPLE ? out : (x[i] - sigma*out)/alpha;
        x[i] = keep*x[i] + data*now + change*(now - x0[i]);
        x0[i] = now;
    }
}

__attribute__((optimize("fp-contract=off")))
void cpu_multistep(float *y, float *store, const float *uncond, const float *cond, float guidance,
                   const float *const before[3], const float weight[4], float share, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float out = guided(uncond, cond, guidance, i);
        const float sum = weight[0]*out + weight[1]*before[0][i] + weight[2]*before[1][i] + weight[3]*before[2][i];
        if (store)
            store[i] = out;
        y[i] = share*sum;
    }
}
