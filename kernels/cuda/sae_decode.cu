/* SPDX-License-Identifier: MIT */
/* sae_decode.cu -- decoding and steering: sums of a few gathered rows of W_dec; and the table of the autoencoder's ops.
 *
 *     decode  y[n,:] = sum_j a[n,j] W_dec[i[n,j],:] + b
 *     steer   y[n,:] = x[n,:] + sum_j (s[n,j] - a[n,j]) W_dec[i[n,j],:],  s as a is turned (op_sae.h)
 *
 *   x, y (N,D) f32; y may be x   a (N,K)   i (N,K) in [0,F)   W_dec (F,D)
 *
 * The decoder is linear, so what the autoencoder failed to reconstruct passes untouched; s = a gives x back. */
#include "kernels/cuda/sae_cuda.h"

enum { MOST_THREADS = 512, AT_ONCE = 4 };       /* rows of W_dec under way in a thread */

/* sum += sum_j c[j] W[i[j],d..d+each), in order of j; terms of 0 are skipped, which is the same branch for a whole
 * block. */
template <int each>
__device__ __forceinline__ void add_rows(float (&sum)[each], const float *c, const int32_t *i, const float *W, int D,
                                         int d, int K)
{
    for (int j = 0; j < K; j += AT_ONCE) {
        float by[AT_ONCE], w[AT_ONCE][each];
        #pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            by[u] = j + u < K ? c[j + u] : 0;
            if (by[u] != 0)
                load_run(w[u], W + (int64_t)i[j + u]*D + d);
        }
        #pragma unroll
        for (int u = 0; u < AT_ONCE; u++)
            if (by[u] != 0)
                for (int v = 0; v < each; v++)
                    sum[v] += by[u]*w[u][v];
    }
}

/* One block a row n, threads stride over D, four neighbours each where they lie so: rows of W are read coalesced. Reads
 * 4*N*D*K bytes of W for 2*N*D*K flop: bound by memory, and W at F = 20480, D = 1280 (105 MB) is twice the second-level
 * cache of an H100. */
template <int each>
static __global__ void decode_row(float *y, const float *b, const float *a, const int32_t *i, const float *W, int D,
                                  int K)
{
    const int64_t n = blockIdx.x;
    for (int d = threadIdx.x*each; d < D; d += blockDim.x*each) {
        float sum[each] = {};
        if (b)
            load_run(sum, b + d);
        add_rows(sum, a + n*K, i + n*K, W, D, d, K);
        store_run(y + n*D + d, sum);
    }
}

void sae_decode(float *y, const float *a, const int32_t *i, const float *W_dec, const float *b, int64_t N, int D,
                int K)
{
    if (sae_by_four(D, y, b, W_dec))
        LAUNCH(decode_row<4>, (unsigned)N, sae_threads(D/4, MOST_THREADS), 0, y, b, a, i, W_dec, D, K);
    else
        LAUNCH(decode_row<1>, (unsigned)N, sae_threads(D, MOST_THREADS), 0, y, b, a, i, W_dec, D, K);
}

/* ---- steering ---- */

enum { TERMS = 128 };               /* of a row's sum, whose changes are worked out at once */

/* s - a of the j-th term of a row that keeps a (K) of features i: those K, then all that are turned, which are 0 where
 * the row keeps them. */
__device__ __forceinline__ float change_of(const SaeTurns &t, const float *a, const int32_t *i, int K, int j,
                                           float share, int32_t *feature)
{
    const int place = j < K ? t.place[i[j]] : j - K;
    if (place < 0)
        return 0;
    const SaeTurn turn = t.turn[place];
    const float v = j < K ? a[j] : 0;
    *feature = turn.feature;
    for (int k = 0; k < K && j >= K; k++)
        if (i[k] == *feature)
            return 0;
    if (!(t.sets >> turn.set & 1) || !(v > turn.over))
        return 0;
    const float full = turn.factor*v + turn.offset;
    return (share >= 1 ? full : share > 0 ? v + share*(full - v) : v) - v;
}

/* One block a row, as above. What is not changed is not read. */
template <int each>
static __global__ void steer_row(float *y, const float *x, const float *a, const int32_t *i, SaeTurns t, const float *W,
                                 int D, int K)
{
    __shared__ float change[TERMS];
    __shared__ int32_t feature[TERMS];
    const int64_t n = blockIdx.x;
    const float share = t.share ? t.share[(t.first + n)%t.shares] : 1;
    const int all = K + (t.all ? t.count : 0);
    const float *from = x + n*D;
    float *const to = y + n*D;
    for (int first = 0; first < all; first += TERMS) {
        const int terms = min((int)TERMS, all - first);
        bool any = false;
        for (int j = threadIdx.x; j < terms; j += blockDim.x) {
            change[j] = change_of(t, a + n*K, i + n*K, K, first + j, share, &feature[j]);
            any = any || change[j] != 0;
        }
        if (!__syncthreads_or(any))
            continue;
        for (int d = threadIdx.x*each; d < D; d += blockDim.x*each) {
            float sum[each];
            load_run(sum, from + d);
            add_rows(sum, change, feature, W, D, d, terms);
            store_run(to + d, sum);
        }
        from = to;
        __syncthreads();                /* they are read */
    }
    for (int d = threadIdx.x*each; d < D && from != to; d += blockDim.x*each) {
        float same[each];
        load_run(same, from + d);
        store_run(to + d, same);
    }
}

static void steer(float *y, const float *x, const float *a, const int32_t *i, const SaeTurns *turns,
                  const float *W_dec, int64_t N, int D, int K)
{
    if (sae_by_four(D, y, x, W_dec))
        LAUNCH(steer_row<4>, (unsigned)N, sae_threads(D/4, MOST_THREADS), 0, y, x, a, i, *turns, W_dec, D, K);
    else
        LAUNCH(steer_row<1>, (unsigned)N, sae_threads(D, MOST_THREADS), 0, y, x, a, i, *turns, W_dec, D, K);
}

void cuda_sae_ops(SaeOps *ops)
{
    ops->decode = sae_decode;
    ops->steer = steer;
    cuda_sae_encode_ops(ops);
    cuda_sae_code_ops(ops);
    cuda_sae_invert_ops(ops);
    cuda_sae_sum_ops(ops);
    cuda_sae_grad_ops(ops);
    cuda_sae_reconstruct_ops(ops);
    cuda_sae_row_ops(ops);
    cuda_sae_update_ops(ops);
    cuda_sae_dense_ops(ops);
}
