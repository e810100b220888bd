/* SPDX-License-Identifier: MIT */
/* cuda.h -- what the CUDA backend's files share: one stream, checked calls, launches, scratch memory, halves, sums over
 * a warp and a block. Private to kernels/cuda.
 *
 * The same sources are built twice: by nvcc for the device, and by a C++ compiler with -DSIMT for tests/simt, where
 * tests/simt/simt.h plays blocks, threads, barriers and the calls of the runtime. So a kernel is started with LAUNCH
 * and takes its dynamic shared memory from shared_memory(); nothing else differs.
 *
 * Everything runs on gpu_stream, in the order it was asked for; nothing waits but a download and what returns a
 * number. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#ifdef SIMT
#include "tests/simt/simt.h"
#else
#include <cuda_runtime.h>
#endif
extern "C" {
#include "kernels/op.h"
}

extern cudaStream_t gpu_stream;
extern int gpu_processors;              /* multiprocessors of the device */
extern int gpu_block_shared;            /* bytes of shared memory that a block can have */
extern bool gpu_recorded;               /* something is or was taken down: what its kernels use must stay */
extern int gpu_capability;              /* its compute capability, the major number */

/* A broken device cannot go on: file, line, reason, exit 1. */
[[noreturn]] void gpu_fail(const char *file, int line, const char *what, const char *why);
#define gpu_check(call)                                                                                                \
    do {                                                                                                               \
        const cudaError_t status_ = (call);                                                                            \
        if (status_ != cudaSuccess)                                                                                    \
            gpu_fail(__FILE__, __LINE__, #call, cudaGetErrorString(status_));                                          \
    } while (0)

/* Whether an environment variable has this value, alone or among others joined by +. */
static inline bool gpu_wished(const char *variable, const char *value)
{
    const size_t length = strlen(value);
    for (const char *wish = getenv(variable); wish; wish = strchr(wish, '+'), wish += wish != NULL)
        if (strncmp(wish, value, length) == 0 && (wish[length] == 0 || wish[length] == '+'))
            return true;
    return false;
}

/* Device memory as it is; NULL with e set when there is none left. Freed by cudaFree. */
void *gpu_memory(size_t bytes, Err *e);

/* Device memory for what an op needs while it runs: at least bytes, 256-byte aligned, not cleared, good until the next
 * call with the same slot. It only grows, so that an op at a known shape allocates nothing. Work that is queued on an
 * older, smaller buffer is waited for before that goes; once something is recorded, it stays. An op that calls another
 * must not hold the slot it uses. */
enum { SCRATCH_OP, SCRATCH_PRODUCT, SCRATCH_LIBRARY, SCRATCH_SAE, SCRATCH_SAE2, SCRATCH_SLOTS };
void *gpu_scratch(int slot, size_t bytes);

/* The next part of a scratch buffer: bytes at *at, which goes on to a multiple of 256 behind them. */
static inline void *gpu_take(char **at, size_t bytes)
{
    void *p = *at;
    *at += (bytes + 255)/256*256;
    return p;
}

/* From any memory of the host, which has been read when this returns. */
void gpu_upload(void *device, const void *host, size_t bytes);

/* A line on stderr for a kernel that is to be started, where SDSTEER_CUDA_TRACE has "kernels". */
void gpu_trace_kernel(const char *name, unsigned blocks, dim3 grid, unsigned threads, size_t shared);

/* A host number's worth of device memory, read back by what returns a number: waits for the stream. */
double gpu_read_double(const double *device);

/* Bytes: what a kernel declares as __shared__ is less, where it has dynamic shared memory beside it. */
enum { GPU_OWN_SHARED = 1024 };

/* LAUNCH(kernel<...>, grid, threads, shared, arguments...): grid is a dim3 or a number of blocks, threads a number (of
 * whole warps), shared the bytes of dynamic shared memory. An empty grid starts nothing. */
#define LAUNCH(kernel, grid, threads, shared, ...) LAUNCH_CLUSTERS(kernel, 1, grid, threads, shared, __VA_ARGS__)

/* The same, in clusters of `blocks` that run side by side (hopper.h): 1 to 8, grid.x a multiple of it. Compute
 * capability 9. */
#define LAUNCH_CLUSTERS(kernel, blocks, grid, threads, shared, ...)                                                    \
    gpu_launch(__FILE__, __LINE__, #kernel, kernel, (unsigned)(blocks), dim3(grid), (unsigned)(threads),               \
               (size_t)(shared), __VA_ARGS__)

#ifndef SIMT
struct GpuLaunch {                      /* config points into itself */
    cudaLaunchAttribute cluster = {};
    cudaLaunchConfig_t config = {};

    GpuLaunch(unsigned blocks, dim3 grid, unsigned threads, size_t shared)
    {
        cluster.id = cudaLaunchAttributeClusterDimension;
        cluster.val.clusterDim.x = blocks;
        cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
        config.gridDim = grid;
        config.blockDim = dim3(threads);
        config.dynamicSmemBytes = shared;
        config.stream = gpu_stream;
        config.attrs = &cluster;
        config.numAttrs = blocks > 1;
    }
    GpuLaunch(const GpuLaunch &) = delete;
};

/* A kernel's own shared memory counts too in what it may have without being asked. */
template <typename... P> cudaError_t gpu_allow_shared(void (*kernel)(P...), size_t shared)
{
    return shared <= 48*1024 - GPU_OWN_SHARED ? cudaSuccess
         : cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
}
#endif

template <typename... P, typename... A>
void gpu_launch(const char *file, int line, const char *name, void (*kernel)(P...), unsigned blocks, dim3 grid,
                unsigned threads, size_t shared, A... arguments)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0)
        return;
#ifdef SIMT
    simt_run(file, line, name, blocks, grid, threads, shared, [=] { kernel(static_cast<P>(arguments)...); });
#else
    const GpuLaunch launch(blocks, grid, threads, shared);
    cudaError_t status = gpu_allow_shared(kernel, shared);
    gpu_trace_kernel(name, blocks, grid, threads, shared);
    if (status == cudaSuccess)
        status = cudaLaunchKernelEx(&launch.config, kernel, static_cast<P>(arguments)...);
    if (status != cudaSuccess)
        gpu_fail(file, line, name, cudaGetErrorString(status));
#endif
}

/* How many clusters of such a launch the device runs at a time, at least 1. */
template <typename... P> int gpu_clusters(void (*kernel)(P...), unsigned blocks, unsigned threads, size_t shared)
{
    int clusters = gpu_processors/(int)blocks;
#ifdef SIMT
    (void)kernel; (void)threads; (void)shared;
#else
    const GpuLaunch launch(blocks, dim3(blocks), threads, shared);
    gpu_check(gpu_allow_shared(kernel, shared));
    gpu_check(cudaOccupancyMaxActiveClusters(&clusters, kernel, &launch.config));
#endif
    return clusters > 1 ? clusters : 1;
}

/* Milliseconds of one of `times` runs, which start kernels on gpu_stream, after one that is not counted. */
template <typename Run> float gpu_milliseconds(int times, Run run)
{
    static cudaEvent_t begin, end;
    float ms = 0;
    if (!begin) {
        gpu_check(cudaEventCreate(&begin));
        gpu_check(cudaEventCreate(&end));
    }
    run();
    gpu_check(cudaEventRecord(begin, gpu_stream));
    for (int i = 0; i < times; i++)
        run();
    gpu_check(cudaEventRecord(end, gpu_stream));
    gpu_check(cudaEventSynchronize(end));
    gpu_check(cudaEventElapsedTime(&ms, begin, end));
    return ms/(float)times;
}

/* Blocks of `each` for n, at most 2^31 - 1. */
static inline unsigned gpu_blocks(int64_t n, int64_t each)
{
    return (unsigned)((n + each - 1)/each);
}

#ifndef SIMT
extern __shared__ __align__(128) unsigned char gpu_shared[];
#define shared_memory() gpu_shared
#endif

/* Number of this thread in a grid of one dimension. */
__device__ __forceinline__ int64_t thread_number(void)
{
    return (int64_t)blockIdx.x*blockDim.x + threadIdx.x;
}

enum { WARP = 32 };
#define ALL_LANES 0xffffffffu

/* ---- halves: bf16, the upper half of an f32, and f16, of IEEE 754; from f32 rounded to nearest even ---- */

typedef struct bf16 { uint16_t bits; } bf16;
typedef struct f16 { uint16_t bits; } f16;              /* of 65520 and more: infinity */

template <typename T> inline constexpr DType dtype_of = F32;
template <> inline constexpr DType dtype_of<bf16> = BF16;
template <> inline constexpr DType dtype_of<f16> = F16;

__device__ __forceinline__ float to_float(float x)
{
    return x;
}

__device__ __forceinline__ float to_float(bf16 x)
{
    return __uint_as_float((uint32_t)x.bits << 16);
}

__device__ __forceinline__ float to_float(f16 x)
{
#ifdef SIMT
    return simt_from_half(x.bits);
#else
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
#endif
}

/* Two halves in a word, the first in the lower. */
template <typename T> __device__ __forceinline__ uint32_t pack_pair(float low, float high)
{
#ifdef SIMT
    return dtype_of<T> == F16 ? (uint32_t)simt_half(low) | (uint32_t)simt_half(high) << 16
                              : (uint32_t)simt_bf16(low) | (uint32_t)simt_bf16(high) << 16;
#else
    uint32_t word;
    if constexpr (dtype_of<T> == F16)
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    else
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
#endif
}

template <typename T> __device__ __forceinline__ T from_float(float x)
{
    return T{(uint16_t)pack_pair<T>(x, 0)};
}

template <> __device__ __forceinline__ float from_float<float>(float x)
{
    return x;
}

/* y[i..i+3] = v, i a multiple of 4, y aligned to four of T. */
__device__ __forceinline__ void store4(float *y, int64_t i, float4 v)
{
    *(float4 *)(y + i) = v;
}

template <typename T> __device__ __forceinline__ void store4(T *y, int64_t i, float4 v)
{
    *(uint2 *)(y + i) = make_uint2(pack_pair<T>(v.x, v.y), pack_pair<T>(v.z, v.w));
}

/* *p = v, which will not be read soon: the caches let it go first. */
template <typename T> __device__ __forceinline__ void store_once(T *p, T v)
{
#ifdef SIMT
    *p = v;
#else
    __stcs(p, v);
#endif
}

/* v = p[0..each-1]; each is 8 or 4, p aligned to 16 bytes, or 1. */
template <int each> __device__ __forceinline__ void load_run(float (&v)[each], const float *p)
{
    if constexpr (each == 1)
        v[0] = *p;
    else
        for (int i = 0; i < each; i += 4) {
            const float4 four = *(const float4 *)(p + i);
            v[i] = four.x;
            v[i + 1] = four.y;
            v[i + 2] = four.z;
            v[i + 3] = four.w;
        }
}

/* As floats; each is 8 or 4, p aligned to 16 or 8 bytes, or 1. */
template <int each, typename T> __device__ __forceinline__ void load_run(float (&v)[each], const T *p)
{
    if constexpr (each == 8) {
        const uint4 eight = *(const uint4 *)p;
        const uint32_t word[4] = {eight.x, eight.y, eight.z, eight.w};
        for (int i = 0; i < 4; i++) {
            v[2*i] = to_float(T{(uint16_t)word[i]});
            v[2*i + 1] = to_float(T{(uint16_t)(word[i] >> 16)});
        }
    } else if constexpr (each == 4) {
        const uint2 four = *(const uint2 *)p;
        v[0] = to_float(T{(uint16_t)four.x});
        v[1] = to_float(T{(uint16_t)(four.x >> 16)});
        v[2] = to_float(T{(uint16_t)four.y});
        v[3] = to_float(T{(uint16_t)(four.y >> 16)});
    } else {
        v[0] = to_float(*p);
    }
}

/* y[i..i+each-1] = v; each is 8 or 4, i a multiple of it, y aligned to that many, or 1. */
template <typename T, int each> __device__ __forceinline__ void store_run(T *y, int64_t i, const float (&v)[each])
{
    if constexpr (each == 8 && sizeof(T) == 2) {
        *(uint4 *)(y + i) = make_uint4(pack_pair<T>(v[0], v[1]), pack_pair<T>(v[2], v[3]), pack_pair<T>(v[4], v[5]),
                                       pack_pair<T>(v[6], v[7]));
    } else if constexpr (each == 1) {
        y[i] = from_float<T>(v[0]);
    } else {
        for (int j = 0; j < each; j += 4)
            store4(y, i + j, make_float4(v[j], v[j + 1], v[j + 2], v[j + 3]));
    }
}

/* ---- sums whose order depends on nothing but the lane's number ---- */

template <typename T> __device__ __forceinline__ T warp_sum(T v)           /* every lane gets the sum */
{
    for (int step = WARP/2; step; step /= 2)
        v += __shfl_xor_sync(ALL_LANES, v, step);
    return v;
}

/* Sum over a block of whole warps; every thread gets it. room: 32 of T in shared memory, free again after the call. */
template <typename T> __device__ __forceinline__ T block_sum(T v, T *room)
{
    const int warps = blockDim.x/WARP, lane = threadIdx.x%WARP;
    v = warp_sum(v);
    if (lane == 0)
        room[threadIdx.x/WARP] = v;
    __syncthreads();
    v = warp_sum(lane < warps ? room[lane] : (T)0);
    __syncthreads();
    return v;
}

/* ---- activations, exact to f32 rounding ---- */

__device__ __forceinline__ float activate_value(float x, Activation act)
{
    switch (act) {
    case ACT_SILU:       return x/(1 + expf(-x));
    case ACT_GELU:       return 0.5f*x*(1 + erff(x*0.70710678118f));
    case ACT_GELU_TANH:  return x/(1 + expf(-x*(1.5957691216f + 0.0713548163f*x*x)));
    case ACT_QUICK_GELU: return x/(1 + expf(-1.702f*x));
    case ACT_RELU:       return x < 0 ? 0 : x;              /* a NaN stays */
    case ACT_NONE:
    case ACT_GEGLU:      break;                             /* of two values (elementwise.cu) */
    }
    return x;
}

/* 2^x within 2 units of the last place; subnormals are 0. */
__device__ __forceinline__ float power_of_2(float x)
{
#ifdef SIMT
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/* ---- the ops; each is described in op.h and in its file ---- */

int cuda_conv_create(Conv **conv, const ConvSpec *spec, const Weight *const *weight, const Weight *const *bias,
                     int parts, Err *e);
void cuda_conv_free(Conv *c);
void cuda_conv_run(Conv *c, void *y, const void *x, int64_t B, int64_t H, int64_t W, bool add);
void cuda_group_norm(void *y, DType y_type, void *as_is, const NormInput *in, const float *gamma, const float *beta,
                     int64_t B, int64_t HW, int groups, float eps, Activation act);
void cuda_layer_norm(void *y, DType y_type, const void *x, DType x_type, const float *gamma, const float *beta,
                     int64_t N, int D, float eps);
void cuda_modulate(void *y, DType y_type, const float *x, const float *shift, const float *scale, int64_t stride,
                   int64_t B, int64_t S, int D, float eps);
void cuda_rms_norm(void *y, DType y_type, int64_t y_stride, const void *x, DType x_type, int64_t x_stride,
                   const float *gamma, int64_t N, int groups, int D, float eps);
void cuda_attention(void *y, int64_t y_stride, const void *q, int64_t q_stride, const void *k, int64_t k_stride,
                    const void *v, int64_t v_stride, DType type, int64_t B, int heads, int head_dim, int64_t Sq,
                    int64_t Sk, const int32_t *kv_index, float scale, bool causal);
void cuda_attention_biased(void *y, int64_t y_stride, const void *q, int64_t q_stride, const void *k, int64_t k_stride,
                           const void *v, int64_t v_stride, DType type, int64_t B, int heads, int head_dim, int64_t Sq,
                           int64_t Sk, const float *bias, float scale);
void cuda_activate(void *y, DType y_type, const float *x, int64_t n, Activation act);
void cuda_convert(void *y, DType y_type, const void *x, DType x_type, int64_t n);
void cuda_store(void *y, DType y_type, const float *x, int64_t n, uint64_t *unfit);
void cuda_add(float *y, const float *x, int64_t n);
void cuda_add_gated(float *x, const void *y, DType y_type, const float *gate, int64_t stride, int64_t B, int64_t S,
                    int D);
void cuda_multiply(void *y, const void *x, DType type, int64_t n);
void cuda_subtract(float *y, const float *a, const float *b, int64_t n);
void cuda_upsample(void *y, DType y_type, const void *x, DType x_type, int64_t B, int64_t H, int64_t W, int C,
                   int64_t Ho, int64_t Wo);
void cuda_unpatch(float *y, const float *x, int64_t B, int64_t h, int64_t w, int p, int C);
void cuda_embed(float *y, const float *table, const float *position, const int32_t *ids, int64_t N, int64_t S, int D);
void cuda_record_ops(Ops *ops);
void cuda_ddim_step(float *x, const float *uncond, const float *cond, float guidance, float sqrt_a, float sqrt_1m_a,
                    float sqrt_a_prev, float sqrt_1m_a_prev, Prediction prediction, int64_t n);
void cuda_multistep(float *y, float *store, const float *uncond, const float *cond, float guidance,
                    const float *const before[3], const float weight[4], float share, int64_t n);
void cuda_dpm_step(float *x, float *x0, const float *uncond, const float *cond, float guidance, float alpha,
                   float sigma, float keep, float data, float change, Prediction prediction, int64_t n);
void cuda_comm_ops(CommOps *ops);

/* y T (N,D) = h[:, :D] * gelu(h[:, D:]), h T (N,2D): what conv_run does with ACT_GEGLU after the product. */
void cuda_geglu(void *y, const void *h, DType type, int64_t N, int D);
/* y = act(y), y T: what conv_run does after a library's product. */
void cuda_activate_made(void *y, DType type, int64_t n, Activation act);

#endif
