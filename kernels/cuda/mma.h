/* SPDX-License-Identifier: MIT */
/* mma.h -- the tensor core's instructions, of compute capability 8.0 and later: products of 16x16 by 16x8 of T, bf16 or
 * f16, with f32 sums, fragments from shared memory, and copies to shared memory that run beside the arithmetic.
 *
 *   A (16,16) T, a[4]: lane l has rows l/4 and l/4 + 8 (a[0], a[1]) at columns 2(l%4), and 8 columns on (a[2], a[3])
 *   B (16,8)  T, b[2]: lane l has column l/4 at rows 2(l%4), and 8 rows on
 *   C (16,8)  f32, c[4]: lane l has row l/4 at columns 2(l%4) and one more (c[0], c[1]), and row l/4 + 8
 *
 * PTX ISA 8.x, sections mma.m16n8k16, ldmatrix, cp.async. Every lane of a warp calls each of them (copies apart). */
#ifndef KERNELS_CUDA_MMA_H
#define KERNELS_CUDA_MMA_H

#include "kernels/cuda/cuda.h"

/* c += A B */
template <typename T>
__device__ __forceinline__ void mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
#ifdef SIMT
    const SimtBoard *board = simt_mma_board(a, b, dtype_of<T> == F16);
    const int row = simt_lane()/4, column = simt_lane()%4*2;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 16; k++)
            c[i] += board->A[row + i/2*8][k]*board->B[k][column + i%2];
#else
#define MMA(type)                                                                                                      \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, " \
                 "{%0,%1,%2,%3};"                                                                                      \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
    if constexpr (dtype_of<T> == F16)
        MMA("f16");
    else
        MMA("bf16");
#undef MMA
#endif
}

/* Four 8x8 matrices of T from shared memory: lane 8m + i gives the address of row i of matrix m (16 bytes, aligned);
 * register m gets that matrix as a quarter of A, or as half of B where its rows are B's columns. */
__device__ __forceinline__ void load_matrices(uint32_t r[4], const void *row)
{
#ifdef SIMT
    simt_ldmatrix(r, row, 4, false);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row)) : "memory");
#endif
}

/* The same of the transposed matrices: rows in memory are B's rows. */
__device__ __forceinline__ void load_matrices_transposed(uint32_t r[4], const void *row)
{
#ifdef SIMT
    simt_ldmatrix(r, row, 4, true);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row)) : "memory");
#endif
}

/* 16 bytes from global to shared memory, both aligned to 16; or zeros where not there (from is then not read). */
__device__ __forceinline__ void copy_async(void *to, const void *from, bool there)
{
#ifdef SIMT
    simt_copy_async(to, from, there ? 16 : 0);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(there ? 16 : 0) : "memory");
#endif
}

/* The same of what is there and will not be read again: the second-level cache lets it go first. */
__device__ __forceinline__ void copy_async_once(void *to, const void *from)
{
#ifdef SIMT
    simt_copy_async(to, from, 16);
#else
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;"
                 :: "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "l"(policy) : "memory");
#endif
}

/* The same where others read what is beside it soon: the second-level cache gets all of its 256 bytes. */
__device__ __forceinline__ void copy_async_near(void *to, const void *from)
{
#ifdef SIMT
    simt_copy_async(to, from, 16);
#else
    asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16;"
                 :: "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from) : "memory");
#endif
}

/* Ends a group of this thread's copies. */
__device__ __forceinline__ void copy_commit(void)
{
#ifdef SIMT
    simt_copy_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Waits for all of this thread's groups but the newest ones. */
template <int newest> __device__ __forceinline__ void copy_wait(void)
{
#ifdef SIMT
    simt_copy_wait(newest);
#else
    asm volatile("cp.async.wait_group %0;" :: "n"(newest) : "memory");
#endif
}

#endif
