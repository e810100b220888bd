/* SPDX-License-Identifier: MIT */
/* sae_codes.cu -- kept features as lists: gated, thinned out, and counted.
 *
 *   a (N,K) values, none negative   i (N,K) their features
 *
 * All of them read and write a few numbers an entry: bound by memory, or at a few hundred thousand entries by the
 * launch. What is counted is counted in integers, whose sum has no order. */
#include "kernels/cuda/sae_cuda.h"

typedef unsigned long long Key;

enum { EACH = 256, BINS = 2048, RANK_THREADS = 1024, RANK_GROUPS = 256 };

/* ---- one thread an entry ---- */

static __global__ void gate_entries(float *a, const int32_t *i, const float *threshold, const float *scale,
                                    const float *offset, int64_t n)
{
    const int64_t j = thread_number();
    if (j >= n || !(a[j] > 0))
        return;
    float v = a[j];
    if (threshold)
        v += threshold[i[j]];
    if (scale)
        v = __fmul_rn(v, scale[i[j]]);
    if (offset)
        v += offset[i[j]];
    a[j] = v > 0 ? v : 0;
}

static void gate(float *a, const int32_t *i, const float *threshold, const float *scale, const float *offset, int64_t n)
{
    LAUNCH(gate_entries, gpu_blocks(n, EACH), EACH, 0, a, i, threshold, scale, offset, n);
}

typedef struct Lists { int K[TEAM_MOST], rank, ranks, keep; } Lists;

/* A thread an entry of a: its place among all is its own and, by halving, how many of each other rank come before it.
 * Equals of a lower rank do. */
static __global__ void keep_entries(float *a, const float *all, int64_t stride, Lists l, int64_t N)
{
    const int64_t e = thread_number();
    const int K = l.K[l.rank];
    if (e >= N*K || !(a[e] > 0))
        return;
    const int64_t n = e/K;
    const float v = a[e];
    int place = (int)(e - n*K);
    for (int r = 0; r < l.ranks; r++) {
        const float *other = all + r*stride + n*l.K[r];
        int low = 0, high = r == l.rank ? 0 : l.K[r];       /* before low they come before v, from high on after */
        while (low < high) {
            const int middle = (low + high)/2;
            if (r < l.rank ? other[middle] >= v : other[middle] > v)
                low = middle + 1;
            else
                high = middle;
        }
        place += low;
    }
    if (place >= l.keep)
        a[e] = 0;
}

static void keep_of_all(float *a, const float *all, int64_t stride, const int *K, int rank, int ranks, int64_t N,
                        int keep)
{
    Lists l = {{}, rank, ranks, keep};
    memcpy(l.K, K, sizeof *K*(size_t)ranks);
    LAUNCH(keep_entries, gpu_blocks(N*K[rank], EACH), EACH, 0, a, all, stride, l, N);
}

static __global__ void head_entries(float *b, const float *a, int64_t n, int K, int keep)
{
    const int64_t j = thread_number();
    if (j < n)
        b[j] = j%K < keep ? a[j] : 0;
}

static void head(float *b, const float *a, int64_t N, int K, int keep)
{
    LAUNCH(head_entries, gpu_blocks(N*K, EACH), EACH, 0, b, a, N*K, K, keep);
}

static __global__ void select_entries(float *b, const float *a, const int32_t *i, int from, int to, int64_t n)
{
    const int64_t j = thread_number();
    if (j < n)
        b[j] = i[j] >= from && i[j] < to ? a[j] : 0;
}

static void select_features(float *b, const float *a, const int32_t *i, int from, int to, int64_t n)
{
    LAUNCH(select_entries, gpu_blocks(n, EACH), EACH, 0, b, a, i, from, to, n);
}

static __global__ void count_entries(int32_t *counts, const float *a, const int32_t *i, int64_t n)
{
    const int64_t j = thread_number();
    if (j < n && a[j] > 0)
        atomicAdd(&counts[i[j]], 1);
}

static void count(int32_t *counts, const float *a, const int32_t *i, int64_t N, int K)
{
    LAUNCH(count_entries, gpu_blocks(N*K, EACH), EACH, 0, counts, a, i, N*K);
}

/* One block. */
static __global__ void count_full(double *full, const float *a, int64_t N, int K)
{
    __shared__ double room[WARP];
    double sum = 0;
    for (int64_t n = threadIdx.x; n < N; n += blockDim.x)
        sum += a[n*K + K - 1] > 0;
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        *full = sum;
}

static void full_rows(double *full, const float *a, int64_t N, int K)
{
    LAUNCH(count_full, 1, RANK_THREADS, 0, full, a, N, K);
}

/* ---- the largest of a group: radix select, 11 bits at a time, of keys that say value and place ---- */

typedef struct Rank {
    Key prefix, bound;          /* the key's first bits that are known; the least key that stays */
    int64_t need;               /* of the keys that begin so, this many stay */
    int done;                   /* bound is known */
    uint32_t least;             /* bits of the least value above 0 that stays */
} Rank;

/* None is negative, so that the order of bits is that of values; of equals the earlier one is greater. */
__device__ __forceinline__ Key entry_key(const float *a, int64_t j)
{
    return (Key)__float_as_uint(a[j]) << 32 | (uint32_t)~(uint32_t)j;
}

static __global__ void rank_begin(Rank *r, int32_t *bin, int64_t keep)
{
    r += blockIdx.y;
    bin += blockIdx.y*BINS;
    for (int b = threadIdx.x; b < BINS; b += blockDim.x)
        bin[b] = 0;
    if (threadIdx.x == 0)
        *r = Rank{0, 0, keep, 0, UINT32_MAX};
}

/* Blocks stride over the entries and count in shared memory first. */
static __global__ void rank_count(int32_t *bin, const Rank *r, const float *a, int64_t n, int shift, int bits)
{
    __shared__ int32_t near[BINS];
    r += blockIdx.y;
    bin += blockIdx.y*BINS;
    a += blockIdx.y*n;
    if (r->done)
        return;
    for (int b = threadIdx.x; b < BINS; b += blockDim.x)
        near[b] = 0;
    __syncthreads();
    const Key prefix = r->prefix;
    for (int64_t j = thread_number(); j < n; j += (int64_t)gridDim.x*blockDim.x) {
        const Key key = entry_key(a, j);
        if (shift + bits == 64 || key >> (shift + bits) == prefix)
            atomicAdd(&near[key >> shift & ((1 << bits) - 1)], 1);
    }
    __syncthreads();
    for (int b = threadIdx.x; b < BINS; b += blockDim.x)
        if (near[b])
            atomicAdd(&bin[b], near[b]);
}

/* One block a group; thread t has bins 2t, 2t+1. Finds the bin in which the need-th greatest key lies; clears all. */
static __global__ void rank_pick(Rank *r, int32_t *bin, int shift, int bits)
{
    __shared__ int64_t above[RANK_THREADS + 1];    /* keys in the bins of this thread and the later ones */
    r += blockIdx.y;
    bin += blockIdx.y*BINS;
    if (r->done)
        return;
    const int t = threadIdx.x;
    const int64_t need = r->need, low = bin[2*t], high = bin[2*t + 1];
    above[t] = low + high;
    if (t == 0)
        above[RANK_THREADS] = 0;
    __syncthreads();
    for (int step = 1; step < RANK_THREADS; step *= 2) {
        const int64_t more = t + step < RANK_THREADS ? above[t + step] : 0;
        __syncthreads();
        above[t] += more;
        __syncthreads();
    }
    const int64_t later = above[t + 1];
    bin[2*t] = bin[2*t + 1] = 0;
    if (later >= need || above[t] < need)
        return;
    const int b = later + high >= need ? 2*t + 1 : 2*t;
    const int64_t left = need - later - (b == 2*t ? high : 0);
    r->prefix = r->prefix << bits | (Key)b;
    r->need = left;
    r->done = left == (b == 2*t ? low : high);     /* the whole bin stays */
    r->bound = r->prefix << shift;
}

static __global__ void rank_apply(float *a, Rank *r, int64_t n)
{
    uint32_t least = UINT32_MAX;
    r += blockIdx.y;
    a += blockIdx.y*n;
    const Key bound = r->bound;
    for (int64_t j = thread_number(); j < n; j += (int64_t)gridDim.x*blockDim.x) {
        if (entry_key(a, j) < bound)
            a[j] = 0;
        else if (a[j] > 0)
            least = min(least, __float_as_uint(a[j]));
    }
    for (int step = WARP/2; step; step /= 2)
        least = min(least, __shfl_xor_sync(ALL_LANES, least, step));
    if (threadIdx.x%WARP == 0)
        atomicMin(&r->least, least);
}

static __global__ void rank_end(double *least, const Rank *r, int64_t groups)
{
    const int64_t group = thread_number();
    if (group < groups)
        least[group] = r[group].least == UINT32_MAX ? 0 : (double)__uint_as_float(r[group].least);
}

/* For up to RANK_GROUPS groups, 0 < keep. */
static void keep_of_groups(double *least, float *a, int64_t n, int64_t keep, int64_t groups, Rank *r, int32_t *bin)
{
    const dim3 blocks(gpu_blocks(n, 4*EACH) < 4096 ? gpu_blocks(n, 4*EACH) : 4096, (unsigned)groups);
    const dim3 one(1, (unsigned)groups);
    LAUNCH(rank_begin, one, RANK_THREADS, 0, r, bin, keep < n ? keep : n);
    for (int shift = 53, bits = 11; ; shift -= bits) {
        LAUNCH(rank_count, blocks, EACH, 0, bin, r, a, n, shift, bits);
        LAUNCH(rank_pick, one, RANK_THREADS, 0, r, bin, shift, bits);
        if (shift == 0)
            break;
        if (shift < bits)
            bits = shift;               /* the last of the 64 */
    }
    LAUNCH(rank_apply, blocks, EACH, 0, a, r, n);
    LAUNCH(rank_end, gpu_blocks(groups, EACH), EACH, 0, least, r, groups);
}

/* So many groups at once that they fill the device, and that their bins, 2 MB, stay in its cache. */
static void keep_largest(double *least, float *a, int64_t n, int64_t keep, int64_t groups)
{
    if (n > UINT32_MAX)
        gpu_fail(__FILE__, __LINE__, "keep_largest", "more than 2^32 values");
    if (n == 0 || keep <= 0) {
        gpu_check(cudaMemsetAsync(a, 0, sizeof *a*(size_t)(n*groups), gpu_stream));
        gpu_check(cudaMemsetAsync(least, 0, sizeof *least*(size_t)groups, gpu_stream));
        return;
    }
    const int64_t most = groups < RANK_GROUPS ? groups : (int64_t)RANK_GROUPS;
    Rank *r = (Rank *)gpu_scratch(SCRATCH_SAE2, (size_t)most*(sizeof *r + BINS*sizeof(int32_t)));
    for (int64_t first = 0; first < groups; first += most) {
        const int64_t now = groups - first < most ? groups - first : most;
        keep_of_groups(least + first, a + first*n, n, keep, now, r, (int32_t *)(r + most));
    }
}

void cuda_sae_code_ops(SaeOps *ops)
{
    ops->gate = gate;
    ops->keep_largest = keep_largest;
    ops->full_rows = full_rows;
    ops->keep_of_all = keep_of_all;
    ops->head = head;
    ops->select = select_features;
    ops->count = count;
}
