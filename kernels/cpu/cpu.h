/* SPDX-License-Identifier: MIT */
/* cpu.h -- what the CPU backend's files share: the level of the machine, one body compiled for several instruction
 * sets, scratch memory, and the functions that fill the table.
 *
 * One program runs on every x86-64: an inner loop is written once (NAME_body, in vectors of 16 floats, see vec.h) and
 * CPU_VARIANTS compiles it for AVX-512, for AVX2 and for any, and chooses when it is called. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "kernels/op.h"

typedef enum { CPU_ANY, CPU_AVX2, CPU_AVX512, CPU_AVX512_BF16 } CpuLevel;

/* What the inner loops may use. Set by cpu_ops from the machine; a test may lower it, never raise it. */
extern CpuLevel cpu_level;

/* Fills and returns the CPU table. Every call returns the same one. */
const Ops *cpu_ops(void);

/* One buffer for what an op needs while it runs: at least bytes, 64-byte aligned, not cleared, good until the next
 * call. It only grows, so that an op at a known shape allocates nothing. Ops are called from one thread, which calls
 * this. */
void *cpu_scratch(size_t bytes);

/* Values moved below which a parallel region costs more than it saves: for `#pragma omp parallel for if (...)`. */
enum { CPU_PARALLEL = 16384 };

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define AVX512 "avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512"
#define TARGET_AVX512 __attribute__((target(AVX512)))
#define TARGET_AVX512_BF16 __attribute__((target(AVX512 ",avx512bf16")))
#define TARGET_AVX2 __attribute__((target("avx2,fma")))

/* Defines NAME(params), which runs NAME_body(arguments) compiled for the machine at hand. */
#define CPU_VARIANTS(name, params, arguments)                                                                          \
    TARGET_AVX512 static void name##_avx512 params { name##_body arguments; }                                          \
    TARGET_AVX2 static void name##_avx2 params { name##_body arguments; }                                              \
    static void name##_any params { name##_body arguments; }                                                           \
    static void name params                                                                                            \
    {                                                                                                                  \
        if (cpu_level >= CPU_AVX512)                                                                                   \
            name##_avx512 arguments;                                                                                   \
        else if (cpu_level >= CPU_AVX2)                                                                                \
            name##_avx2 arguments;                                                                                     \
        else                                                                                                           \
            name##_any arguments;                                                                                      \
    }

/* The ops; each is described in op.h and in its file. */
int cpu_conv_create(Conv **conv, const ConvSpec *spec, const Weight *const *weight, const Weight *const *bias,
                    int parts, Err *e);
void cpu_conv_free(Conv *c);
void cpu_conv_run(Conv *c, void *y, const void *x, int64_t B, int64_t H, int64_t W, bool add);
void cpu_group_norm(void *y, DType y_type, void *as_is, const NormInput *in, const float *gamma, const float *beta,
                    int64_t B, int64_t HW, int groups, float eps, Activation act);
void cpu_layer_norm(void *y, DType y_type, const float *x, const float *gamma, const float *beta, int64_t N, int D,
                    float eps);
void cpu_attention(void *y, int64_t y_stride, const void *q, int64_t q_stride, const void *k, int64_t k_stride,
                   const void *v, int64_t v_stride, DType type, int64_t B, int heads, int head_dim, int64_t Sq,
                   int64_t Sk, const int32_t *kv_index, float scale, bool causal);
void cpu_activate(void *y, DType y_type, const float *x, int64_t n, Activation act);
void cpu_convert(void *y, DType y_type, const void *x, DType x_type, int64_t n);
void cpu_store(void *y, DType y_type, const float *x, int64_t n, uint64_t *unfit);
void cpu_add(float *y, const float *x, int64_t n);
void cpu_subtract(float *y, const float *a, const float *b, int64_t n);
void cpu_upsample(void *y, DType y_type, const float *x, int64_t B, int64_t H, int64_t W, int C, int64_t Ho,
                  int64_t Wo);
void cpu_embed(float *y, const float *table, const float *position, const int32_t *ids, int64_t N, int64_t S, int D);
void cpu_ddim_step(float *x, const float *uncond, const float *cond, float guidance, float sqrt_a, float sqrt_1m_a,
                   float sqrt_a_prev, float sqrt_1m_a_prev, Prediction prediction, int64_t n);
void cpu_multistep(float *y, float *store, const float *uncond, const float *cond, float guidance,
                   const float *const before[3], const float weight[4], float share, int64_t n);
void cpu_dpm_step(float *x, float *x0, const float *uncond, const float *cond, float guidance, float alpha, float sigma,
                  float keep, float data, float change, Prediction prediction, int64_t n);
void cpu_sae_ops(SaeOps *ops);

/* y (N,D) of y_type = h[:, :D] * gelu(h[:, D:]), h (N,2D): what conv_run does with ACT_GEGLU after the product. */
void cpu_geglu(void *y, DType y_type, const float *h, int64_t N, int D);
void cpu_comm_ops(CommOps *ops);

#endif
