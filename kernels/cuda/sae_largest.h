/* SPDX-License-Identifier: MIT */
/* sae_largest.h -- the few largest of a run of numbers, in registers. */
#ifndef KERNELS_CUDA_SAE_LARGEST_H
#define KERNELS_CUDA_SAE_LARGEST_H

#include <float.h>
#include "kernels/cuda/sae_cuda.h"

/* NaN and -inf become the least number: never chosen before another. */
__device__ __forceinline__ float number(float v)
{
    return v >= -FLT_MAX ? v : -FLT_MAX;
}

/* Largest first, ties by column. rising: columns come rising, so that an equal value stays behind those there. */
template <int keep, bool rising> struct Largest {
    float value[keep];
    int column[keep];

    __device__ __forceinline__ void begin(void)
    {
        for (int j = 0; j < keep; j++) {
            value[j] = -INFINITY;
            column[j] = 0;
        }
    }

    static __device__ __forceinline__ bool before(float v, int c, float w, int d)
    {
        return v > w || (!rising && v == w && c < d);
    }

    __device__ __forceinline__ void insert(float v, int c)
    {
        if (!before(v, c, value[keep - 1], column[keep - 1]))
            return;
        value[keep - 1] = v;
        column[keep - 1] = c;
        #pragma unroll
        for (int j = keep - 1; j > 0; j--)
            if (before(value[j], column[j], value[j - 1], column[j - 1])) {
                const float other = value[j];
                const int place = column[j];
                value[j] = value[j - 1];
                column[j] = column[j - 1];
                value[j - 1] = other;
                column[j - 1] = place;
            }
    }

    /* insert without branches: for values of which many go in. */
    __device__ __forceinline__ void put(float v, int c)
    {
        bool above[keep];
        #pragma unroll
        for (int j = 0; j < keep; j++)
            above[j] = before(v, c, value[j], column[j]);
        #pragma unroll
        for (int j = keep - 1; j > 0; j--) {
            value[j] = above[j - 1] ? value[j - 1] : above[j] ? v : value[j];
            column[j] = above[j - 1] ? column[j - 1] : above[j] ? c : column[j];
        }
        value[0] = above[0] ? v : value[0];
        column[0] = above[0] ? c : column[0];
    }

    /* As the at-th candidates of SaeProduct. */
    __device__ __forceinline__ void write(const SaeProduct &p, int64_t at) const
    {
        for (int j = 0; j < keep; j += 4) {
            const float *v = &value[j];
            const int *c = &column[j];
            *(float4 *)(p.value + at*keep + j) = make_float4(v[0], v[1], v[2], v[3]);
            *(uint32_t *)(p.column + at*keep + j) = (uint32_t)(c[0] | c[1] << 8 | c[2] << 16 | c[3] << 24);
        }
    }
};

#endif
