/* SPDX-License-Identifier: MIT */
/* sae_sort.h -- a short list sorted by a warp or by a block. Private to kernels/cuda. */
#ifndef KERNELS_CUDA_SAE_SORT_H
#define KERNELS_CUDA_SAE_SORT_H

#include "kernels/cuda/cuda.h"

/* Those who sort together. */
struct Block {
    static __device__ __forceinline__ int thread(void) { return threadIdx.x; }
    static __device__ __forceinline__ int threads(void) { return blockDim.x; }
    static __device__ __forceinline__ void meet(void) { __syncthreads(); }
};

struct Warp {
    static __device__ __forceinline__ int thread(void) { return threadIdx.x%WARP; }
    static __device__ __forceinline__ int threads(void) { return WARP; }
    static __device__ __forceinline__ void meet(void) { __syncwarp(); }
};

/* rising: least first, else greatest. n keys in shared or global memory, by a whole Team, which has met after they were
 * written. Bitonic with the first step of each merge mirrored: all exchanges go one way, so that n may be any number.
 * Ends at a barrier. */
template <typename Team, bool rising, typename Key> __device__ __forceinline__ void sort(Key *list, int n)
{
    int pairs = 1;
    while (2*pairs < n)
        pairs *= 2;
    for (int size = 2; size/2 < n; size *= 2)
        for (int step = size/2; step; step /= 2) {
            for (int p = Team::thread(); p < pairs; p += Team::threads()) {
                const int in = p & (step - 1), low = 2*(p - in) + in;
                const int high = step == size/2 ? 2*(p - in) + size - 1 - in : low + step;
                if (high < n && (rising ? list[high] < list[low] : list[low] < list[high])) {
                    const Key k = list[low];
                    list[low] = list[high];
                    list[high] = k;
                }
            }
            Team::meet();
        }
}

#endif
