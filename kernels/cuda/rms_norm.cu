/* SPDX-License-Identifier: MIT */
/* rms_norm.cu -- RMS norm of runs of a row.
 *
 *     y[n,g,d] = x[n,g,d] / sqrt(mean of x[n,g,:]^2 + eps) * gamma[d]
 *
 *   x, y (N,groups,D) f32, bf16 or f16, rows at any stride, y may be x   gamma (D) f32
 *   Zhang and Sennrich 2019 (arXiv 1910.07467).
 *
 * A warp has one run, or several where few lanes hold one in loads of 16 bytes: heads of 64 are 8 lanes of bf16, and
 * then all of a warp's runs are under way at a time. A lane reads what it writes twice, the second time from the
 * first-level cache. Bound by memory: x is read once and y written once. */
#include "kernels/cuda/cuda.h"

enum { THREADS = 256 };

/* Of `lanes` lanes a run, a power of two. */
template <typename Y, typename X, int each>
static __global__ void rms_norm(Y *y, int64_t y_stride, const X *x, int64_t x_stride, const float *__restrict__ gamma,
                                int64_t runs, int groups, int D, float eps, int lanes)
{
    const int64_t run = thread_number()/lanes, n = run/groups, at = (run - n*groups)*D;
    const int first = threadIdx.x%lanes*each, end = run < runs ? D : 0;         /* all lanes of a warp join its sums */
    const X *from = x + n*x_stride + at;
    float square = 0;
    #pragma unroll 4
    for (int d = first; d < end; d += lanes*each) {
        float v[each];
        load_run(v, from + d);
        for (int j = 0; j < each; j++)
            square = fmaf(v[j], v[j], square);
    }
    for (int step = lanes/2; step; step /= 2)
        square += __shfl_xor_sync(ALL_LANES, square, step);
    const float by = 1/sqrtf(square/(float)D + eps);
    for (int d = first; d < end; d += lanes*each) {
        float v[each], g[each];
        load_run(v, from + d);
        load_run(g, gamma + d);
        for (int j = 0; j < each; j++)
            v[j] = v[j]*by*g[j];
        store_run(y, n*y_stride + at + d, v);
    }
}

template <typename Y, typename X, int each>
static void launch(Y *y, int64_t y_stride, const X *x, int64_t x_stride, const float *gamma, int64_t N, int groups,
                   int D, float eps)
{
    const int64_t runs = N*groups;
    int lanes = 1;
    while (lanes < WARP && lanes*each < D)
        lanes *= 2;
    LAUNCH((rms_norm<Y, X, each>), gpu_blocks(runs*lanes, THREADS), THREADS, 0, y, y_stride, x, x_stride, gamma, runs,
           groups, D, eps, lanes);
}

template <typename Y, typename X>
static void norm_as(Y *y, int64_t y_stride, const X *x, int64_t x_stride, const float *gamma, int64_t N, int groups,
                    int D, float eps)
{
    constexpr int each = 16/sizeof(X);
    const bool pieces = D%each == 0 && x_stride%each == 0 && y_stride%each == 0
        && (((uintptr_t)y | (uintptr_t)x | (uintptr_t)gamma)&15) == 0;
    if (pieces)
        launch<Y, X, each>(y, y_stride, x, x_stride, gamma, N, groups, D, eps);
    else
        launch<Y, X, 1>(y, y_stride, x, x_stride, gamma, N, groups, D, eps);
}

template <typename X>
static void norm_of(void *y, DType y_type, int64_t y_stride, const X *x, int64_t x_stride, const float *gamma,
                    int64_t N, int groups, int D, float eps)
{
    if (y_type == F32)
        norm_as((float *)y, y_stride, x, x_stride, gamma, N, groups, D, eps);
    else if constexpr (dtype_of<X> != F32)      /* a half's y is that half, or f32 */
        norm_as((X *)y, y_stride, x, x_stride, gamma, N, groups, D, eps);
    else if (y_type == BF16)
        norm_as((bf16 *)y, y_stride, x, x_stride, gamma, N, groups, D, eps);
    else
        norm_as((f16 *)y, y_stride, x, x_stride, gamma, N, groups, D, eps);
}

void cuda_rms_norm(void *y, DType y_type, int64_t y_stride, const void *x, DType x_type, int64_t x_stride,
                   const float *gamma, int64_t N, int groups, int D, float eps)
{
    if (x_type == F32)
        norm_of(y, y_type, y_stride, (const float *)x, x_stride, gamma, N, groups, D, eps);
    else if (x_type == BF16)
        norm_of(y, y_type, y_stride, (const bf16 *)x, x_stride, gamma, N, groups, D, eps);
    else
        norm_of(y, y_type, y_stride, (const f16 *)x, x_stride, gamma, N, groups, D, eps);
}
