/* SPDX-License-Identifier: MIT */
/* sae_grad.cu -- the sparse side of training, towards the kept features: their gradients, and sums over them.
 *
 *     g_a[n,j] = g[n,:] . W_dec[i[n,j],:]      db_enc[f] += c sum g_a[n,j] over (n,j), i[n,j] = f
 *
 *   g (N,D) dL/dx' up to a factor   a, g_a, i (N,K)   W_dec (F,D)
 *
 * 2*N*K*D flop where the dense product would take 2*N*F*D. */
#include "kernels/cuda/sae_cuda.h"

enum { WARPS = 8 };

/* ---- g_a: one block a row n, a warp a kept feature ---- */

/* Reads 4*N*K*D bytes of W_dec for 2*N*K*D flop: bound by memory, as decoding is. g[n,:] stays in the first-level
 * cache. */
template <int each>
static __global__ void dot_codes(float *g_a, const float *g, const float *a, const int32_t *i, const float *W, int D,
                                 int K)
{
    const int64_t n = blockIdx.x;
    const int lane = threadIdx.x%WARP;
    for (int j = threadIdx.x/WARP; j < K; j += WARPS) {
        const float *w = W + (int64_t)i[n*K + j]*D;
        float sum[each] = {};
        if (a[n*K + j] != 0)
            #pragma unroll 4
            for (int d = lane*each; d < D; d += WARP*each) {
                float u[each], v[each];
                load_run(u, g + n*D + d);
                load_run(v, w + d);
                for (int k = 0; k < each; k++)
                    sum[k] += u[k]*v[k];
            }
        float all = sum[0];
        for (int k = 1; k < each; k++)
            all += sum[k];
        all = warp_sum(all);
        if (lane == 0)
            g_a[n*K + j] = all;
    }
}

void sae_code_grad(float *g_a, const float *g, const float *a, const int32_t *i, const float *W_dec, int64_t N, int D,
                   int K)
{
    if (sae_by_four(D, g, W_dec))
        LAUNCH(dot_codes<4>, (unsigned)N, WARPS*WARP, 0, g_a, g, a, i, W_dec, D, K);
    else
        LAUNCH(dot_codes<1>, (unsigned)N, WARPS*WARP, 0, g_a, g, a, i, W_dec, D, K);
}

/* ---- |x[n,:]|: a warp a row; bound by memory ---- */

static __global__ void measure_rows(float *y, const float *x, int64_t N, int D)
{
    const int64_t n = thread_number()/WARP;
    if (n >= N)
        return;
    float square = 0;
    for (int d = threadIdx.x%WARP; d < D; d += WARP)
        square += x[n*D + d]*x[n*D + d];
    square = warp_sum(square);
    if (threadIdx.x%WARP == 0)
        y[n] = sqrtf(square);
}

static void row_lengths(float *y, const float *x, int64_t N, int D)
{
    LAUNCH(measure_rows, gpu_blocks(N, WARPS), WARPS*WARP, 0, y, x, N, D);
}

/* ---- sums over a feature's entries: a warp a feature, lane l takes every 32nd; bound by memory ---- */

static __global__ void sum_codes(float *db_enc, float *dec, float *enc, CodePart p, const float *g_length,
                                 const float *x_length)
{
    const int f = p.from + (int)(thread_number()/WARP);
    if (f >= p.to)
        return;
    float sum = 0, to_dec = 0, to_enc = 0;
    for (int e = p.start[f] + threadIdx.x%WARP; e < p.start[f + 1]; e += WARP) {
        const uint32_t place = (uint32_t)p.order[e], n = place/(uint32_t)p.K;
        sum += p.g_a[place];
        to_dec += fabsf(p.a[place])*g_length[n];
        to_enc += fabsf(p.g_a[place])*x_length[n];
    }
    sum = warp_sum(sum);
    to_dec = warp_sum(to_dec);
    to_enc = warp_sum(to_enc);
    if (threadIdx.x%WARP == 0) {
        db_enc[f] += p.c*sum;
        dec[f] += fabsf(p.c)*to_dec;
        enc[f] += fabsf(p.c)*to_enc;
    }
}

static void code_sums(float *db_enc, float *dec, float *enc, const CodePart *part, const float *g_length,
                      const float *x_length)
{
    LAUNCH(sum_codes, gpu_blocks(part->to - part->from, WARPS), WARPS*WARP, 0, db_enc, dec, enc, *part, g_length,
           x_length);
}

void cuda_sae_grad_ops(SaeOps *ops)
{
    ops->code_grad = sae_code_grad;
    ops->row_lengths = row_lengths;
    ops->code_sums = code_sums;
}
