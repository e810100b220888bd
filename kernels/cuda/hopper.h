/* SPDX-License-Identifier: MIT */
/* hopper.h -- what compute capability 9 has to bring data to a block and to say that it is there: boxes of a matrix
 * copied to shared memory by the copy engine, barriers in shared memory that say when they have come, and clusters of
 * blocks that reach each other's shared memory. Products of what has come: wgmma.h.
 *
 * A row of a stage is BOX_DEPTH = 64 values of 16 bits, 128 bytes, and its 8 parts of 16 bytes are turned by the row:
 * bits 4..6 of an address are xored with bits 7..9 ("128-byte swizzle"), by the copy as by the product. So a stage
 * begins at a multiple of 1024 bytes.
 *
 * PTX ISA 8.x, sections mbarrier, cp.async.bulk.tensor, barrier.cluster, mapa, setmaxnreg. Code that calls
 * multicast_box is compiled for sm_90a only, other code for sm_90 too. */
#ifndef KERNELS_CUDA_HOPPER_H
#define KERNELS_CUDA_HOPPER_H

#include <cuda.h>
#include "kernels/cuda/hopper_watch.h"

enum { WARPGROUP = 128, GROUP_WARPS = WARPGROUP/WARP, BOX_DEPTH = 64, BOX_ALIGNMENT = 1024 };

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
#ifdef SIMT
    return simt_shared_address(p);
#else
    return (uint32_t)__cvta_generic_to_shared(p);
#endif
}

/* The block's shared memory from a multiple of BOX_ALIGNMENT on, for which it has as much more. */
__device__ __forceinline__ unsigned char *box_memory(void)
{
    unsigned char *p = shared_memory();
    return p + (-shared_address(p) & (BOX_ALIGNMENT - 1));
}

/* A thread's warp: the same in all lanes, and seen to be by the compiler, since wgmma is for whole warps. */
__device__ __forceinline__ int warp_number(void)
{
    return __shfl_sync(ALL_LANES, (int)threadIdx.x/WARP, 0);
}

/* n/d by a product, for n from 0 to 2^31 - 1 (Granlund and Montgomery 1994): tiles are numbered, and before it knows
 * where one is, the first copy of a block would wait for divisions of a hundred cycles and more each. */
struct Divider {
    uint32_t factor, shift;

    static Divider by(int d)            /* d at least 1 */
    {
        uint32_t log = 0;
        while ((int64_t)1 << log < d)
            log++;
        return {(uint32_t)((((uint64_t)1 << 32)*(((uint64_t)1 << log) - (uint64_t)d))/(uint64_t)d + 1), log};
    }

    __device__ __forceinline__ int of(int n) const
    {
        return (int)(((uint32_t)((uint64_t)factor*(uint32_t)n >> 32) + (uint32_t)n) >> shift);
    }
};

/* ---- registers: a block's threads begin with equal shares ---- */

/* Whether `groups` of four warps find what they take, `most` a thread, when one more has given away all but `least`:
 * else they would wait for ever. */
constexpr bool registers_suffice(int threads, int groups, int most, int least)
{
    return (groups*most + least)*WARPGROUP <= 65536/threads/8*8*threads;
}

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
#ifdef SIMT
    simt_barriers_created();
#else
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
#elif defined WATCH
    watch_wait(shared_address(b), parity);
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

/* Four 8x8 matrices of 16 bits to shared memory: lane 8m + i gives the address of row i of matrix m (16 bytes,
 * aligned); word m of a lane is the two values of that matrix that it has of a product's sums (wgmma.h). */
__device__ __forceinline__ void store_matrices(void *row, const uint32_t (&word)[4])
{
#ifdef SIMT
    const int lane = threadIdx.x%WARP;
    for (int m = 0; m < 4; m++)
        *(uint32_t *)((char *)__shfl_sync(ALL_LANES, row, 8*m + lane/4) + lane%4*4) = word[m];
#else
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};"
                 :: "r"(shared_address(row)), "r"(word[0]), "r"(word[1]), "r"(word[2]), "r"(word[3]) : "memory");
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

/* The same, added to what is there: f32 or f16, each value once, rounded to nearest, in f32 subnormals to zero. */
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

/* All threads of a cluster of so many blocks, or of a block on its own. */
template <int blocks> __device__ __forceinline__ void cluster_meet(void)
{
    if constexpr (blocks > 1) {
        cluster_arrive();
        cluster_wait();
    } else {
        __syncthreads();
    }
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

#endif
