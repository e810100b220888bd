/* SPDX-License-Identifier: MIT */
/* sae_invert.cu -- kept features turned from rows to features: which entries a feature has.
 *
 *     order[start[f]..start[f+1]) = the e = n*K + j with i[n,j] = f, rising
 *
 *   i (N,K) in [0,F)   start (F+1)   order (N*K)
 *
 * A counting sort, made stable by sorting each feature's few entries. A few numbers an entry are read and written:
 * bound by memory, or at a few hundred thousand entries by the launch. */
#include "kernels/cuda/sae_cuda.h"
#include "kernels/cuda/sae_sort.h"

enum { EACH = 256, SCAN = 1024, SORT_WARPS = 8, NEAR = 512, FIND_THREADS = 1024 };

/* rank[j]: how many entries of the same feature came before, in no order; count[f]: how many there are */
static __global__ void rank_entries(int32_t *rank, int32_t *count, const int32_t *i, int64_t n)
{
    const int64_t j = thread_number();
    if (j < n)
        rank[j] = atomicAdd(&count[i[j]], 1);
}

/* Of one value a thread, the sum of those of earlier threads; *all: of all. room: as of block_sum */
__device__ __forceinline__ int32_t sum_before(int32_t v, int32_t *all, int32_t *room)
{
    const int lane = threadIdx.x%WARP, warp = threadIdx.x/WARP;
    int32_t sum = v;
    for (int step = 1; step < WARP; step *= 2) {
        const int32_t more = __shfl_up_sync(ALL_LANES, sum, step);
        sum += lane >= step ? more : 0;
    }
    if (lane == WARP - 1)
        room[warp] = sum;
    __syncthreads();
    const int32_t of_warp = lane < (int)blockDim.x/WARP ? room[lane] : 0;
    const int32_t earlier = warp_sum(lane < warp ? of_warp : 0);
    *all = warp_sum(of_warp);
    __syncthreads();
    return earlier + sum - v;
}

/* One block a run of SCAN features: part = the sum of their counts */
static __global__ void sum_counts(int32_t *part, const int32_t *count, int F)
{
    __shared__ int32_t room[WARP];
    const int f = blockIdx.x*SCAN + threadIdx.x;
    const int32_t sum = block_sum(f < F ? count[f] : 0, room);
    if (threadIdx.x == 0)
        part[blockIdx.x] = sum;
}

/* The same blocks: start[f] = the sum of count[0..f), start[F] that of all. */
static __global__ void scan_counts(int32_t *start, const int32_t *part, const int32_t *count, int F)
{
    __shared__ int32_t room[WARP];
    const int f = blockIdx.x*SCAN + threadIdx.x;
    int32_t before = 0, all;
    for (int b = threadIdx.x; b < (int)blockIdx.x; b += SCAN)
        before += part[b];
    before = block_sum(before, room);
    before += sum_before(f < F ? count[f] : 0, &all, room);
    if (f < F)
        start[f] = before;
    if (f == F - 1)
        start[F] = before + count[f];
}

static __global__ void scatter_entries(int32_t *order, const int32_t *start, const int32_t *rank, const int32_t *i,
                                       int64_t n)
{
    const int64_t j = thread_number();
    if (j < n)
        order[start[i[j]] + rank[j]] = (int32_t)j;
}

/* One warp a feature: its entries, rising. Most have few: a lane holds one, and finds its rank among them. Features of
 * more than NEAR entries are only listed. */
static __global__ void sort_entries(int32_t *order, int32_t *listed, int32_t *list, const int32_t *start, int F)
{
    __shared__ int32_t near[SORT_WARPS][NEAR];
    const int f = blockIdx.x*SORT_WARPS + threadIdx.x/WARP, lane = threadIdx.x%WARP;
    const int from = f < F ? start[f] : 0, n = f < F ? start[f + 1] - from : 0;
    int32_t *mine = order + from, *room = near[threadIdx.x/WARP];
    if (n < 2)
        return;
    if (n <= WARP) {
        const int32_t place = lane < n ? mine[lane] : INT32_MAX;
        int less = 0;
        for (int l = 0; l < n; l++)
            less += __shfl_sync(ALL_LANES, place, l) < place;
        if (lane < n)
            mine[less] = place;
    } else if (n <= NEAR) {
        for (int j = lane; j < n; j += WARP)
            room[j] = mine[j];
        __syncwarp();
        sort<Warp, true>(room, n);
        for (int j = lane; j < n; j += WARP)
            mine[j] = room[j];
    } else if (lane == 0) {
        list[atomicAdd(listed, 1)] = f;         /* in any order: what a feature becomes does not depend on it */
    }
}

/* One block a listed feature: its entries are found once more, in i, each warp in its run of it. Of n entries at most
 * n/NEAR features are listed, and i lies in the caches. */
static __global__ void find_entries(int32_t *order, const int32_t *listed, const int32_t *list, const int32_t *start,
                                    const int32_t *i, int64_t n)
{
    __shared__ int32_t room[WARP];
    if ((int)blockIdx.x >= *listed)
        return;
    const int32_t f = list[blockIdx.x];
    const int lane = threadIdx.x%WARP, warp = threadIdx.x/WARP, warps = blockDim.x/WARP;
    const int64_t run = (n + warps*WARP - 1)/(warps*WARP)*WARP, from = min(warp*run, n), to = min(from + run, n);
    int32_t mine = 0, all;
    #pragma unroll 8
    for (int64_t j = from + lane; j < to; j += WARP)
        mine += i[j] == f;
    mine = warp_sum(mine);
    int32_t *next = order + start[f] + __shfl_sync(ALL_LANES, sum_before(lane ? 0 : mine, &all, room), 0);
    for (int64_t j = from; j < to; j += 8*WARP) {
        bool found[8];
        #pragma unroll
        for (int u = 0; u < 8; u++) {
            const int64_t at = j + u*WARP + lane;
            found[u] = at < to && i[at] == f;
        }
        #pragma unroll
        for (int u = 0; u < 8; u++) {
            const unsigned votes = __ballot_sync(ALL_LANES, found[u]);
            if (found[u])
                next[__popc(votes & ((1u << lane) - 1))] = (int32_t)(j + u*WARP + lane);
            next += __popc(votes);
        }
    }
}

static void invert(int32_t *start, int32_t *order, const int32_t *i, int64_t N, int F, int K)
{
    const int64_t n = N*K;
    const unsigned runs = gpu_blocks(F, SCAN), most = (unsigned)(n/NEAR);
    const size_t ints = (size_t)F + 1 + runs + most + (size_t)n;
    int32_t *count = (int32_t *)gpu_scratch(SCRATCH_SAE2, sizeof *count*ints), *listed = count + F;
    int32_t *part = listed + 1, *list = part + runs, *rank = list + most;
    gpu_check(cudaMemsetAsync(count, 0, sizeof *count*((size_t)F + 1), gpu_stream));
    LAUNCH(rank_entries, gpu_blocks(n, EACH), EACH, 0, rank, count, i, n);
    LAUNCH(sum_counts, runs, SCAN, 0, part, count, F);
    LAUNCH(scan_counts, runs, SCAN, 0, start, part, count, F);
    LAUNCH(scatter_entries, gpu_blocks(n, EACH), EACH, 0, order, start, rank, i, n);
    LAUNCH(sort_entries, gpu_blocks(F, SORT_WARPS), SORT_WARPS*WARP, 0, order, listed, list, start, F);
    LAUNCH(find_entries, most, FIND_THREADS, 0, order, listed, list, start, i, n);
}

void cuda_sae_invert_ops(SaeOps *ops)
{
    ops->invert = invert;
}
