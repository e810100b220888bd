/* SPDX-License-Identifier: MIT */
/* level.h -- the functions of the CPU backend that are compiled once a level of x86-64, and once elsewhere.
 *
 * The Makefile compiles the files that include this with CPU_BUILD any, avx2, avx512 or avx512_bf16 and the compiler's
 * flags for it. Within them cpu_group_norm is cpu_group_norm_avx2, and so on: files of a level call each other by the
 * plain names. */
#ifndef KERNELS_CPU_LEVEL_H
#define KERNELS_CPU_LEVEL_H

#include "kernels/cpu/cpu.h"

#define CPU_JOINED(name, level) name##_##level
#define CPU_EXPANDED(name, level) CPU_JOINED(name, level)
#define CPU_OF_LEVEL(name) CPU_EXPANDED(name, CPU_BUILD)

#define cpu_level_ops       CPU_OF_LEVEL(cpu_level_ops)
#define cpu_conv_create     CPU_OF_LEVEL(cpu_conv_create)
#define cpu_conv_free       CPU_OF_LEVEL(cpu_conv_free)
#define cpu_conv_run        CPU_OF_LEVEL(cpu_conv_run)
#define cpu_gemm            CPU_OF_LEVEL(cpu_gemm)
#define cpu_tiled_gemm      CPU_OF_LEVEL(cpu_tiled_gemm)
#define cpu_tiled_create    CPU_OF_LEVEL(cpu_tiled_create)
#define cpu_tiled_free      CPU_OF_LEVEL(cpu_tiled_free)
#define cpu_tiled_run       CPU_OF_LEVEL(cpu_tiled_run)
#define cpu_tile            CPU_OF_LEVEL(cpu_tile)
#define cpu_group_norm      CPU_OF_LEVEL(cpu_group_norm)
#define cpu_layer_norm      CPU_OF_LEVEL(cpu_layer_norm)
#define cpu_modulate        CPU_OF_LEVEL(cpu_modulate)
#define cpu_rms_norm        CPU_OF_LEVEL(cpu_rms_norm)
#define cpu_attention       CPU_OF_LEVEL(cpu_attention)
#define cpu_attention_biased CPU_OF_LEVEL(cpu_attention_biased)
#define cpu_activate        CPU_OF_LEVEL(cpu_activate)
#define cpu_geglu           CPU_OF_LEVEL(cpu_geglu)
#define cpu_convert         CPU_OF_LEVEL(cpu_convert)
#define cpu_store           CPU_OF_LEVEL(cpu_store)
#define cpu_add             CPU_OF_LEVEL(cpu_add)
#define cpu_add_gated       CPU_OF_LEVEL(cpu_add_gated)
#define cpu_multiply        CPU_OF_LEVEL(cpu_multiply)
#define cpu_subtract        CPU_OF_LEVEL(cpu_subtract)
#define cpu_upsample        CPU_OF_LEVEL(cpu_upsample)
#define cpu_unpatch         CPU_OF_LEVEL(cpu_unpatch)
#define cpu_embed           CPU_OF_LEVEL(cpu_embed)
#define cpu_ddim_step       CPU_OF_LEVEL(cpu_ddim_step)
#define cpu_dpm_step        CPU_OF_LEVEL(cpu_dpm_step)
#define cpu_multistep       CPU_OF_LEVEL(cpu_multistep)
#define cpu_topk_row        CPU_OF_LEVEL(cpu_topk_row)
#define cpu_pack_panel      CPU_OF_LEVEL(cpu_pack_panel)
#define cpu_sae_decode      CPU_OF_LEVEL(cpu_sae_decode)
#define cpu_sae_ops         CPU_OF_LEVEL(cpu_sae_ops)
#define cpu_sae_encode_ops  CPU_OF_LEVEL(cpu_sae_encode_ops)
#define cpu_sae_grad_ops    CPU_OF_LEVEL(cpu_sae_grad_ops)
#define cpu_sae_dense_ops   CPU_OF_LEVEL(cpu_sae_dense_ops)

/* The ops; each is described in op.h and in its file. */
int cpu_conv_create(Conv **conv, const ConvSpec *spec, const Weight *const *weight, const Weight *const *bias,
                    int parts, Err *e);
void cpu_conv_free(Conv *c);
void cpu_conv_run(Conv *c, void *y, const void *x, int64_t B, int64_t H, int64_t W, bool add);
void cpu_gemm(float *C, bool add, const float *A, bool A_turned, const float *B, bool B_turned, int64_t M, int64_t N,
              int64_t K);
int cpu_tiled_create(Conv **conv, const ConvSpec *spec, const Weight *const *weight, const Weight *const *bias,
                     int parts, Err *e);
void cpu_tiled_free(Conv *c);
void cpu_tiled_run(Conv *c, void *y, const void *x, int64_t B, int64_t H, int64_t W, bool add);
void cpu_tiled_gemm(float *C, bool add, const float *A, bool A_turned, const float *B, bool B_turned, int64_t M,
                    int64_t N, int64_t K);
void cpu_group_norm(void *y, DType y_type, void *as_is, const NormInput *in, const float *gamma, const float *beta,
                    int64_t B, int64_t HW, int groups, float eps, Activation act);
void cpu_layer_norm(void *y, DType y_type, const void *x, DType x_type, const float *gamma, const float *beta,
                    int64_t N, int D, float eps);
void cpu_modulate(void *y, DType y_type, const float *x, const float *shift, const float *scale, int64_t stride,
                  int64_t B, int64_t S, int D, float eps);
void cpu_rms_norm(void *y, DType y_type, int64_t y_stride, const void *x, DType x_type, int64_t x_stride,
                  const float *gamma, int64_t N, int groups, int D, float eps);
void cpu_attention(void *y, int64_t y_stride, const void *q, int64_t q_stride, const void *k, int64_t k_stride,
                   const void *v, int64_t v_stride, DType type, int64_t B, int heads, int head_dim, int64_t Sq,
                   int64_t Sk, const int32_t *kv_index, float scale, bool causal);
void cpu_attention_biased(void *y, int64_t y_stride, const void *q, int64_t q_stride, const void *k, int64_t k_stride,
                          const void *v, int64_t v_stride, DType type, int64_t B, int heads, int head_dim, int64_t Sq,
                          int64_t Sk, const float *bias, float scale);
void cpu_activate(void *y, DType y_type, const float *x, int64_t n, Activation act);
void cpu_convert(void *y, DType y_type, const void *x, DType x_type, int64_t n);
void cpu_store(void *y, DType y_type, const float *x, int64_t n, uint64_t *unfit);
void cpu_add(float *y, const float *x, int64_t n);
void cpu_add_gated(float *x, const void *y, DType y_type, const float *gate, int64_t stride, int64_t B, int64_t S,
                   int D);
void cpu_multiply(void *y, const void *x, DType type, int64_t n);
void cpu_subtract(float *y, const float *a, const float *b, int64_t n);
void cpu_upsample(void *y, DType y_type, const void *x, DType x_type, int64_t B, int64_t H, int64_t W, int C,
                  int64_t Ho, int64_t Wo);
void cpu_unpatch(float *y, const float *x, int64_t B, int64_t h, int64_t w, int p, int C);
void cpu_embed(float *y, const float *table, const float *position, const int32_t *ids, int64_t N, int64_t S, int D);
void cpu_ddim_step(float *x, const float *uncond, const float *cond, float guidance, float sqrt_a, float sqrt_1m_a,
                   float sqrt_a_prev, float sqrt_1m_a_prev, Prediction prediction, int64_t n);
void cpu_multistep(float *y, float *store, const float *uncond, const float *cond, float guidance,
                   const float *const before[3], const float weight[4], float share, int64_t n);
void cpu_dpm_step(float *x, float *x0, const float *uncond, const float *cond, float guidance, float alpha, float sigma,
                  float keep, float data, float change, Prediction prediction, int64_t n);
void cpu_sae_ops(SaeOps *ops);

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The next multiple of `to`. */
static inline int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1)/to*to;
}

/* y (N,D) of y_type = h[:, :D] * gelu(h[:, D:]), h (N,2D): what conv_run does with ACT_GEGLU after the product. */
void cpu_geglu(void *y, DType y_type, const float *h, int64_t N, int D);

#endif
