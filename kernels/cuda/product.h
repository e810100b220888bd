/* SPDX-License-Identifier: MIT */
/* product.h -- the product behind every convolution and linear layer of the CUDA backend. Private to kernels/cuda.
 *
 *     y[m,o] = act(sum_k x[m,k] w[o,k] + bias[o])   or   y[m,o] = (sum_k x[m,k] w[o,k] + bias[o]) + y[m,o]
 *
 * m is an output point (b, i, j), k a tap and a channel, ((r*kernel + s)*in + c), and x[m,k] the input at
 * (b, i*stride + r - pad, j*stride + s - pad, c), 0 outside the image: gathered from the input while it is copied to
 * shared memory, never written out.
 *
 * Same bytes: a sum goes over k in rising order (16 at a time in tensor cores), whatever the tile, so an output depends
 * on its own inputs alone; no sum is split, but into the slices that a layer and the size of its images decide. */
#ifndef KERNELS_CUDA_PRODUCT_H
#define KERNELS_CUDA_PRODUCT_H

#include "kernels/cuda/cuda.h"

typedef struct Product {
    void *y;
    const void *x, *w;          /* x (B,H,W,in)  w (out,K), both T and 16-byte aligned */
    const float *bias;          /* NULL: none */
    int64_t M;                  /* B*Ho*Wo */
    int in, out, K;             /* in: of whole 16 bytes; K = kernel*kernel*in */
    int H, W, Ho, Wo, kernel, stride, pad;
    Activation act;
    bool add;                   /* y is f32 or f16 */
} Product;

/* Where a thread stands in k: its channel and tap. */
struct Tap {
    int k, c, r, s;

    __device__ __forceinline__ Tap(const Product &p, int k_) : k(k_)
    {
        const int tap = k/p.in;
        c = k - tap*p.in;
        r = tap/p.kernel;
        s = tap - r*p.kernel;
    }

    __device__ __forceinline__ void advance(const Product &p, int by)
    {
        k += by;
        c += by;
        while (c >= p.in) {
            c -= p.in;
            if (++s == p.kernel) {
                s = 0;
                r++;
            }
        }
    }
};

/* The upper left corner of output point m's window. h is far outside the image where there is no such point. */
struct Corner {
    int64_t image;              /* number of its image's first input point */
    int h, w;

    __device__ __forceinline__ Corner(int64_t image_, int h_, int w_) : image(image_), h(h_), w(w_) {}
    __device__ __forceinline__ Corner(const Product &p, int64_t m)
    {
        const int64_t line = m/p.Wo, b = line/p.Ho;
        image = b*p.H*p.W;
        h = m < p.M ? (int)(line - b*p.Ho)*p.stride - p.pad : -(1 << 30);
        w = (int)(m - line*p.Wo)*p.stride - p.pad;
    }

    __device__ __forceinline__ bool inside(const Product &p, const Tap &t) const
    {
        return (unsigned)(h + t.r) < (unsigned)p.H && (unsigned)(w + t.s) < (unsigned)p.W && t.k < p.K;
    }

    /* Index of x's element at tap t; only where inside. */
    __device__ __forceinline__ int64_t element(const Product &p, const Tap &t) const
    {
        return (image + (int64_t)(h + t.r)*p.W + w + t.s)*p.in + t.c;
    }
};

/* What is stored for the sum of output (m, o). T: of y. */
template <typename T> __device__ __forceinline__ float product_finish(const Product &p, float sum, int64_t m, int o)
{
    if (p.bias)
        sum += p.bias[o];
    return p.add ? sum + to_float(((const T *)p.y)[m*p.out + o]) : activate_value(sum, p.act);
}

/* product_half.cu; x_type BF16 or F16, y_type that, F32 or F16. */
void product_half(const Product *p, DType x_type, DType y_type);
void product_f32(const Product *p);                                  /* product_f32.cu; y is f32 */
void product_few(const Product *p);     /* product_few.cu: the same, of a linear layer, with sums in another order */

/* product_hopper.cu, on compute capability 9 (hopper_wanted): whether it makes a layer; x, w and y are then 16-byte
 * aligned. Its sums differ from product_half's in their last bits. With ACT_GEGLU
 * y is out/2 wide and of x_type. What is added to y is of y's type first; sums are rounded, in f32 subnormal ones to
 * zero. */
bool product_hopper_takes(const ConvSpec *s);
void product_hopper(const Product *p, DType x_type, DType y_type);

#endif
