/* SPDX-License-Identifier: MIT */
/* elementwise.cu -- ops that take a value to a value: activations, gated GELU, conversion, sums, the sampler's step.
 *
 *     activate  y = act(x)      geglu  y[n,d] = h[n,d] * gelu(h[n,D+d])      add  y += x      subtract  y = a - b
 *     multiply  y *= x          add_gated  x[b,s,d] += gate[b,d] * y[b,s,d]
 *     ddim      x' = sqrt_a_prev x0 + sqrt_1m_a_prev eps,  x0 = (x - sqrt_1m_a eps)/sqrt_a  (arXiv 2010.02502, eq. 12)
 *
 * One thread a value, or the neighbours of 16 bytes where all pointers and counts allow loads of that many. All are
 * bound by memory: 4 to 12 bytes a value against at most 30 flop. */
#include "kernels/cuda/cuda.h"

enum { THREADS = 256 };

static bool by_runs(int each, const void *a, const void *b, const void *c, int64_t n)
{
    return n%each == 0 && (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c)&15) == 0;
}

/* y may be x. */
template <typename T, typename X, int each>
static __global__ void activate(T *y, const X *x, int64_t n, Activation act)
{
    const int64_t i = thread_number()*each;
    float v[each];
    if (i >= n)
        return;
    load_run(v, x + i);
    #pragma unroll
    for (int j = 0; j < each; j++)
        v[j] = activate_value(v[j], act);
    store_run(y, i, v);
}

template <typename T, typename X> static void activate_as(T *y, const X *x, int64_t n, Activation act)
{
    constexpr int each = 16/sizeof(X);
    if (by_runs(each, y, x, NULL, n))
        LAUNCH((activate<T, X, each>), gpu_blocks(n/each, THREADS), THREADS, 0, y, x, n, act);
    else
        LAUNCH((activate<T, X, 1>), gpu_blocks(n, THREADS), THREADS, 0, y, x, n, act);
}

void cuda_activate(void *y, DType y_type, const float *x, int64_t n, Activation act)
{
    if (y_type == F32)
        activate_as((float *)y, x, n, act);
    else if (y_type == BF16)
        activate_as((bf16 *)y, x, n, act);
    else
        activate_as((f16 *)y, x, n, act);
}

void cuda_activate_made(void *y, DType type, int64_t n, Activation act)
{
    if (type == F32)
        activate_as((float *)y, (const float *)y, n, act);
    else if (type == BF16)
        activate_as((bf16 *)y, (const bf16 *)y, n, act);
    else
        activate_as((f16 *)y, (const f16 *)y, n, act);
}

/* One thread `each` neighbours in a row: 16 bytes of them, or one. */
template <typename T, int each> static __global__ void geglu(T *y, const T *h, int64_t n, int D)
{
    const int64_t i = thread_number()*each;
    if (i >= n)
        return;
    const int64_t row = i/D, d = i - row*D;
    struct alignas(each*sizeof(T)) Run { T of[each]; };
    const Run value = *(const Run *)(h + 2*row*D + d), gate = *(const Run *)(h + 2*row*D + D + d);
    Run out;
    #pragma unroll
    for (int j = 0; j < each; j++)
        out.of[j] = from_float<T>(to_float(value.of[j])*activate_value(to_float(gate.of[j]), ACT_GELU));
    *(Run *)(y + i) = out;
}

template <typename T> static void geglu_as(T *y, const T *h, int64_t N, int D)
{
    constexpr int each = 16/sizeof(T);
    if (D%each == 0 && (((uintptr_t)y | (uintptr_t)h)&15) == 0)
        LAUNCH((geglu<T, each>), gpu_blocks(N*D/each, THREADS), THREADS, 0, y, h, N*D, D);
    else
        LAUNCH((geglu<T, 1>), gpu_blocks(N*D, THREADS), THREADS, 0, y, h, N*D, D);
}

void cuda_geglu(void *y, const void *h, DType type, int64_t N, int D)
{
    if (type == F32)
        geglu_as((float *)y, (const float *)h, N, D);
    else if (type == BF16)
        geglu_as((bf16 *)y, (const bf16 *)h, N, D);
    else
        geglu_as((f16 *)y, (const f16 *)h, N, D);
}

template <typename Y, typename X> static __global__ void convert(Y *y, const X *x, int64_t n)
{
    const int64_t i = thread_number();
    if (i < n)
        y[i] = from_float<Y>(to_float(x[i]));
}

template <typename Y> static __global__ void convert_four(Y *y, const float *x, int64_t fours)
{
    const int64_t i = thread_number();
    if (i < fours)
        store4(y, 4*i, ((const float4 *)x)[i]);
}

template <typename Y> static void convert_to(Y *y, const void *x, DType x_type, int64_t n)
{
    const unsigned blocks = gpu_blocks(n, THREADS);
    if (x_type == F32 && by_runs(4, y, x, NULL, n))
        LAUNCH(convert_four<Y>, gpu_blocks(n/4, THREADS), THREADS, 0, y, (const float *)x, n/4);
    else if (x_type == F32)
        LAUNCH((convert<Y, float>), blocks, THREADS, 0, y, (const float *)x, n);
    else if (x_type == BF16)
        LAUNCH((convert<Y, bf16>), blocks, THREADS, 0, y, (const bf16 *)x, n);
    else
        LAUNCH((convert<Y, f16>), blocks, THREADS, 0, y, (const f16 *)x, n);
}

void cuda_convert(void *y, DType y_type, const void *x, DType x_type, int64_t n)
{
    if (y_type == x_type)
        gpu_check(cudaMemcpyAsync(y, x, (size_t)n*(x_type == F32 ? 4 : 2), cudaMemcpyDeviceToDevice, gpu_stream));
    else if (y_type == F32)
        convert_to((float *)y, x, x_type, n);
    else if (y_type == BF16)
        convert_to((bf16 *)y, x, x_type, n);
    else
        convert_to((f16 *)y, x, x_type, n);
}

/* *unfit = the least of itself and of what op.h packs. */
static __global__ void find_unfit(unsigned long long *unfit, const float *x, int64_t n, float bound)
{
    for (int64_t i = thread_number(); i < n; i += (int64_t)gridDim.x*blockDim.x)
        if (!(fabsf(x[i]) < bound))
            atomicMin(unfit, (unsigned long long)i << 32 | __float_as_uint(x[i]));
}

void cuda_store(void *y, DType y_type, const float *x, int64_t n, uint64_t *unfit)
{
    const float bound = dtype_bound(y_type);
    const unsigned all = gpu_blocks(n, THREADS), most_blocks = (unsigned)gpu_processors*8;
    cuda_convert(y, y_type, x, F32, n);
    LAUNCH(find_unfit, all < most_blocks ? all : most_blocks, THREADS, 0, (unsigned long long *)unfit, x, n, bound);
}

/* y = a + sign b, sign 1 or -1: exact either way. y may be a. */
static __global__ void sum_four(float *y, const float *a, const float *b, float sign, int64_t fours)
{
    const int64_t i = thread_number();
    if (i >= fours)
        return;
    const float4 u = ((const float4 *)a)[i], v = ((const float4 *)b)[i];
    ((float4 *)y)[i] = make_float4(u.x + sign*v.x, u.y + sign*v.y, u.z + sign*v.z, u.w + sign*v.w);
}

static __global__ void sum_one(float *y, const float *a, const float *b, float sign, int64_t n)
{
    const int64_t i = thread_number();
    if (i < n)
        y[i] = a[i] + sign*b[i];
}

static void sum(float *y, const float *a, const float *b, float sign, int64_t n)
{
    if (by_runs(4, y, a, b, n))
        LAUNCH(sum_four, gpu_blocks(n/4, THREADS), THREADS, 0, y, a, b, sign, n/4);
    else
        LAUNCH(sum_one, gpu_blocks(n, THREADS), THREADS, 0, y, a, b, sign, n);
}

void cuda_add(float *y, const float *x, int64_t n)
{
    sum(y, y, x, 1, n);
}

void cuda_subtract(float *y, const float *a, const float *b, int64_t n)
{
    sum(y, a, b, -1, n);
}

template <typename T, int each> static __global__ void multiply(T *y, const T *x, int64_t n)
{
    const int64_t i = thread_number()*each;
    float v[each], by[each];
    if (i >= n)
        return;
    load_run(v, y + i);
    load_run(by, x + i);
    #pragma unroll
    for (int j = 0; j < each; j++)
        v[j] *= by[j];
    store_run(y, i, v);
}

template <typename T> static void multiply_as(T *y, const T *x, int64_t n)
{
    constexpr int each = 16/sizeof(T);
    if (by_runs(each, y, x, NULL, n))
        LAUNCH((multiply<T, each>), gpu_blocks(n/each, THREADS), THREADS, 0, y, x, n);
    else
        LAUNCH((multiply<T, 1>), gpu_blocks(n, THREADS), THREADS, 0, y, x, n);
}

void cuda_multiply(void *y, const void *x, DType type, int64_t n)
{
    if (type == F32)
        multiply_as((float *)y, (const float *)x, n);
    else if (type == BF16)
        multiply_as((bf16 *)y, (const bf16 *)x, n);
    else
        multiply_as((f16 *)y, (const f16 *)x, n);
}

/* each: neighbours of a row a thread; image: values of one */
template <typename T, int each>
static __global__ void add_gated(float *x, const T *y, const float *gate, int64_t stride, int64_t image, int D,
                                 int64_t n)
{
    const int64_t i = thread_number()*each;
    float sum[each], more[each], by[each];
    if (i >= n)
        return;
    load_run(sum, x + i);
    load_run(more, y + i);
    load_run(by, gate + i/image*stride + i%D);
    #pragma unroll
    for (int j = 0; j < each; j++)
        sum[j] = fmaf(by[j], more[j], sum[j]);
    store_run(x, i, sum);
}

template <typename T>
static void add_gated_as(float *x, const T *y, const float *gate, int64_t stride, int64_t B, int64_t S, int D)
{
    const int64_t n = B*S*D;
    if (by_runs(4, x, y, gate, D | stride))
        LAUNCH((add_gated<T, 4>), gpu_blocks(n/4, THREADS), THREADS, 0, x, y, gate, stride, S*D, D, n);
    else
        LAUNCH((add_gated<T, 1>), gpu_blocks(n, THREADS), THREADS, 0, x, y, gate, stride, S*D, D, n);
}

void cuda_add_gated(float *x, const void *y, DType y_type, const float *gate, int64_t stride, int64_t B, int64_t S,
                    int D)
{
    if (y_type == F32)
        add_gated_as(x, (const float *)y, gate, stride, B, S, D);
    else if (y_type == BF16)
        add_gated_as(x, (const bf16 *)y, gate, stride, B, S, D);
    else
        add_gated_as(x, (const f16 *)y, gate, stride, B, S, D);
}

typedef struct Step {
    float guidance, sqrt_a, sqrt_1m_a, sqrt_a_prev, sqrt_1m_a_prev;
    Prediction prediction;
} Step;

/* In the steps each product is rounded before it is added, as the reference does it on tensors: no fused
 * multiply-add. */
static __device__ float guided(const float *uncond, const float *cond, float guidance, int64_t i)
{
    return uncond ? __fadd_rn(uncond[i], __fmul_rn(guidance, __fsub_rn(cond[i], uncond[i]))) : cond[i];
}

static __global__ void ddim_step(float *x, const float *uncond, const float *cond, Step s, int64_t n)
{
    const int64_t i = thread_number();
    if (i >= n)
        return;
    const float was = x[i];
    const float out = guided(uncond, cond, s.guidance, i);
    float x0 = out, eps = out;
    if (s.prediction == PREDICT_V) {
        x0 = __fsub_rn(__fmul_rn(s.sqrt_a, was), __fmul_rn(s.sqrt_1m_a, out));
        eps = __fadd_rn(__fmul_rn(s.sqrt_a, out), __fmul_rn(s.sqrt_1m_a, was));
    } else if (s.prediction == PREDICT_SAMPLE) {
        eps = __fdiv_rn(__fsub_rn(was, __fmul_rn(s.sqrt_a, out)), s.sqrt_1m_a);
    } else {
        x0 = __fdiv_rn(__fsub_rn(was, __fmul_rn(s.sqrt_1m_a, out)), s.sqrt_a);
    }
    x[i] = __fadd_rn(__fmul_rn(s.sqrt_a_prev, x0), __fmul_rn(s.sqrt_1m_a_prev, eps));
}

void cuda_ddim_step(float *x, const float *uncond, const float *cond, float guidance, float sqrt_a, float sqrt_1m_a,
                    float sqrt_a_prev, float sqrt_1m_a_prev, Prediction prediction, int64_t n)
{
    const Step s = {guidance, sqrt_a, sqrt_1m_a, sqrt_a_prev, sqrt_1m_a_prev, prediction};
    LAUNCH(ddim_step, gpu_blocks(n, THREADS), THREADS, 0, x, uncond, cond, s, n);
}

typedef struct DpmStep {
    float guidance, alpha, sigma, keep, data, change;
    Prediction prediction;
} DpmStep;

static __global__ void dpm_step(float *x, float *x0, const float *uncond, const float *cond, DpmStep s, int64_t n)
{
    const int64_t i = thread_number();
    if (i >= n)
        return;
    const float was = x[i], out = guided(uncond, cond, s.guidance, i), noise = __fmul_rn(s.sigma, out);
    const float now = s.prediction == PREDICT_V      ? __fsub_rn(__fmul_rn(s.alpha, was), noise)
                    : s.prediction == PREDICT_SAMPLE ? out : __fdiv_rn(__fsub_rn(was, noise), s.alpha);
    x[i] = __fadd_rn(__fadd_rn(__fmul_rn(s.keep, was), __fmul_rn(s.data, now)),
                     __fmul_rn(s.change, __fsub_rn(now, x0[i])));
    x0[i] = now;
}

void cuda_dpm_step(float *x, float *x0, const float *uncond, const float *cond, float guidance, float alpha,
                   float sigma, float keep, float data, float change, Prediction prediction, int64_t n)
{
    const DpmStep s = {guidance, alpha, sigma, keep, data, change, prediction};
    LAUNCH(dpm_step, gpu_blocks(n, THREADS), THREADS, 0, x, x0, uncond, cond, s, n);
}

typedef struct Multistep {
    const float *before[3];
    float weight[4], share, guidance;
} Multistep;

static __global__ void multistep(float *y, float *store, const float *uncond, const float *cond, Multistep s,
                                 int64_t n)
{
    const int64_t i = thread_number();
    if (i >= n)
        return;
    const float out = guided(uncond, cond, s.guidance, i);
    float sum = __fmul_rn(s.weight[0], out);
    for (int j = 0; j < 3; j++)
        sum = __fadd_rn(sum, __fmul_rn(s.weight[j + 1], s.before[j][i]));
    if (store)
        store[i] = out;
    y[i] = __fmul_rn(s.share, sum);
}

void cuda_multistep(float *y, float *store, const float *uncond, const float *cond, float guidance,
                    const float *const before[3], const float weight[4], float share, int64_t n)
{
    const Multistep s = {{before[0], before[1], before[2]}, {weight[0], weight[1], weight[2], weight[3]}, share,
                         guidance};
    LAUNCH(multistep, gpu_blocks(n, THREADS), THREADS, 0, y, store, uncond, cond, s, n);
}
