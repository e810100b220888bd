/* SPDX-License-Identifier: MIT */
/* sae_decode.cu -- decoding and steering: sums of a few gathered rows of W_dec; and the table of the autoencoder's ops.
 *
 *     decode  y[n,:] = sum_j a[n,j] W_dec[i[n,j],:] + b
 *     steer   y[n,:] = x[n,:] + sum_j (s[n,j] - a[n,j]) W_dec[i[n,j],:]
 *
 *   x, y (N,D) f32; y may be x   a, s (N,K)   i (N,K) in [0,F)   W_dec (F,D)
 *
 * The decoder is linear, so what the autoencoder failed to reconstruct passes untouched; s = a gives x back. */
#include "kernels/cuda/sae_cuda.h"

enum { MOST_THREADS = 512, AT_ONCE = 4 };       /* rows of W_dec under way in a thread */

/* One block a row n, threads stride over D, four neighbours each where they lie so: rows of W are read coalesced. The
 * sum goes in order of j, terms of 0 skipped, which is the same branch for a whole block. Reads 4*N*D*K bytes of W for
 * 2*N*D*K flop: bound by memory, and W at F = 20480, D = 1280 (105 MB) is twice the second-level cache of an H100. */
template <int each>
static __global__ void gather(float *y, const float *x, const float *b, const float *a, const float *s,
                              const int32_t *i, const float *W, int D, int K)
{
    const int64_t n = blockIdx.x;
    a += n*K;
    s = s ? s + n*K : NULL;
    i += n*K;
    for (int d = threadIdx.x*each; d < D; d += blockDim.x*each) {
        float sum[each] = {};
        if (x)
            load_run(sum, x + n*D + d);
        if (b)
            load_run(sum, b + d);
        for (int j = 0; j < K; j += AT_ONCE) {
            float c[AT_ONCE], w[AT_ONCE][each];
            #pragma unroll
            for (int u = 0; u < AT_ONCE; u++) {
                c[u] = j + u >= K ? 0 : s ? s[j + u] - a[j + u] : a[j + u];
                if (c[u] != 0)
                    load_run(w[u], W + (int64_t)i[j + u]*D + d);
            }
            #pragma unroll
            for (int u = 0; u < AT_ONCE; u++)
                if (c[u] != 0)
                    for (int v = 0; v < each; v++)
                        sum[v] += c[u]*w[u][v];
        }
        store_run(y + n*D + d, sum);
    }
}

static void launch_gather(float *y, const float *x, const float *b, const float *a, const float *s, const int32_t *i,
                          const float *W, int64_t N, int D, int K)
{
    if (sae_by_four(D, y, x, b, W))
        LAUNCH(gather<4>, (unsigned)N, sae_threads(D/4, MOST_THREADS), 0, y, x, b, a, s, i, W, D, K);
    else
        LAUNCH(gather<1>, (unsigned)N, sae_threads(D, MOST_THREADS), 0, y, x, b, a, s, i, W, D, K);
}

void sae_decode(float *y, const float *a, const int32_t *i, const float *W_dec, const float *b, int64_t N, int D,
                int K)
{
    launch_gather(y, NULL, b, a, NULL, i, W_dec, N, D, K);
}

static void steer(float *y, const float *x, const float *a, const float *s, const int32_t *i, const float *W_dec,
                  int64_t N, int D, int K)
{
    launch_gather(y, x, NULL, a, s, i, W_dec, N, D, K);
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
