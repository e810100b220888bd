/* SPDX-License-Identifier: MIT */
/* sae_decode.c -- decoding and steering: sums of a few gathered rows of W_dec.
 *
 *     decode  y[n,:] = sum_j a[n,j] W_dec[i[n,j],:] + b
 *     steer   y[n,:] = x[n,:] + sum_j (s[n,j] - a[n,j]) W_dec[i[n,j],:]
 *
 *   x, y (N,D)   a, s (N,K)   i (N,K) in [0,F)   W_dec (F,D)
 *
 * A row's sum over j is held in registers, 128 values of D at a time, in order of j. Reads 4*K*D bytes of W_dec a row
 * for 2*K*D flop: bound by the cache that W_dec fits. */
#include "kernels/cpu/sae_cpu.h"
#include "kernels/cpu/vec.h"

enum { AT_ONCE = 8 };

/* y[d..d+n) = x (or 0) + sum_j c(j) W[i[j],d..d+n), c(j) = s[j] - a[j], or a[j] where s is NULL */
ALWAYS_INLINE void gather(float *y, const float *x, const float *a, const float *s, const int32_t *i, const float *W,
                          int D, int K, int d, int vectors, int last)
{
    V sum[AT_ONCE];
    for (int v = 0; v < vectors; v++)
        sum[v] = x ? v_load(x + d + v*LANES, v == vectors - 1 ? last : LANES) : (V){0};
    for (int j = 0; j < K; j++) {
        const float c = s ? s[j] - a[j] : a[j];
        if (c == 0)
            continue;
        const float *w = W + (size_t)i[j]*(size_t)D + d;
        for (int v = 0; v < vectors; v++)
            sum[v] += c*v_load(w + v*LANES, v == vectors - 1 ? last : LANES);
    }
    for (int v = 0; v < vectors; v++)
        v_store(y + d + v*LANES, sum[v], v == vectors - 1 ? last : LANES);
}

static void gather_row(float *y, const float *x, const float *a, const float *s, const int32_t *i, const float *W,
                       int D, int K)
{
    int d = 0;
    for (; d + AT_ONCE*LANES <= D; d += AT_ONCE*LANES)
        gather(y, x, a, s, i, W, D, K, d, AT_ONCE, LANES);
    for (; d < D; d += LANES)
        gather(y, x, a, s, i, W, D, K, d, 1, D - d < LANES ? D - d : LANES);
}

void cpu_sae_decode(float *y, const float *a, const int32_t *i, const float *W_dec, const float *b, int64_t N, int D,
                    int K)
{
    #pragma omp parallel for if (N*D*K > CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++)
        gather_row(y + n*D, b, a + n*K, NULL, i + n*K, W_dec, D, K);
}

static void steer(float *y, const float *x, const float *a, const float *s, const int32_t *i, const float *W_dec,
                  int64_t N, int D, int K)
{
    #pragma omp parallel for if (N*D*K > CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++)
        gather_row(y + n*D, x + n*D, a + n*K, s + n*K, i + n*K, W_dec, D, K);
}

void cpu_sae_ops(SaeOps *ops)
{
    ops->decode = cpu_sae_decode;
    ops->steer = steer;
    cpu_sae_encode_ops(ops);
    cpu_sae_grad_ops(ops);
    cpu_sae_dense_ops(ops);
}
