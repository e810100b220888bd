/* SPDX-License-Identifier: MIT */
/* wgmma.h -- products by four warps of compute capability 9.0a, from the stages of hopper.h.
 *
 *   C (64,n) f32, sum[n/2]: thread t of 128 has rows t/32*16 + t%32/4 (sum[4j], sum[4j+1]) and 8 further on
 *     (sum[4j+2], sum[4j+3]) at columns 8j + 2(t%4) and one more, j < n/8
 *   A (64,16) T (bf16 or f16), k along memory, in a stage; or in registers, 4 a thread: those rows at columns 2(t%4)
 *     and one more, then the same at columns 8 further on. So C, rounded, is A of the next product, 16 columns a time
 *   B (n,16) T, k along memory; or, beside A in registers, n along memory
 *
 * PTX ISA 8.x, section wgmma.mma_async (descriptors, fragments). Compiled for sm_90a only. */
#ifndef KERNELS_CUDA_WGMMA_H
#define KERNELS_CUDA_WGMMA_H

#include "kernels/cuda/hopper.h"

/* The operand whose first row begins at p, in a stage, k along memory; 16 of k further on: 2 more. */
__device__ __forceinline__ uint64_t operand(const void *p)
{
    const uint64_t next_rows = 8*BOX_DEPTH*2;           /* bytes from 8 rows to the next 8 */
    return (uint64_t)((shared_address(p) & 0x3ffff) >> 4) | (uint64_t)1 << 16 | next_rows >> 4 << 32
           | (uint64_t)1 << 62;
}

/* B with n along memory, whose first row of k begins at p: a row has 64 of n, the next 64 are `next_columns` bytes
 * further on, k row by row; 16 of k further on: ROWS_16 more. A product may take fewer than all of the last 64: PTX
 * gives n in steps of 8 for any layout, though the layouts that it and CUTLASS show end with whole ones. */
enum { ROWS_16 = 16*BOX_DEPTH*2/16 };

__device__ __forceinline__ uint64_t operand_across(const void *p, int next_columns)
{
    const uint64_t next_rows = 8*BOX_DEPTH*2;
    return (uint64_t)((shared_address(p) & 0x3ffff) >> 4) | (uint64_t)next_columns >> 4 << 16 | next_rows >> 4 << 32
           | (uint64_t)1 << 62;
}

#ifndef SIMT
__device__ __forceinline__ void hold_one(float &value) { asm volatile("" : "+f"(value) :: "memory"); }
__device__ __forceinline__ void hold_one(uint32_t &value) { asm volatile("" : "+r"(value) :: "memory"); }
#endif

/* The compiler moves nothing that makes or reads them across this. */
template <typename V, int n> __device__ __forceinline__ void hold(V (&values)[n])
{
#ifndef SIMT
    #pragma unroll
    for (int i = 0; i < n; i++)
        hold_one(values[i]);
#else
    (void)values;
#endif
}

/* Before the first product that takes registers, sums or others, which other instructions have touched. */
template <typename... R> __device__ __forceinline__ void products_begin(R &...touched)
{
    (hold(touched), ...);
#ifdef SIMT
    simt_wgmma_fence();
#else
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

/* Ends a group of products. */
__device__ __forceinline__ void products_commit(void)
{
#ifdef SIMT
    simt_wgmma_commit();
#else
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

/* Waits for all groups but the newest ones: their operands are read. */
template <int newest> __device__ __forceinline__ void products_wait(void)
{
#ifdef SIMT
    simt_wgmma_wait(newest);
#else
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(newest) : "memory");
#endif
}

/* Waits for all groups but the newest ones: sum, which is of those, may be read. */
template <int newest = 0, int n> __device__ __forceinline__ void products_finish(float (&sum)[n])
{
    products_wait<newest>();
    hold(sum);
}

#define SUMS_4(i) "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 4), SUMS_4(i + 8), SUMS_4(i + 12)
#define SUMS_64(i) SUMS_16(i), SUMS_16(i + 16), SUMS_16(i + 32), SUMS_16(i + 48)
#define NAMES_8(a, b, c, d, e, f, g, h) "%" #a ",%" #b ",%" #c ",%" #d ",%" #e ",%" #f ",%" #g ",%" #h
#define NAMES_16 NAMES_8(0, 1, 2, 3, 4, 5, 6, 7) "," NAMES_8(8, 9, 10, 11, 12, 13, 14, 15)
#define NAMES_20 NAMES_16 ",%16,%17,%18,%19"
#define NAMES_32 NAMES_16 "," NAMES_8(16, 17, 18, 19, 20, 21, 22, 23) "," NAMES_8(24, 25, 26, 27, 28, 29, 30, 31)
#define NAMES_40 NAMES_32 "," NAMES_8(32, 33, 34, 35, 36, 37, 38, 39)
#define NAMES_64 NAMES_40 "," NAMES_8(40, 41, 42, 43, 44, 45, 46, 47) "," NAMES_8(48, 49, 50, 51, 52, 53, 54, 55) "," \
                 NAMES_8(56, 57, 58, 59, 60, 61, 62, 63)
#define NAMES_80 NAMES_64 "," NAMES_8(64, 65, 66, 67, 68, 69, 70, 71) "," NAMES_8(72, 73, 74, 75, 76, 77, 78, 79)
#define NAMES_128 NAMES_80 "," NAMES_8(80, 81, 82, 83, 84, 85, 86, 87) "," NAMES_8(88, 89, 90, 91, 92, 93, 94, 95) "," \
                  NAMES_8(96, 97, 98, 99, 100, 101, 102, 103) "," \
                  NAMES_8(104, 105, 106, 107, 108, 109, 110, 111) "," \
                  NAMES_8(112, 113, 114, 115, 116, 117, 118, 119) "," \
                  NAMES_8(120, 121, 122, 123, 124, 125, 126, 127)
/* a, b, add: the numbers of the operands that come after the sums */
#define PRODUCT_OF(type, columns, names, a, b, add_, ...)                                                              \
    asm volatile("{\n\t.reg .pred add;\n\tsetp.ne.b32 add, %" #add_ ", 0;\n\t"                                         \
                 "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type " {" names "}, "                \
                 "%" #a ", %" #b ", add, 1, 1, 0, 0;\n\t}"                                                             \
                 : __VA_ARGS__ : "l"(A), "l"(B), "r"((int)add))
#define PRODUCT(...)                                                                                                   \
    do {                                                                                                               \
        if constexpr (dtype_of<T> == F16)                                                                              \
            PRODUCT_OF("f16", __VA_ARGS__);                                                                            \
        else                                                                                                           \
            PRODUCT_OF("bf16", __VA_ARGS__);                                                                           \
    } while (0)

/* sum += A B^T over 16 of k, or = A B^T where not add; B has 32, 64, 80, 128, 160 or 256 rows. All four warps; under
 * way until waited for. */
template <typename T, int columns>
__device__ __forceinline__ void product_64(float (&sum)[columns/2], uint64_t A, uint64_t B, bool add)
{
    static_assert(columns == 32 || columns == 64 || columns == 80 || columns == 128 || columns == 160
                  || columns == 256, "the widths that are here");
#ifdef SIMT
    simt_wgmma(sum, columns, A, B, add, dtype_of<T> == F16);
#else
    if constexpr (columns == 32)
        PRODUCT(32, NAMES_16, 16, 17, 18, SUMS_16(0));
    else if constexpr (columns == 64)
        PRODUCT(64, NAMES_32, 32, 33, 34, SUMS_16(0), SUMS_16(16));
    else if constexpr (columns == 80)
        PRODUCT(80, NAMES_40, 40, 41, 42, SUMS_16(0), SUMS_16(16), SUMS_4(32), SUMS_4(36));
    else if constexpr (columns == 128)
        PRODUCT(128, NAMES_64, 64, 65, 66, SUMS_64(0));
    else if constexpr (columns == 160)
        PRODUCT(160, NAMES_80, 80, 81, 82, SUMS_64(0), SUMS_16(64));
    else
        PRODUCT(256, NAMES_128, 128, 129, 130, SUMS_64(0), SUMS_64(64));
#endif
}

/* the same, by A in registers: a0 to a3, b, add */
#define LEFT_OF(type, columns, names, a0, a1, a2, a3, b, add_, ...)                                                    \
    asm volatile("{\n\t.reg .pred add;\n\tsetp.ne.b32 add, %" #add_ ", 0;\n\t"                                         \
                 "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type " {" names "}, "                \
                 "{%" #a0 ",%" #a1 ",%" #a2 ",%" #a3 "}, %" #b ", add, 1, 1, 1;\n\t}"                                  \
                 : __VA_ARGS__ : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "l"(B), "r"((int)add))
#define LEFT(...)                                                                                                      \
    do {                                                                                                               \
        if constexpr (dtype_of<T> == F16)                                                                              \
            LEFT_OF("f16", __VA_ARGS__);                                                                               \
        else                                                                                                           \
            LEFT_OF("bf16", __VA_ARGS__);                                                                              \
    } while (0)

/* sum += A B over 16 of k, or = A B where not add: A (64,16) in registers, those of mma.h's 16 rows a warp, which stay
 * as they are until the product is waited for; B of operand_across, 40, 64, 80 or 160 of n. */
template <typename T, int columns>
__device__ __forceinline__ void product_left(float (&sum)[columns/2], const uint32_t *A, uint64_t B, bool add)
{
    static_assert(columns == 40 || columns == 64 || columns == 80 || columns == 160, "the widths that are here");
#ifdef SIMT
    simt_wgmma_left(sum, columns, A, B, add, dtype_of<T> == F16);
#else
    if constexpr (columns == 40)
        LEFT(40, NAMES_20, 20, 21, 22, 23, 24, 25, SUMS_16(0), SUMS_4(16));
    else if constexpr (columns == 64)
        LEFT(64, NAMES_32, 32, 33, 34, 35, 36, 37, SUMS_16(0), SUMS_16(16));
    else if constexpr (columns == 80)
        LEFT(80, NAMES_40, 40, 41, 42, 43, 44, 45, SUMS_16(0), SUMS_16(16), SUMS_4(32), SUMS_4(36));
    else
        LEFT(160, NAMES_80, 80, 81, 82, 83, 84, 85, SUMS_64(0), SUMS_16(64));
#endif
}

#undef SUMS_4
#undef SUMS_16
#undef SUMS_64
#undef NAMES_8
#undef NAMES_16
#undef NAMES_20
#undef NAMES_32
#undef NAMES_40
#undef NAMES_64
#undef NAMES_80
#undef NAMES_128
#undef PRODUCT_OF
#undef PRODUCT
#undef LEFT_OF
#undef LEFT

#endif
