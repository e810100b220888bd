/* SPDX-License-Identifier: MIT */
/* hopper.h -- what compute capability 9.0a adds to mma.h: products by four warps from shared memory, boxes of a matrix
 * copied there by the copy engine, the barriers in shared memory that say when they have come, and clusters of blocks
 * that reach each other's shared memory.
 *
 *   C (64,n) f32, sum[n/2]: thread t of 128 has rows t/32*16 + t%32/4 (sum[4j], sum[4j+1]) and 8 further on
 *     (sum[4j+2], sum[4j+3]) at columns 8j + 2(t%4) and one more, j < n/8
 *   A (64,16), B (n,16) T (bf16 or f16), both with k along memory. A row of a stage is BOX_DEPTH = 64 values, 128
 *     bytes, and its 8 parts of 16 bytes are turned by the row: bits 4..6 of an address are xored with bits 7..9
 *     ("128-byte swizzle"), by the copy as by the product. So a stage begins at a multiple of 1024 bytes.
 *
 * PTX ISA 8.x, sections wgmma.mma_async (descriptors, fragments), mbarrier, cp.async.bulk.tensor, barrier.cluster,
 * mapa. Code that calls products or multicast_box is compiled for sm_90a only, other code for sm_90 too. */
#ifndef KERNELS_CUDA_HOPPER_H
#define KERNELS_CUDA_HOPPER_H

#include <cuda.h>
#include "kernels/cuda/cuda.h"

enum { WARPGROUP = 128, BOX_DEPTH = 64, BOX_ALIGNMENT = 1024 };

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
#ifdef SIMT
    return simt_shared_address(p);
#else
    return (uint32_t)__cvta_generic_to_shared(p);
#endif
}

/* ---- registers: a block's threads begin with equal shares ---- */

/* All warps of a group of four: at most so many registers a thread from here on (24 to 240, a multiple of 8), fewer
 * than before, so that others may take more; taking waits until they are there. */
template <int registers> __device__ __forceinline__ void registers_give(void)
{
#ifndef SIMT
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(registers));
#endif
}

template <int registers> __device__ __forceinline__ void registers_take(void)
{
#ifndef SIMT
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(registers));
#endif
}

/* ---- barriers: a phase ends when all arrivals and all announced bytes are there ---- */

typedef uint64_t Barrier;               /* in shared memory */

__device__ __forceinline__ void barrier_create(Barrier *b, unsigned arrivals)
{
#ifdef SIMT
    simt_barrier_create(b, arrivals);
#else
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(shared_address(b)), "r"(arrivals) : "memory");
#endif
}

/* By the thread that created them, before the block (or, where others of the cluster use them, the cluster) meets: the
 * copy engine sees them too. */
__device__ __forceinline__ void barriers_created(void)
{
#ifndef SIMT
    asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory");
#endif
}

__device__ __forceinline__ void barrier_arrive(Barrier *b)
{
#ifdef SIMT
    simt_barrier_arrive(b, 0);
#else
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(shared_address(b)) : "memory");
#endif
}

/* Arrives, and announces bytes that copies will bring in this phase. */
__device__ __forceinline__ void barrier_expect(Barrier *b, unsigned bytes)
{
#ifdef SIMT
    simt_barrier_arrive(b, bytes);
#else
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(shared_address(b)), "r"(bytes)
                 : "memory");
#endif
}

/* Waits for the end of a phase: the n-th has parity n%2. At once for parity 1 before the first phase has ended. */
__device__ __forceinline__ void barrier_wait(Barrier *b, unsigned parity)
{
#ifdef SIMT
    simt_barrier_wait(b, parity);
#else
    asm volatile("{\n\t.reg .pred done;\n"
                 "again:\n\tmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t"
                 "@!done bra again;\n\t}"
                 :: "r"(shared_address(b)), "r"(parity) : "memory");
#endif
}

/* Where a thread is in a ring of stages, each with a barrier that ends a phase a round. */
template <int stages> struct Ring {
    int stage = 0;
    unsigned parity = 0;

    __device__ __forceinline__ void advance(void)
    {
        if (++stage == stages) {
            stage = 0;
            parity ^= 1;
        }
    }

    __device__ __forceinline__ int before(void) const
    {
        return stage ? stage - 1 : stages - 1;
    }
};

/* ---- copies ---- */

/* One thread: a box of the map's size, from (row, column) of its matrix on, zeros beyond the matrix; its bytes arrive
 * at b, all of the box's. The map is a __grid_constant__ parameter of the kernel. */
__device__ __forceinline__ void copy_box(void *to, const CUtensorMap *map, int row, int column, Barrier *b)
{
#ifdef SIMT
    const int at[2] = {column, row};
    simt_copy_box(to, map, at, 2, b, 1u << simt_cluster_rank());
#else
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
                 "[%1, {%2, %3}], [%4];"
                 :: "r"(shared_address(to)), "l"(map), "r"(column), "r"(row), "r"(shared_address(b)) : "memory");
#endif
}

/* The same of a map of four dimensions, that along memory first; at may lie outside. */
typedef struct Place { int at[4]; } Place;

__device__ __forceinline__ void copy_box(void *to, const CUtensorMap *map, const Place &p, Barrier *b)
{
#ifdef SIMT
    simt_copy_box(to, map, p.at, 4, b, 1u << simt_cluster_rank());
#else
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
                 "[%1, {%2, %3, %4, %5}], [%6];"
                 :: "r"(shared_address(to)), "l"(map), "r"(p.at[0]), "r"(p.at[1]), "r"(p.at[2]), "r"(p.at[3]),
                    "r"(shared_address(b)) : "memory");
#endif
}

/* A box to the second-level cache, which may be left undone. */
__device__ __forceinline__ void prefetch_box(const CUtensorMap *map, const Place &p)
{
#ifdef SIMT
    simt_prefetch_box(map, 4);
    (void)p;
#else
    asm volatile("cp.async.bulk.prefetch.tensor.4d.L2.global.tile [%0, {%1, %2, %3, %4}];"
                 :: "l"(map), "r"(p.at[0]), "r"(p.at[1]), "r"(p.at[2]), "r"(p.at[3]) : "memory");
#endif
}

/* The map itself, before its first box. */
__device__ __forceinline__ void prefetch_map(const CUtensorMap *map)
{
#ifdef SIMT
    (void)map;
#else
    asm volatile("prefetch.tensormap [%0];" :: "l"(map) : "memory");
#endif
}

/* ---- copies to memory: by one thread, of what all have written and shown to the copy engine ---- */

/* By every thread that wrote, before it meets the one that copies. */
__device__ __forceinline__ void show_written(void)
{
#ifdef SIMT
    simt_show_written();
#else
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* A box from shared memory; what lies outside the tensor is left out. */
__device__ __forceinline__ void store_box(const CUtensorMap *map, const Place &p, const void *from)
{
#ifdef SIMT
    simt_store_box(map, p.at, 4, from, false);
#else
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];"
                 :: "l"(map), "r"(p.at[0]), "r"(p.at[1]), "r"(p.at[2]), "r"(p.at[3]), "r"(shared_address(from))
                 : "memory");
#endif
}

/* The same, added to what is there: f32, each value once, rounded to nearest, subnormals to zero. */
__device__ __forceinline__ void add_box(const CUtensorMap *map, const Place &p, const void *from)
{
#ifdef SIMT
    simt_store_box(map, p.at, 4, from, true);
#else
    asm volatile("cp.reduce.async.bulk.tensor.4d.global.shared::cta.add.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];"
                 :: "l"(map), "r"(p.at[0]), "r"(p.at[1]), "r"(p.at[2]), "r"(p.at[3]), "r"(shared_address(from))
                 : "memory");
#endif
}

/* Ends a group of this thread's copies to memory. */
__device__ __forceinline__ void stores_commit(void)
{
#ifdef SIMT
    simt_stores_commit();
#else
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#endif
}

/* Waits until all of this thread's groups but the newest ones have been read; all, before the block ends. */
template <int newest> __device__ __forceinline__ void stores_read(void)
{
#ifdef SIMT
    simt_stores_read(newest);
#else
    asm volatile("cp.async.bulk.wait_group.read %0;" :: "n"(newest) : "memory");
#endif
}

/* ---- clusters: blocks started by LAUNCH_CLUSTERS, which run side by side ----
 *
 * A block reaches another's shared memory by the place that the same thing has in its own: from the first meeting of
 * the cluster, before which the other may not have begun, to the last, after which it may have ended. */

/* Which of them this block is: consecutive in blockIdx.x. */
__device__ __forceinline__ unsigned cluster_rank(void)
{
#ifdef SIMT
    return simt_cluster_rank();
#else
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
#endif
}

/* A meeting of all threads of its blocks, whole warps at a time: each arrives, then waits, in turn. What a thread wrote
 * before it arrived, all see that have waited. */
__device__ __forceinline__ void cluster_arrive(void)
{
#ifdef SIMT
    simt_cluster_arrive();
#else
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

/* The same by a thread whose writes nobody needs to see: for what it read of others, and to wait. */
__device__ __forceinline__ void cluster_arrive_relaxed(void)
{
#ifdef SIMT
    simt_cluster_arrive();
#else
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}

__device__ __forceinline__ void cluster_wait(void)
{
#ifdef SIMT
    simt_cluster_wait();
#else
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

#ifndef SIMT
__device__ __forceinline__ uint32_t address_at(const void *p, unsigned rank)
{
    uint32_t address;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(p)), "r"(rank));
    return address;
}
#endif

/* *p of block `rank`. */
__device__ __forceinline__ float load_at(const float *p, unsigned rank)
{
#ifdef SIMT
    return *(const float *)simt_at_rank(p, sizeof *p, rank);
#else
    float value;
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(address_at(p, rank)) : "memory");
    return value;
#endif
}

/* Arrives at *b of block `rank`, which may be this one: says that a stage has been read. Stores of this thread are no
 * part of it, as they would be at a meeting: to wait for them (.release.cluster) takes longer than a stage. */
__device__ __forceinline__ void barrier_arrive_at(Barrier *b, unsigned rank)
{
#ifdef SIMT
    simt_barrier_arrive_at(b, rank);
#else
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" :: "r"(address_at(b, rank)) : "memory");
#endif
}

/* copy_box to every block whose rank's bit is set: to the same place in each, and its bytes arrive at each one's b. */
__device__ __forceinline__ void multicast_box(void *to, const CUtensorMap *map, int row, int column, Barrier *b,
                                              unsigned ranks)
{
#ifdef SIMT
    const int at[2] = {column, row};
    simt_copy_box(to, map, at, 2, b, ranks);
#else
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3}], [%4], %5;"
                 :: "r"(shared_address(to)), "l"(map), "r"(column), "r"(row), "r"(shared_address(b)),
                    "h"((uint16_t)ranks) : "memory");
#endif
}

__device__ __forceinline__ void multicast_box(void *to, const CUtensorMap *map, const Place &p, Barrier *b,
                                              unsigned ranks)
{
#ifdef SIMT
    simt_copy_box(to, map, p.at, 4, b, ranks);
#else
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6], %7;"
                 :: "r"(shared_address(to)), "l"(map), "r"(p.at[0]), "r"(p.at[1]), "r"(p.at[2]), "r"(p.at[3]),
                    "r"(shared_address(b)), "h"((uint16_t)ranks) : "memory");
#endif
}

/* ---- products ---- */

/* The operand whose first row begins at p, in a stage as described above; 16 of k further on: 2 more. */
__device__ __forceinline__ uint64_t operand(const void *p)
{
    const uint64_t next_rows = 8*BOX_DEPTH*2;           /* bytes from 8 rows to the next 8 */
    return (uint64_t)((shared_address(p) & 0x3ffff) >> 4) | (uint64_t)1 << 16 | next_rows >> 4 << 32
           | (uint64_t)1 << 62;
}

/* B with n along memory, whose first row of k begins at p: a row has 64 of n, the next 64 are `next_columns` bytes
 * further on, k row by row; 16 of k further on: ROWS_16 more. */
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
#ifndef SIMT
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
