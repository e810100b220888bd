/* SPDX-License-Identifier: MIT */
/* sae_choose.cu -- the K largest of each row: of its tiles' candidates with a proof, or of the whole row.
 *
 *   value, column (N,tiles,keep) candidates   h (N,tiles*TILE)   a, i (N,K) largest first, ties to the lower place
 *
 * A value and its place make one key of 64 bits: the greater key is the greater value, or an equal one that comes
 * earlier. Keys differ, so "the K greatest keys" is exact and says how ties go.
 *
 * Candidates: a tile whose first candidate is not among the K greatest firsts holds none of the K greatest. So a bound
 * that K firsts reach is found bit by bit, and what reaches it in their K tiles is sorted: a few more than K keys, in
 * shared memory. Where the last candidate of a tile comes before the K-th chosen one, the tile may hide others: the row
 * is listed to be done again. With F features the share of such rows is near tiles*C(K,keep)/tiles^keep where
 * large values are spread evenly (0.9 % at F = 20480, K = 32, keep 4).
 *
 * Rows: of a row that was listed K candidates are known, and what comes before the last of them, seldom many more than
 * K, is sorted. Else radix select, 8 bits of the key a pass, until the K greatest are apart from the others: 4 passes
 * or fewer but for ties. Reads the row once a pass, the later ones from the caches. Bound by latency, both. */
#include "kernels/cuda/sae_cuda.h"
#include "kernels/cuda/sae_sort.h"

typedef unsigned long long Key;

enum { CHOOSE_WARPS = 4, ROW_THREADS = 512, ROWS_AT_ONCE = 1024, BINS = 256, WARPS_OF_BINS = BINS/WARP };

/* Grows with v. */
__device__ __forceinline__ uint32_t order_of(float v)
{
    const uint32_t u = __float_as_uint(v + 0.0f);                          /* -0 is 0 */
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

__device__ __forceinline__ Key key_of(float v, uint32_t place)
{
    return (Key)order_of(v) << 32 | (uint32_t)~place;
}

__device__ __forceinline__ float value_of(Key key)
{
    const uint32_t u = (uint32_t)(key >> 32);
    return __uint_as_float(u & 0x80000000u ? u & 0x7fffffffu : ~u);
}

__device__ __forceinline__ int32_t place_of(Key key)
{
    return (int32_t)~(uint32_t)key;
}

/* What is below 0 is given as 0. */
__device__ __forceinline__ void give(const SaeChoice &c, int64_t at, float v, int32_t place)
{
    c.a[at] = v > 0 ? v : 0;
    c.i[at] = c.names ? c.names[place] : place;
}

/* How many of n numbers in shared memory reach a bound; whole warp. */
__device__ __forceinline__ int reaching(const uint32_t *number, int n, uint32_t bound)
{
    int mine = 0;
    for (int t = threadIdx.x%WARP; t < n; t += WARP)
        mine += number[t] >= bound;
    return (int)__reduce_add_sync(ALL_LANES, (unsigned)mine);
}

/* A warp's shared memory: K*keep keys, and the tiles' first candidates. */
static __host__ __device__ __forceinline__ size_t warp_bytes(int tiles, int K, int keep)
{
    return (size_t)K*(size_t)keep*sizeof(Key) + (size_t)(tiles + tiles%2)*sizeof(uint32_t);
}

/* One warp a row. Places in keys are doubled, and 1 more where they are a tile's last candidate. */
template <int keep> static __global__ void __launch_bounds__(CHOOSE_WARPS*WARP) choose_candidates(SaeChoice c)
{
    const int lane = threadIdx.x%WARP;
    const int64_t n = (int64_t)blockIdx.x*CHOOSE_WARPS + threadIdx.x/WARP;
    if (n >= c.N)
        return;
    Key *list = (Key *)(shared_memory() + threadIdx.x/WARP*warp_bytes(c.tiles, c.K, keep));
    uint32_t *first = (uint32_t *)(list + c.K*keep);
    const float *value = c.value + n*c.tiles*keep;
    const uint8_t *column = c.column + n*c.tiles*keep;
    for (int t = lane; t < c.tiles; t += WARP)
        first[t] = order_of(value[t*keep]);
    __syncwarp();

    uint32_t bound = 0;                                    /* the greatest that K firsts reach, or one they all pass */
    int reached = c.tiles;
    for (uint32_t bit = 1u << 31; bit && reached != c.K; bit >>= 1) {
        const int there = reaching(first, c.tiles, bound | bit);
        if (there >= c.K) {
            bound |= bit;
            reached = there;
        }
    }
    int equal = c.K - reaching(first, c.tiles, bound + 1), listed = 0;     /* firsts at the bound: the earlier count */
    const unsigned before = (1u << lane) - 1;
    for (int t = lane; t - lane < c.tiles; t += WARP) {
        const uint32_t mine = t < c.tiles ? first[t] : 0;
        const unsigned level = __ballot_sync(ALL_LANES, t < c.tiles && mine == bound);
        const bool taken = t < c.tiles && (mine > bound || (mine == bound && __popc(level & before) < equal));
        equal -= __popc(level);
        if (!__any_sync(ALL_LANES, taken))
            continue;
        #pragma unroll
        for (int j = 0; j < keep; j++) {
            const float v = taken ? value[t*keep + j] : 0;
            const bool counts = taken && order_of(v) >= bound;
            const unsigned those = __ballot_sync(ALL_LANES, counts);
            if (counts)
                list[listed + __popc(those & before)]
                    = key_of(v, 2*(uint32_t)(t*TILE + column[t*keep + j]) + (j == keep - 1));
            listed += __popc(those);
        }
    }
    __syncwarp();
    sort<Warp, false>(list, listed);

    int hidden = 0;
    for (int j = lane; j < c.K - 1; j += WARP)
        hidden |= place_of(list[j]) & 1;
    if (!__any_sync(ALL_LANES, hidden)) {
        for (int j = lane; j < c.K; j += WARP)
            give(c, n*c.K + j, value_of(list[j]), place_of(list[j])/2);
        return;
    }
    int at = 0;                                            /* in any order: what a row becomes does not depend on it */
    if (lane == 0) {
        const Key least = list[c.K - 1];
        at = atomicAdd(c.count, 1);
        c.rows[at] = (int32_t)n;
        c.least[at] = key_of(value_of(least), (uint32_t)place_of(least)/2);
    }
    at = __shfl_sync(ALL_LANES, at, 0);
    const uint4 *from = (const uint4 *)((const char *)c.x + n*c.row_bytes);
    uint4 *to = (uint4 *)((char *)c.x_again + (int64_t)at*c.row_bytes);
    for (int d = lane; d < c.row_bytes/(int)sizeof *to; d += WARP)
        to[d] = from[d];
}

/* f(key) for each of a row's F values, and for up to 3 after them: h goes on with the least number, which any of the F
 * comes before. Several loads are under way at a time. */
template <typename Function> __device__ __forceinline__ void each_key(const float *h, int F, Function f)
{
    enum { LOADS = 4 };
    const int stride = (int)blockDim.x*4;
    for (int first = (int)threadIdx.x*4; first < F; first += LOADS*stride) {
        float v[LOADS][4];
        #pragma unroll
        for (int r = 0; r < LOADS; r++)
            if (first + r*stride < F)
                load_run(v[r], h + first + r*stride);
        #pragma unroll
        for (int r = 0; r < LOADS; r++)
            if (first + r*stride < F)
                for (int k = 0; k < 4; k++)
                    f(key_of(v[r][k], (uint32_t)(first + r*stride + k)));
    }
}

/* Sum of the bins after the b-th, for thread b. Whole block; warps: WARPS_OF_BINS ints in shared memory. */
__device__ __forceinline__ int keys_above(const int *bin, int *warps)
{
    const int b = threadIdx.x, lane = b%WARP, mine = b < BINS ? bin[b] : 0;
    int sum = mine;
    for (int step = 1; step < WARP; step *= 2) {
        const int more = __shfl_down_sync(ALL_LANES, sum, step);
        sum += lane + step < WARP ? more : 0;
    }
    if (lane == 0 && b < BINS)
        warps[b/WARP] = sum;
    __syncthreads();
    sum -= mine;
    for (int w = b/WARP + 1; w < WARPS_OF_BINS; w++)
        sum += warps[w];
    return sum;
}

/* One block a row, then the next that none has. long_list: room for K keys of each block, where K > MOST_LISTED. */
static __global__ void choose_rows(SaeChoice c, Key *long_list)
{
    __shared__ Key short_list[MOST_LISTED];
    __shared__ int bin[BINS], warps[WARPS_OF_BINS], digit, need, left, listed;
    Key *list = c.K > MOST_LISTED ? long_list + (int64_t)blockIdx.x*c.K : short_list;
    const int64_t N = c.rows ? *c.count : c.N;
    auto finish = [&](int64_t n, int keys) {
        sort<Block, false>(list, keys);
        const int64_t row = c.rows ? c.rows[n] : n;
        for (int j = threadIdx.x; j < c.K; j += blockDim.x)
            give(c, row*c.K + j, value_of(list[j]), place_of(list[j]));
        __syncthreads();
    };
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x) {
        const float *h = c.h + n*c.tiles*TILE;
        Key prefix = 0;
        int shift = 64;
        if (threadIdx.x == 0) {
            need = c.K;
            listed = 0;
        }
        __syncthreads();
        if (c.rows) {
            const Key least = c.least[n];
            each_key(h, c.F, [&](Key key) {
                const int at = key >= least ? atomicAdd(&listed, 1) : MOST_LISTED;
                if (at < MOST_LISTED)
                    list[at] = key;
            });
            __syncthreads();
            const int keys = listed;
            __syncthreads();
            if (keys >= c.K && keys <= MOST_LISTED) {
                finish(n, keys);
                continue;
            }
        }
        do {                            /* of the keys that begin as prefix does, `need` are among the K greatest */
            shift -= 8;
            if (threadIdx.x < BINS)
                bin[threadIdx.x] = 0;
            if (threadIdx.x == 0)
                listed = 0;
            __syncthreads();
            each_key(h, c.F, [&](Key key) {
                if (shift == 56 || key >> (shift + 8) == prefix)
                    atomicAdd(&bin[key >> shift & 255], 1);
            });
            __syncthreads();
            const int above = keys_above(bin, warps), still = need;
            __syncthreads();
            if (threadIdx.x < BINS && above < still && above + bin[threadIdx.x] >= still) {
                digit = threadIdx.x;
                left = bin[threadIdx.x];
                need = still - above;
            }
            __syncthreads();
            prefix = prefix << 8 | (Key)digit;
        } while (left != need);
        each_key(h, c.F, [&](Key key) {
            if (key >> shift >= prefix)
                list[atomicAdd(&listed, 1)] = key;         /* in any order: sorted next */
        });
        __syncthreads();
        finish(n, c.K);
    }
}

int sae_candidates(int tiles, int K)
{
    if (tiles <= MOST_LISTED && K <= tiles/4)
        return 4;
    if (tiles <= MOST_LISTED && K <= tiles && 8*K <= MOST_LISTED)
        return 8;
    return 0;
}

void sae_choose_candidates(const SaeChoice *c, int keep)
{
    const size_t shared = CHOOSE_WARPS*warp_bytes(c->tiles, c->K, keep);
    if (keep == 4)
        LAUNCH(choose_candidates<4>, gpu_blocks(c->N, CHOOSE_WARPS), CHOOSE_WARPS*WARP, shared, *c);
    else
        LAUNCH(choose_candidates<8>, gpu_blocks(c->N, CHOOSE_WARPS), CHOOSE_WARPS*WARP, shared, *c);
}

void sae_choose_rows(const SaeChoice *c)
{
    const unsigned blocks = c->N < ROWS_AT_ONCE ? (unsigned)c->N : (unsigned)ROWS_AT_ONCE;
    Key *list = NULL;
    if (c->K > MOST_LISTED)
        list = (Key *)gpu_scratch(SCRATCH_SAE2, sizeof(Key)*blocks*(size_t)c->K);
    LAUNCH(choose_rows, blocks, ROW_THREADS, 0, *c, list);
}
