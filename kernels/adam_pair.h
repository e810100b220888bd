/* SPDX-License-Identifier: MIT */
/* adam_pair.h -- both of Adam's moments in one word, as bf16: m in the upper half, v in the lower. The CPU's and the
 * device's step share it, so that both round the same way.
 *
 * Where a weight has no gradient, v falls by a thousandth a step, less than half of what bf16 tells apart: rounded to
 * the nearest it would stay for ever. So a moment is rounded up with a chance as large as what is cut off, and down
 * otherwise: right on the mean. The chance is drawn of the step and of the value's place among all, by the integer
 * hash lowbias32 (C. Wellons, Prospecting for Hash Functions, 2018), so that no byte depends on threads, ranks or
 * backend. */
#ifndef KERNELS_ADAM_PAIR_H
#define KERNELS_ADAM_PAIR_H

#include <stdint.h>

#ifdef __CUDACC__
#define ADAM_PAIR static __device__ __forceinline__
#else
#define ADAM_PAIR static inline
#endif

/* 32 bits for the value at `place`; step: any number that changes from step to step and from weight to weight. */
ADAM_PAIR uint32_t adam_chance(uint32_t step, uint32_t place)
{
    uint32_t x = place + step;
    x = (x ^ x >> 16)*0x7feb352du;
    x = (x ^ x >> 15)*0x846ca68bu;
    return x ^ x >> 16;
}

/* Of the bits of m and v in f32. A NaN may become 0: the weight that it moved is one too by then. */
ADAM_PAIR uint32_t adam_pair(uint32_t m, uint32_t v, uint32_t chance)
{
    return ((m + (chance >> 16)) & 0xffff0000u) | (v + (chance & 0xffffu)) >> 16;
}

#endif
