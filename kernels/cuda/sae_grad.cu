/* SPDX-License-Identifier: MIT */
/* sae_grad.cu -- the sparse side of training: gradients through the kept features only, and Adam.
 *
 *     g = dL/dx' up to a factor      g_a[n,j] = g[n,:] . W_dec[i[n,j],:]
 *     dW_dec[f,:] = sum a[n,j] g[n,:]     dW_enc[f,:] = sum g_a[n,j] (x[n,:] - b_dec)     over (n,j), i[n,j] = f
 *
 *   x, g (N,D)   a, g_a, i (N,K)   dW_enc, dW_dec (F,D)
 *
 * 6*N*K*D flop where the dense products would take 6*N*F*D. Each feature sums in order of rows, and belongs to one warp
 * a strip of columns: no atomics, and no number depends on what runs when. */
#include "kernels/cuda/sae_cuda.h"

enum { WARPS = 8, AT_ONCE = 4 };

/* ---- g_a: one block a row n, a warp a kept feature ---- */

/* Reads 4*N*K*D bytes of W_dec for 2*N*K*D flop: bound by memory, as decoding is. g[n,:] stays in the first-level
 * cache. */
template <int each>
static __global__ void dot_codes(float *g_a, const float *g, const float *a, const int32_t *i, const float *W, int D,
                                 int K)
{
    const int64_t n = blockIdx.x;
    const int lane = threadIdx.x%WARP;
    for (int j = threadIdx.x/WARP; j < K; j += WARPS) {
        const float *w = W + (int64_t)i[n*K + j]*D;
        float sum[each] = {};
        if (a[n*K + j] != 0)
            #pragma unroll 4
            for (int d = lane*each; d < D; d += WARP*each) {
                float u[each], v[each];
                load_run(u, g + n*D + d);
                load_run(v, w + d);
                for (int k = 0; k < each; k++)
                    sum[k] += u[k]*v[k];
            }
        float all = sum[0];
        for (int k = 1; k < each; k++)
            all += sum[k];
        all = warp_sum(all);
        if (lane == 0)
            g_a[n*K + j] = all;
    }
}

static void code_grad(float *g_a, const float *g, const float *a, const int32_t *i, const float *W_dec, int64_t N,
                      int D, int K)
{
    if (sae_by_four(D, g, W_dec))
        LAUNCH(dot_codes<4>, (unsigned)N, WARPS*WARP, 0, g_a, g, a, i, W_dec, D, K);
    else
        LAUNCH(dot_codes<1>, (unsigned)N, WARPS*WARP, 0, g_a, g, a, i, W_dec, D, K);
}

/* ---- dW: a warp a feature and WARP*each columns ---- */

typedef struct RowGrads {
    float *dW_dec, *dW_enc, *db_enc;
    const float *a, *g_a, *g, *x;
    const int32_t *start, *order;
    float c;
    int F, D, K;
} RowGrads;

/* Block (WARPS features, strip): strips, so that a feature that most rows keep does not hold up the rest. Reads 8*N*K*D
 * bytes of g and x, which fit the second-level cache (N = 4096, D = 1280: 42 MB), for 4*N*K*D flop: bound by that
 * cache. */
template <int each> static __global__ void sum_rows(RowGrads r)
{
    const int f = blockIdx.x*WARPS + threadIdx.x/WARP, d = (blockIdx.y*WARP + threadIdx.x%WARP)*each;
    if (f >= r.F)
        return;
    const int from = r.start[f], to = r.start[f + 1];
    if (from == to)
        return;
    if (blockIdx.y == 0 && threadIdx.x%WARP == 0) {
        float sum = 0;
        for (int e = from; e < to; e++)
            sum += r.g_a[r.order[e]];
        r.db_enc[f] += r.c*sum;
    }
    if (d >= r.D)
        return;
    float dec[each] = {}, enc[each] = {};
    for (int e = from; e < to; e += AT_ONCE) {
        float a[AT_ONCE], g_a[AT_ONCE], g[AT_ONCE][each], x[AT_ONCE][each];
        #pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const uint32_t place = e + u < to ? (uint32_t)r.order[e + u] : 0;
            a[u] = e + u < to ? r.a[place] : 0;
            if (a[u] != 0) {
                const int64_t row = (int64_t)(place/(uint32_t)r.K)*r.D + d;
                g_a[u] = r.g_a[place];
                load_run(g[u], r.g + row);
                load_run(x[u], r.x + row);
            }
        }
        #pragma unroll
        for (int u = 0; u < AT_ONCE; u++)
            if (a[u] != 0)
                for (int v = 0; v < each; v++) {
                    dec[v] += a[u]*g[u][v];
                    enc[v] += g_a[u]*x[u][v];
                }
    }
    float old[each];
    float *to_dec = r.dW_dec + (int64_t)f*r.D + d, *to_enc = r.dW_enc + (int64_t)f*r.D + d;
    load_run(old, to_dec);
    for (int v = 0; v < each; v++)
        dec[v] = old[v] + r.c*dec[v];
    store_run(to_dec, dec);
    load_run(old, to_enc);
    for (int v = 0; v < each; v++)
        enc[v] = old[v] + r.c*enc[v];
    store_run(to_enc, enc);
}

static void row_grads(float *dW_dec, float *dW_enc, float *db_enc, float c, const float *a, const float *g_a,
                      const float *g, const float *x, const int32_t *start, const int32_t *order, int F, int D, int K)
{
    const RowGrads r = {dW_dec, dW_enc, db_enc, a, g_a, g, x, start, order, c, F, D, K};
    if (sae_by_four(D, dW_dec, dW_enc, g, x))
        LAUNCH(sum_rows<4>, dim3(gpu_blocks(F, WARPS), gpu_blocks(D, WARP*4)), WARPS*WARP, 0, r);
    else
        LAUNCH(sum_rows<1>, dim3(gpu_blocks(F, WARPS), gpu_blocks(D, WARP)), WARPS*WARP, 0, r);
}

/* ---- Adam: p -= rate m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps) ---- */

__device__ __forceinline__ float adam_value(float p, float *m, float *v, float g, const AdamStep &s, float rate,
                                            float root)
{
    *m = s.beta1*(*m) + (1 - s.beta1)*g;
    *v = s.beta2*(*v) + (1 - s.beta2)*g*g;
    return p - rate*(*m)/(root*sqrtf(*v) + s.eps);
}

/* A thread a value. Streams p, m, v, dp in and out, 32 bytes a parameter: bound by memory. */
static __global__ void adam_values(float *p, float *m, float *v, float *dp, int64_t n, AdamStep s)
{
    const int64_t j = thread_number();
    if (j >= n)
        return;
    p[j] = adam_value(p[j], &m[j], &v[j], s.scale*dp[j], s, s.rate*s.unbias1, sqrtf(s.unbias2));
    dp[j] = 0;
}

/* One block a row, which it goes over three times: the gradient's part along it, the step, the length. The second and
 * third find it in the caches. */
static __global__ void adam_unit_rows(float *p, float *m, float *v, float *dp, int D, AdamStep s)
{
    __shared__ float room[WARP];
    const int64_t at = (int64_t)blockIdx.x*D;
    const float rate = s.rate*s.unbias1, root = sqrtf(s.unbias2);
    p += at;
    m += at;
    v += at;
    dp += at;
    float along = 0, square = 0;
    for (int d = threadIdx.x; d < D; d += blockDim.x)
        along += dp[d]*p[d];
    along = block_sum(along, room);
    for (int d = threadIdx.x; d < D; d += blockDim.x) {
        const float next = adam_value(p[d], &m[d], &v[d], s.scale*(dp[d] - along*p[d]), s, rate, root);
        p[d] = next;
        dp[d] = 0;
        square += next*next;
    }
    const float length = sqrtf(block_sum(square, room)), r = length > 0 ? 1/length : 0;
    for (int d = threadIdx.x; d < D; d += blockDim.x)
        p[d] *= r;
}

static void adam(float *p, float *m, float *v, float *dp, int64_t rows, int D, const AdamStep *step)
{
    if (step->unit_rows)
        LAUNCH(adam_unit_rows, (unsigned)rows, sae_threads(D, 256), 0, p, m, v, dp, D, *step);
    else
        LAUNCH(adam_values, gpu_blocks(rows*D, 256), 256, 0, p, m, v, dp, rows*D, *step);
}

void cuda_sae_grad_ops(SaeOps *ops)
{
    ops->code_grad = code_grad;
    ops->row_grads = row_grads;
    ops->adam = adam;
}
