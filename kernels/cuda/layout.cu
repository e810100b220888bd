/* SPDX-License-Identifier: MIT */
/* layout.cu -- ops that move rows: nearest upsampling, pixels from patches, token embedding.
 *
 * Threads take neighbouring values (or fours of them, where widths and pointers allow 16-byte loads) of the output, so
 * that both sides are read and written in whole sectors. Bound by memory. */
#include <assert.h>
#include "kernels/cuda/cuda.h"

enum { THREADS = 256 };

typedef struct Sides { int64_t H, W, Ho, Wo; } Sides;

/* The point of x that point (b,h,w) of y is; I: a type that holds them and their products with a side. */
template <typename I> __device__ __forceinline__ int64_t origin(const Sides &s, I point)
{
    const I H = (I)s.H, W = (I)s.W, Ho = (I)s.Ho, Wo = (I)s.Wo;
    const I line = point/Wo, w = point - line*Wo, b = line/Ho, h = line - b*Ho;
    return (int64_t)(b*H + h*H/Ho)*W + w*W/Wo;
}

/* y[b,h,w,:] = x[b, floor(h H/Ho), floor(w W/Wo), :]; each: values a thread, dividing C; small: n and products of sides
 * are less than 2^32, and divided three times as fast */
template <typename T, typename X, int each, bool small>
static __global__ void upsample(T *y, const X *x, Sides s, int C, int64_t n)
{
    const int64_t i = thread_number();
    if (i >= n)
        return;
    const int fields = C/each;
    const int64_t point = small ? (uint32_t)i/(uint32_t)fields : i/fields;
    const int c = (int)(i - point*fields)*each;
    const X *from = x + (small ? origin(s, (uint32_t)point) : origin(s, point))*C + c;
    float v[each];
    load_run(v, from);
    store_run(y, point*C + c, v);
}

template <typename T, typename X> static void upsample_as(T *y, const X *x, int64_t B, Sides s, int C)
{
    const int64_t n = B*s.Ho*s.Wo*C;
    const bool fours = C%4 == 0 && (((uintptr_t)y | (uintptr_t)x)&15) == 0;
    const bool small = n < UINT32_MAX && s.H < UINT16_MAX && s.W < UINT16_MAX && s.Ho < UINT16_MAX && s.Wo < UINT16_MAX;
    if (fours && small)
        LAUNCH((upsample<T, X, 4, true>), gpu_blocks(n/4, THREADS), THREADS, 0, y, x, s, C, n/4);
    else if (fours)
        LAUNCH((upsample<T, X, 4, false>), gpu_blocks(n/4, THREADS), THREADS, 0, y, x, s, C, n/4);
    else
        LAUNCH((upsample<T, X, 1, false>), gpu_blocks(n, THREADS), THREADS, 0, y, x, s, C, n);
}

template <typename T> static void upsample_from(DType x_type, T *y, const void *x, int64_t B, Sides s, int C)
{
    if (x_type == F32)
        upsample_as(y, (const float *)x, B, s, C);
    else
        upsample_as(y, (const T *)x, B, s, C);
}

void cuda_upsample(void *y, DType y_type, const void *x, DType x_type, int64_t B, int64_t H, int64_t W, int C,
                   int64_t Ho, int64_t Wo)
{
    const Sides s = {H, W, Ho, Wo};
    assert(x_type == F32 || x_type == y_type);
    if (y_type == F32)
        upsample_from(x_type, (float *)y, x, B, s, C);
    else if (y_type == BF16)
        upsample_from(x_type, (bf16 *)y, x, B, s, C);
    else
        upsample_from(x_type, (f16 *)y, x, B, s, C);
}

/* y[b, i p + r, j p + s, c] = x[b, i w + j, (r p + s) C + c]: a patch's line of pixels, p C values, lies together in
 * both. each: values a thread, dividing a line */
template <int each> static __global__ void unpatch(float *y, const float *x, int64_t w, int p, int64_t line, int64_t n)
{
    const int64_t at = thread_number()*each;
    if (at >= n)
        return;
    const int64_t row = at/line, j = row%w, above = row/w, r = above%p, patches = above/p;
    float v[each];
    load_run(v, x + ((patches*w + j)*p + r)*line + at - row*line);
    store_run(y, at, v);
}

void cuda_unpatch(float *y, const float *x, int64_t B, int64_t h, int64_t w, int p, int C)
{
    const int64_t line = (int64_t)p*C, n = B*h*w*p*line;
    if (line%4 == 0 && (((uintptr_t)y | (uintptr_t)x)&15) == 0)
        LAUNCH(unpatch<4>, gpu_blocks(n/4, THREADS), THREADS, 0, y, x, w, p, line, n);
    else
        LAUNCH(unpatch<1>, gpu_blocks(n, THREADS), THREADS, 0, y, x, w, p, line, n);
}

/* y[n,:] = table[ids[n],:] + position[n mod S,:], one block a row */
static __global__ void embed(float *y, const float *table, const float *position, const int32_t *ids, int64_t S, int D)
{
    const int64_t n = blockIdx.x;
    const float *row = table + (int64_t)ids[n]*D, *at = position ? position + n%S*D : NULL;
    for (int d = threadIdx.x; d < D; d += blockDim.x)
        y[n*D + d] = at ? row[d] + at[d] : row[d];
}

void cuda_embed(float *y, const float *table, const float *position, const int32_t *ids, int64_t N, int64_t S, int D)
{
    LAUNCH(embed, (unsigned)N, 128, 0, y, table, position, ids, S, D);
}
