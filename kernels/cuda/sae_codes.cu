/* SPDX-License-Identifier: MIT */
/* sae_codes.cu -- kept features as lists: gated, thinned out, counted, and turned from rows to features.
 *
 *   a (N,K) values, none negative   i (N,K) their features
 *
 * All of them read and write a few numbers an entry: bound by memory, or at a few hundred thousand entries by the
 * launch. What is counted is counted in integers, whose sum has no order. */
#include "kernels/cuda/sae_cuda.h"

typedef unsigned long long Key;

enum { EACH = 256, BINS = 2048, RANK_THREADS = 1024, SORT_THREADS = 64, NEAR = 1024 };

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

/* i alone, with a NULL: every entry counts */
static __global__ void count_entries(int32_t *counts, const float *a, const int32_t *i, int64_t n)
{
    const int64_t j = thread_number();
    if (j < n && (!a || a[j] > 0))
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

static int64_t full_rows(const float *a, int64_t N, int K)
{
    double *full = (double *)gpu_scratch(SCRATCH_SAE2, sizeof *full);
    LAUNCH(count_full, 1, RANK_THREADS, 0, full, a, N, K);
    return (int64_t)gpu_read_double(full);
}

/* ---- the largest of all: radix select, 11 bits a pass, of keys that say value and place ---- */

typedef struct Rank {
    Key prefix, bound;          /* the key's first bits that are known; the least key that stays */
    int64_t need;               /* of the keys that begin so, this many stay */
    int done;                   /* bound is known */
    uint32_t least;             /* bits of the least value above 0 that stays */
    double result;
} Rank;

/* None is negative, so that the order of bits is that of values; of equals the earlier one is greater. */
__device__ __forceinline__ Key entry_key(const float *a, int64_t j)
{
    return (Key)__float_as_uint(a[j]) << 32 | (uint32_t)~(uint32_t)j;
}

static __global__ void rank_begin(Rank *r, int32_t *bin, int64_t keep)
{
    for (int b = threadIdx.x; b < BINS; b += blockDim.x)
        bin[b] = 0;
    if (threadIdx.x == 0)
        *r = Rank{0, 0, keep, 0, UINT32_MAX, 0};
}

/* Blocks stride over the entries and count in shared memory first. */
static __global__ void rank_count(int32_t *bin, const Rank *r, const float *a, int64_t n, int shift, int bits)
{
    __shared__ int32_t near[BINS];
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

/* One block; thread t has bins 2t and 2t+1. Finds the bin in which the need-th greatest key lies, and clears all. */
static __global__ void rank_pick(Rank *r, int32_t *bin, int shift, int bits)
{
    __shared__ int64_t above[RANK_THREADS + 1];    /* keys in the bins of this thread and the later ones */
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

static __global__ void rank_end(Rank *r)
{
    if (threadIdx.x == 0)
        r->result = r->least == UINT32_MAX ? 0 : (double)__uint_as_float(r->least);
}

static float keep_largest(float *a, int64_t n, int64_t keep)
{
    if (n > UINT32_MAX)
        gpu_fail(__FILE__, __LINE__, "keep_largest", "more than 2^32 values");
    if (n == 0)
        return 0;
    if (keep <= 0) {
        gpu_check(cudaMemsetAsync(a, 0, sizeof *a*(size_t)n, gpu_stream));
        return 0;
    }
    Rank *r = (Rank *)gpu_scratch(SCRATCH_SAE2, sizeof *r + BINS*sizeof(int32_t));
    int32_t *bin = (int32_t *)(r + 1);
    const unsigned blocks = gpu_blocks(n, 4*EACH) < 4096 ? gpu_blocks(n, 4*EACH) : 4096;
    LAUNCH(rank_begin, 1, RANK_THREADS, 0, r, bin, keep < n ? keep : n);
    for (int shift = 53, bits = 11; ; shift -= bits) {
        LAUNCH(rank_count, blocks, EACH, 0, bin, r, a, n, shift, bits);
        LAUNCH(rank_pick, 1, RANK_THREADS, 0, r, bin, shift, bits);
        if (shift == 0)
            break;
        if (shift < bits)
            bits = shift;               /* the last of the 64 */
    }
    LAUNCH(rank_apply, blocks, EACH, 0, a, r, n);
    LAUNCH(rank_end, 1, WARP, 0, r);
    return (float)gpu_read_double(&r->result);
}

/* ---- the inverse of i: a counting sort, made stable by sorting each feature's few entries ---- */

/* One block. start[f] becomes the sum of count[0..f), start[F] that of all; next[f] = start[f]. A thread adds a run of
 * features, the block the runs. */
static __global__ void sum_counts(int32_t *start, int32_t *next, const int32_t *counts, int F)
{
    __shared__ int32_t before[RANK_THREADS];
    const int t = threadIdx.x, run = (F + RANK_THREADS - 1)/RANK_THREADS;
    const int from = min(t*run, F), to = min(from + run, F);
    int32_t sum = 0;
    for (int f = from; f < to; f++)
        sum += counts[f];
    before[t] = sum;
    __syncthreads();
    for (int step = 1; step < RANK_THREADS; step *= 2) {
        const int32_t more = t >= step ? before[t - step] : 0;
        __syncthreads();
        before[t] += more;
        __syncthreads();
    }
    sum = t ? before[t - 1] : 0;
    for (int f = from; f < to; f++) {
        start[f] = next[f] = sum;
        sum += counts[f];
    }
    if (t == RANK_THREADS - 1)
        start[F] = before[t];
}

static __global__ void scatter_entries(int32_t *order, int32_t *next, const int32_t *i, int64_t n)
{
    const int64_t j = thread_number();
    if (j < n)
        order[atomicAdd(&next[i[j]], 1)] = (int32_t)j;
}

/* One block a feature: its entries, rising, in shared memory where they fit. Bitonic, the first step of a merge
 * mirrored, so that n may be any number. */
static __global__ void sort_entries(int32_t *order, const int32_t *start)
{
    __shared__ int32_t near[NEAR];
    int32_t *far = order + start[blockIdx.x];
    const int n = start[blockIdx.x + 1] - start[blockIdx.x];
    if (n < 2)
        return;
    int32_t *list = n <= NEAR ? near : far;
    int pairs = 1;
    while (2*pairs < n)
        pairs *= 2;
    if (list == near)
        for (int j = threadIdx.x; j < n; j += blockDim.x)
            list[j] = far[j];
    __syncthreads();
    for (int size = 2; size/2 < n; size *= 2)
        for (int step = size/2; step; step /= 2) {
            for (int p = threadIdx.x; p < pairs; p += blockDim.x) {
                const int in = p & (step - 1), low = 2*(p - in) + in;
                const int high = step == size/2 ? 2*(p - in) + size - 1 - in : low + step;
                if (high < n && list[low] > list[high]) {
                    const int32_t place = list[low];
                    list[low] = list[high];
                    list[high] = place;
                }
            }
            __syncthreads();
        }
    if (list == near)
        for (int j = threadIdx.x; j < n; j += blockDim.x)
            far[j] = list[j];
}

static void invert(int32_t *start, int32_t *order, const int32_t *i, int64_t N, int F, int K)
{
    int32_t *counts = (int32_t *)gpu_scratch(SCRATCH_SAE2, sizeof *counts*2*(size_t)F);
    gpu_check(cudaMemsetAsync(counts, 0, sizeof *counts*(size_t)F, gpu_stream));
    LAUNCH(count_entries, gpu_blocks(N*K, EACH), EACH, 0, counts, (const float *)NULL, i, N*K);
    LAUNCH(sum_counts, 1, RANK_THREADS, 0, start, counts + F, counts, F);
    LAUNCH(scatter_entries, gpu_blocks(N*K, EACH), EACH, 0, order, counts + F, i, N*K);
    LAUNCH(sort_entries, (unsigned)F, SORT_THREADS, 0, order, start);
}

void cuda_sae_code_ops(SaeOps *ops)
{
    ops->gate = gate;
    ops->keep_largest = keep_largest;
    ops->full_rows = full_rows;
    ops->head = head;
    ops->select = select_features;
    ops->count = count;
    ops->invert = invert;
}
