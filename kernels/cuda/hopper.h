/* SPDX-License-Identifier: MIT */
/* hopper.h -- what compute capability 9.0a adds to mma.h: products by four warps from shared memory, boxes of a matrix
 * copied there by the copy engine, the barriers in shared memory that say when they have come, and clusters of blocks
 * that reach each other's shared memory.
 *
 *   C (64,256) f32, sum[128]: thread t of 128 has rows t/32*16 + t%32/4 (sum[4j], sum[4j+1]) and 8 further on
 *     (sum[4j+2], sum[4j+3]) at columns 8j + 2(t%4) and one more, j < 32
 *   A (64,16), B (256,16) bf16, both with k along memory. A row of a stage is BOX_DEPTH = 64 values, 128 bytes, and its
 *     8 parts of 16 bytes are turned by the row: bits 4..6 of an address are xored with bits 7..9 ("128-byte swizzle"),
 *     by the copy as by the product. So a stage begins at a multiple of 1024 bytes.
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

/* ---- copies ---- */

/* One thread: a box of the map's size, from (row, column) of its matrix on, zeros beyond the matrix; its bytes arrive
 * at b, all of the box's. The map is a __grid_constant__ parameter of the kernel. */
__device__ __forceinline__ void copy_box(void *to, const CUtensorMap *map, int row, int column, Barrier *b)
{
#ifdef SIMT
    simt_copy_box(to, map, row, column, b);
#else
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
                 "[%1, {%2, %3}], [%4];"
                 :: "r"(shared_address(to)), "l"(map), "r"(column), "r"(row), "r"(shared_address(b)) : "memory");
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
    simt_multicast_box(to, map, row, column, b, ranks);
#else
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3}], [%4], %5;"
                 :: "r"(shared_address(to)), "l"(map), "r"(column), "r"(row), "r"(shared_address(b)),
                    "h"((uint16_t)ranks) : "memory");
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

/* Before the first product that adds to sums which other instructions have touched. */
__device__ __forceinline__ void products_begin(void)
{
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

/* Waits for all groups: sum may be read. */
__device__ __forceinline__ void products_finish(float (&sum)[128])
{
    products_wait<0>();
#ifndef SIMT
    #pragma unroll
    for (int i = 0; i < 128; i++)
        asm volatile("" : "+f"(sum[i]) :: "memory");    /* not read before */
#else
    (void)sum;
#endif
}

#define SUMS_4(i) "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 4), SUMS_4(i + 8), SUMS_4(i + 12)
#define SUMS_64(i) SUMS_16(i), SUMS_16(i + 16), SUMS_16(i + 32), SUMS_16(i + 48)

/* sum += A B^T over 16 of k, or = A B^T where not add. All four warps; under way until waited for. */
__device__ __forceinline__ void product_64x256(float (&sum)[128], uint64_t A, uint64_t B, bool add)
{
#ifdef SIMT
    simt_wgmma(sum, A, B, add);
#else
    asm volatile("{\n\t.reg .pred add;\n\tsetp.ne.b32 add, %130, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
                 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
                 "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
                 "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
                 "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
                 "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, "
                 "%128, %129, add, 1, 1, 0, 0;\n\t}"
                 : SUMS_64(0), SUMS_64(64) : "l"(A), "l"(B), "r"((int)add));
#endif
}

#undef SUMS_4
#undef SUMS_16
#undef SUMS_64

#endif
