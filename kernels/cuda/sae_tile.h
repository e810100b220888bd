/* SPDX-License-Identifier: MIT */
/* sae_tile.h -- a tile of a product in f32: sum (128,128) = A (128,K) B (128,K)^T by a block of 256 threads.
 *
 * A thread has 8 x 8 sums, each one chain of FMAs over k; no TF32. 16 of k are in shared memory, turned ([k][row]),
 * while the next 16 come into registers: 1024 FMAs a thread for 16 numbers read, so their addresses may be any. Bound
 * by the arithmetic. */
#ifndef KERNELS_CUDA_SAE_TILE_H
#define KERNELS_CUDA_SAE_TILE_H

#include "kernels/cuda/sae_cuda.h"

enum { TILE_THREADS = 256, TILE_STEP = 16, TILE_PITCH = TILE + 4, TILE_FETCHED = TILE*TILE_STEP/TILE_THREADS };
enum { TILE_SHARED = 4*TILE_STEP*TILE_PITCH*4 };       /* bytes: two steps of two operands */

/* Rows (columns) of the tile that thread t of 16 has: 4t..4t+3 and 64 further on, so that what a quarter of a warp
 * reads is one run. */
__device__ __forceinline__ int tile_place(int t, int i)
{
    return t*4 + i%4 + i/4*64;
}

__device__ __forceinline__ int tile_down(int i)         /* this thread's rows, i < 8 */
{
    return tile_place(threadIdx.x/16, i);
}

__device__ __forceinline__ int tile_across(int j)       /* and columns */
{
    return tile_place(threadIdx.x%16, j);
}

/* The i-th number that this thread fetches of an operand's step: neighbours in memory are those in k, or those in the
 * row. */
template <bool by_k> __device__ __forceinline__ int fetched_row(int i)
{
    return by_k ? threadIdx.x/TILE_STEP + i*(TILE_THREADS/TILE_STEP) : threadIdx.x%TILE;
}

template <bool by_k> __device__ __forceinline__ int fetched_k(int i)
{
    return by_k ? threadIdx.x%TILE_STEP : threadIdx.x/TILE + i*(TILE_THREADS/TILE);
}

/* a(i, step), b(i, step): what fetched_row(i) and step*TILE_STEP + fetched_k(i) name, 0 beyond an operand's ends.
 * shared: TILE_SHARED bytes, free again after the call, which ends at a barrier. */
template <bool a_by_k, bool b_by_k, typename A, typename B>
__device__ __forceinline__ void tile_f32(float (&sum)[8][8], float *shared, int steps, A a, B b)
{
    float ahead[2][TILE_FETCHED];
    auto fetch = [&](int step) {
        #pragma unroll
        for (int i = 0; i < TILE_FETCHED; i++) {
            ahead[0][i] = a(i, step);
            ahead[1][i] = b(i, step);
        }
    };
    auto put = [&](int step) {
        float *to = shared + step%2*2*TILE_STEP*TILE_PITCH;
        #pragma unroll
        for (int i = 0; i < TILE_FETCHED; i++) {
            to[fetched_k<a_by_k>(i)*TILE_PITCH + fetched_row<a_by_k>(i)] = ahead[0][i];
            to[(TILE_STEP + fetched_k<b_by_k>(i))*TILE_PITCH + fetched_row<b_by_k>(i)] = ahead[1][i];
        }
    };
    fetch(0);
    put(0);
    for (int s = 0; s < steps; s++) {
        __syncthreads();                /* step s is there for all, and all have left step s - 1 */
        if (s + 1 < steps)
            fetch(s + 1);
        const float *left = shared + s%2*2*TILE_STEP*TILE_PITCH, *right = left + TILE_STEP*TILE_PITCH;
        #pragma unroll
        for (int k = 0; k < TILE_STEP; k++) {
            float r[2][4], c[2][4];
            #pragma unroll
            for (int i = 0; i < 2; i++) {
                load_run(r[i], left + k*TILE_PITCH + tile_down(i*4));
                load_run(c[i], right + k*TILE_PITCH + tile_across(i*4));
            }
            #pragma unroll
            for (int i = 0; i < 8; i++)
                #pragma unroll
                for (int j = 0; j < 8; j++)
                    sum[i][j] = fmaf(r[i/4][i%4], c[j/4][j%4], sum[i][j]);
        }
        if (s + 1 < steps)
            put(s + 1);
    }
    __syncthreads();
}

#endif
