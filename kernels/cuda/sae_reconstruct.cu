/* SPDX-License-Identifier: MIT */
/* sae_reconstruct.cu -- decoding, what it missed, and the kept features' gradients, from one reading of W_dec's rows.
 *
 *     g[n,:] = sum_j a[n,j] W_dec[i[n,j],:] + b - x[n,:]      g_a[n,j] = g[n,:] . W_dec[i[n,j],:]      sum of g^2
 *
 *   x, g (N,D)   a, g_a, i (N,K)   W_dec (F,D)   b (D)
 *
 * 4*N*K*D bytes of W_dec for 4*N*K*D flop: bound by memory, and twice that where the two sums are apart. A token's rows
 * lie in a ring of K + AHEAD rows in shared memory; a row's place is given to one of the next token as soon as its dot
 * product is taken, so that there is always as much on its way as the memory needs. A thread has four columns, and
 * reads nothing of the rows but what it copied: the only barrier of a token is for sums over the block. Sums over
 * columns go by lanes, then by warps in order. Rows that do not fit are decoded and multiplied apart. */
#include "kernels/cuda/mma.h"
#include "kernels/cuda/sae_cuda.h"

enum { AHEAD = 8, TOKENS = 4, MOST_THREADS = 512 };

struct Reconstruct {
    float *g, *g_a;
    double *square;             /* (N) */
    const float *a, *W, *b, *x;
    const int32_t *i;
    int64_t N;
    int D, K;
};

/* Of TOKENS tokens, by their place in a block's turn: features and values. */
struct TokenRing {
    int32_t *i;
    float *a;
};

/* The next row to be asked for: entry j of the block's token t, which is row n; its place in the ring. */
struct Cursor {
    int t, j, place;
    int64_t n;
};

__device__ __forceinline__ void request(Cursor &c, float *rows, const TokenRing &ring, const Reconstruct &q)
{
    const int d = threadIdx.x*4, at = c.t%TOKENS*q.K + c.j;
    if (c.n < q.N && d < q.D)
        copy_async(rows + c.place*q.D + d, q.W + (int64_t)ring.i[at]*q.D + d, ring.a[at] != 0);
    copy_commit();
    c.place = c.place + 1 == q.K + AHEAD ? 0 : c.place + 1;
    if (++c.j == q.K) {
        c.j = 0;
        c.t++;
        c.n += gridDim.x;
    }
}

/* Lane l gets the warp's sum of p[l]: lanes exchange halves of what is left. */
template <int step = WARP/2> __device__ __forceinline__ float sum_each(float (&p)[WARP])
{
    const bool upper = threadIdx.x & step;
    #pragma unroll
    for (int k = 0; k < step; k++) {
        const float other = __shfl_xor_sync(ALL_LANES, upper ? p[k] : p[k + step], step);
        p[k] = (upper ? p[k + step] : p[k]) + other;
    }
    if constexpr (step > 1)
        return sum_each<step/2>(p);
    else
        return p[0];
}

/* Blocks take every gridDim-th token. K at least AHEAD and at most a block's threads. */
static __global__ void __launch_bounds__(MOST_THREADS) reconstruct_tokens(Reconstruct q)
{
    const int D = q.D, K = q.K, d = threadIdx.x*4, lane = threadIdx.x%WARP, warp = threadIdx.x/WARP,
              warps = blockDim.x/WARP, places = K + AHEAD;
    float *rows = (float *)shared_memory(), *rooms = rows + places*D;
    const TokenRing ring = {(int32_t *)(rooms + 2*warps*(K + 1)), rooms + 2*warps*(K + 1) + TOKENS*K};
    const bool there = d < D;
    float b[4] = {};
    if (there)
        load_run(b, q.b + d);
    for (int t = 0; t < TOKENS - 1; t++) {
        const int64_t n = blockIdx.x + (int64_t)t*gridDim.x;
        if ((int)threadIdx.x < K && n < q.N) {
            ring.i[t*K + threadIdx.x] = q.i[n*K + threadIdx.x];
            ring.a[t*K + threadIdx.x] = q.a[n*K + threadIdx.x];
        }
    }
    __syncthreads();
    Cursor next = {0, 0, 0, blockIdx.x};
    for (int j = 0; j < places; j++)
        request(next, rows, ring, q);
    int first = 0;                              /* place of the token's first row */
    int64_t n = blockIdx.x;
    for (int t = 0; n < q.N; t++, n += gridDim.x) {
        const int64_t later = n + (int64_t)(TOKENS - 1)*gridDim.x;
        const bool reads = (int)threadIdx.x < K && later < q.N;
        const int32_t later_i = reads ? q.i[later*K + threadIdx.x] : 0;
        const float later_a = reads ? q.a[later*K + threadIdx.x] : 0;
        float *room = rooms + t%2*warps*(K + 1) + warp*(K + 1);
        float sum[4] = {b[0], b[1], b[2], b[3]}, x[4] = {}, square = 0;
        if (there)
            load_run(x, q.x + n*D + d);
        copy_wait<AHEAD>();
        #pragma unroll 8
        for (int j = 0; j < K; j++) {
            const int place = first + j < places ? first + j : first + j - places;
            const float a = ring.a[t%TOKENS*K + j];
            float w[4] = {};
            if (there)
                load_run(w, rows + place*D + d);
            for (int k = 0; k < 4; k++)
                sum[k] = fmaf(a, w[k], sum[k]);
        }
        for (int k = 0; k < 4; k++) {
            sum[k] = there ? sum[k] - x[k] : 0;
            square = fmaf(sum[k], sum[k], square);
        }
        if (there)
            store_run(q.g + n*D + d, sum);
        square = warp_sum(square);
        if (lane == 0)
            room[K] = square;
        for (int from = 0; from < K; from += WARP) {
            float p[WARP];
            #pragma unroll
            for (int u = 0; u < WARP; u++) {
                p[u] = 0;
                if (from + u < K) {
                    const int j = first + from + u, place = j < places ? j : j - places;
                    float w[4] = {};
                    if (there)
                        load_run(w, rows + place*D + d);
                    for (int k = 0; k < 4; k++)
                        p[u] = fmaf(sum[k], w[k], p[u]);
                    request(next, rows, ring, q);
                }
            }
            const float dot = sum_each(p);
            if (from + lane < K)
                room[from + lane] = dot;
        }
        if (reads) {
            ring.i[(t + TOKENS - 1)%TOKENS*K + threadIdx.x] = later_i;
            ring.a[(t + TOKENS - 1)%TOKENS*K + threadIdx.x] = later_a;
        }
        __syncthreads();
        const float *all = rooms + t%2*warps*(K + 1);
        if ((int)threadIdx.x < K) {
            float dot = 0;
            for (int w = 0; w < warps; w++)
                dot += all[w*(K + 1) + threadIdx.x];
            q.g_a[n*K + threadIdx.x] = ring.a[t%TOKENS*K + threadIdx.x] != 0 ? dot : 0;
        }
        if (threadIdx.x == 0) {
            double whole = 0;
            for (int w = 0; w < warps; w++)
                whole += (double)all[w*(K + 1) + K];
            q.square[n] = whole;
        }
        first += K;
        first = first < places ? first : first - places;
    }
    copy_wait<0>();
}

static void reconstruct(float *g, float *g_a, double *square, const float *a, const int32_t *i, const float *W_dec,
                        const float *b, const float *x, int64_t N, int D, int K)
{
    const unsigned threads = sae_threads((D + 3)/4, MOST_THREADS), warps = threads/WARP;
    const size_t bytes = sizeof(float)*((size_t)(K + AHEAD)*(size_t)D + 2*warps*((size_t)K + 1) + 2*TOKENS*(size_t)K);
    if (!sae_by_four(D, g, W_dec, b, x) || D > 4*MOST_THREADS || K < AHEAD || K > (int)threads
        || bytes > (size_t)gpu_block_shared) {
        sae_decode(g, a, i, W_dec, b, N, D, K);
        sae_difference(g, square, g, x, N*D);
        sae_code_grad(g_a, g, a, i, W_dec, N, D, K);
        return;
    }
    double *of_token = (double *)gpu_scratch(SCRATCH_SAE2, sizeof *of_token*(size_t)N);
    const Reconstruct q = {g, g_a, of_token, a, W_dec, b, x, i, N, D, K};
    const int64_t by_memory = gpu_block_shared/(int64_t)(bytes + 1024), by_threads = 2048/threads;
    const int64_t blocks = max(min(by_memory, by_threads), (int64_t)1)*gpu_processors;
    LAUNCH(reconstruct_tokens, (unsigned)min(blocks, N), threads, bytes, q);
    sae_join_sum(square, of_token, N);
}

void cuda_sae_reconstruct_ops(SaeOps *ops)
{
    ops->reconstruct = reconstruct;
}
