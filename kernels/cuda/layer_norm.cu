/* SPDX-License-Identifier: MIT */
/* layer_norm.cu -- layer norm, and the same modulated by an image.
 *
 *     layer     y[n,d]   = (x[n,d] - mean[n]) * rstd[n] * gamma[d] + beta[d],      rstd = 1/sqrt(variance + eps)
 *     modulate  y[b,s,d] = (x[b,s,d] - mean[b,s]) * rstd[b,s] * (1 + scale[b,d]) + shift[b,d]
 *
 *   x (N,D) f32 or f16, or (B,S,D) f32; y f32, bf16 or f16, and x itself where both are f32
 *   Ba et al. 2016 (arXiv 1607.06450). The variance is biased.
 *
 * A warp keeps its rows in registers: it has them all under way at a time, and reads gamma and beta once for all of
 * them; scale and shift, in their place, for each. Rows wider than that are read three times, from memory and then from
 * the first-level cache. Every value is read and written by one lane, and a row is read for its sums before any of it
 * is written, so y may be x.
 * Bound by memory: x is read once and y written once. */
#include <assert.h>
#include "kernels/cuda/cuda.h"

enum { WARPS = 8 };     /* of a block */

/* Sums of a lane are those of four chains, so that a row's bytes depend on no choice of the compiler's. */
__device__ __forceinline__ float sum4(const float (&v)[4])
{
    return (v[0] + v[1]) + (v[2] + v[3]);
}

/* What a row's values are multiplied by and added to: gamma and beta, or 1 + scale and shift of image n/S, which is
 * `stride` from the one before. */
typedef struct Affine {
    const float *gamma, *beta;
    int64_t stride, S;
} Affine;

template <bool modulated, int each>
__device__ __forceinline__ void load_affine(float (&by)[each], float (&from)[each], const float *gamma,
                                            const float *beta)
{
    load_run(by, gamma);
    load_run(from, beta);
    #pragma unroll
    for (int j = 0; j < each; j++)
        by[j] = modulated ? 1 + by[j] : by[j];
}

/* Rows of at most `most` runs of four a lane, D a multiple of 4; `rows` of them a warp. per: 1/D. */
template <typename T, typename X, int most, int rows, bool modulated>
static __global__ void norm_kept(T *y, const X *x, const float *__restrict__ gamma, const float *__restrict__ beta,
                                 int64_t stride, int64_t S, int64_t N, int D, float per, float eps)
{
    const int64_t n = ((int64_t)blockIdx.x*WARPS + threadIdx.x/WARP)*rows;
    const int first = threadIdx.x%WARP*4;
    float v[rows][most][4], mean[rows], rstd[rows];
    int64_t image[rows];                /* where its scale and shift begin */
    if (n >= N)
        return;
    #pragma unroll
    for (int r = 0; r < rows; r++) {
        image[r] = modulated ? (n + r < N ? n + r : n)/S*stride : 0;
        #pragma unroll
        for (int i = 0; i < most; i++)
            if (n + r < N && first + i*WARP*4 < D)
                load_run(v[r][i], x + (n + r)*D + first + i*WARP*4);
            else
                v[r][i][0] = v[r][i][1] = v[r][i][2] = v[r][i][3] = 0;
    }
    #pragma unroll
    for (int r = 0; r < rows; r++) {
        float sum[4] = {};
        #pragma unroll
        for (int i = 0; i < most; i++)
            for (int j = 0; j < 4; j++)
                sum[j] += v[r][i][j];
        mean[r] = sum4(sum);
    }
    #pragma unroll
    for (int r = 0; r < rows; r++)
        mean[r] = warp_sum(mean[r])*per;
    #pragma unroll
    for (int r = 0; r < rows; r++) {
        float square[4] = {};
        #pragma unroll
        for (int i = 0; i < most; i++) {
            const float center = first + i*WARP*4 < D ? mean[r] : 0;    /* zeros beyond the row stay so */
            for (int j = 0; j < 4; j++) {
                v[r][i][j] -= center;
                square[j] = fmaf(v[r][i][j], v[r][i][j], square[j]);
            }
        }
        rstd[r] = sum4(square);
    }
    #pragma unroll
    for (int r = 0; r < rows; r++)
        rstd[r] = rsqrtf(fmaf(warp_sum(rstd[r]), per, eps));
    #pragma unroll
    for (int i = 0; i < most; i++) {
        const int d = first + i*WARP*4;
        if (d < D) {
            float g[4], b[4];
            #pragma unroll
            for (int r = 0; r < rows; r++) {
                if (modulated || r == 0)
                    load_affine<modulated>(g, b, gamma + image[r] + d, beta + image[r] + d);
                for (int j = 0; j < 4; j++)
                    v[r][i][j] = fmaf(v[r][i][j]*rstd[r], g[j], b[j]);
                if (n + r < N)
                    store_run(y, (n + r)*D + d, v[r][i]);
            }
        }
    }
}

/* Rows of any width, one a warp. */
template <typename T, typename X, int each, bool modulated>
static __global__ void norm_reread(T *y, const X *x, const Affine a, int64_t N, int D, float eps)
{
    const int64_t n = (int64_t)blockIdx.x*WARPS + threadIdx.x/WARP;
    const int first = threadIdx.x%WARP*each;
    if (n >= N)
        return;
    const int64_t image = modulated ? n/a.S*a.stride : 0;
    const X *row = x + n*D;
    const float *gamma = a.gamma + image, *beta = a.beta + image;
    float sum = 0, square = 0;
    #pragma unroll 4
    for (int d = first; d < D; d += WARP*each) {
        float v[each];
        load_run(v, row + d);
        for (int j = 0; j < each; j++)
            sum += v[j];
    }
    const float mean = warp_sum(sum)/(float)D;
    #pragma unroll 4
    for (int d = first; d < D; d += WARP*each) {
        float v[each];
        load_run(v, row + d);
        for (int j = 0; j < each; j++)
            square += (v[j] - mean)*(v[j] - mean);
    }
    const float rstd = 1/sqrtf(warp_sum(square)/(float)D + eps);
    for (int d = first; d < D; d += WARP*each) {
        float v[each], g[each], b[each];
        load_run(v, row + d);
        load_affine<modulated>(g, b, gamma + d, beta + d);
        for (int j = 0; j < each; j++)
            v[j] = (v[j] - mean)*rstd*g[j] + b[j];
        store_run(y, n*D + d, v);
    }
}

template <int most, int rows, bool modulated, typename T, typename X>
static void launch_kept(T *y, const X *x, const Affine &a, int64_t N, int D, float eps)
{
    LAUNCH((norm_kept<T, X, most, rows, modulated>), gpu_blocks(N, rows*WARPS), WARPS*WARP, 0, y, x, a.gamma, a.beta,
           a.stride, a.S, N, D, 1/(float)D, eps);
}

template <bool modulated, typename T, typename X>
static void norm_as(T *y, const X *x, const Affine &a, int64_t N, int D, float eps)
{
    const uintptr_t addresses = (uintptr_t)y | (uintptr_t)x | (uintptr_t)a.gamma | (uintptr_t)a.beta;
    const bool fours = D%4 == 0 && a.stride%4 == 0 && (addresses&15) == 0;
    const int most = (D + WARP*4 - 1)/(WARP*4);
    if (fours && most <= 3)
        launch_kept<3, 2, modulated>(y, x, a, N, D, eps);
    else if (fours && most <= 6)
        launch_kept<6, 2, modulated>(y, x, a, N, D, eps);
    else if (fours && most <= 10)
        launch_kept<10, 1, modulated>(y, x, a, N, D, eps);
    else if (fours && most <= 20)
        launch_kept<20, 1, modulated>(y, x, a, N, D, eps);
    else if (fours)
        LAUNCH((norm_reread<T, X, 4, modulated>), gpu_blocks(N, WARPS), WARPS*WARP, 0, y, x, a, N, D, eps);
    else
        LAUNCH((norm_reread<T, X, 1, modulated>), gpu_blocks(N, WARPS), WARPS*WARP, 0, y, x, a, N, D, eps);
}

template <bool modulated, typename X>
static void norm(void *y, DType y_type, const X *x, const Affine &a, int64_t N, int D, float eps)
{
    if (y_type == F32)
        norm_as<modulated>((float *)y, x, a, N, D, eps);
    else if (y_type == BF16)
        norm_as<modulated>((bf16 *)y, x, a, N, D, eps);
    else
        norm_as<modulated>((f16 *)y, x, a, N, D, eps);
}

void cuda_layer_norm(void *y, DType y_type, const void *x, DType x_type, const float *gamma, const float *beta,
                     int64_t N, int D, float eps)
{
    const Affine a = {gamma, beta, 0, 1};
    assert(x_type == F32 || x_type == F16);
    if (x_type == F32)
        norm<false>(y, y_type, (const float *)x, a, N, D, eps);
    else
        norm<false>(y, y_type, (const f16 *)x, a, N, D, eps);
}

void cuda_modulate(void *y, DType y_type, const float *x, const float *shift, const float *scale, int64_t stride,
                   int64_t B, int64_t S, int D, float eps)
{
    norm<true>(y, y_type, x, Affine{scale, shift, stride, S}, B*S, D, eps);
}
