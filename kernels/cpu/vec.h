/* SPDX-License-Identifier: MIT */
/* vec.h -- vectors as wide as the registers of a level (level.h), and exp, sigmoid, erf and gelu on them.
 *
 * A V is one register: 16 floats of AVX-512, 8 of AVX2, 4 elsewhere; loops over lanes (EACH_LANE) become one
 * instruction or two. Sums over lanes differ in their order, and so in their last bits, from level to level.
 *
 *   v_exp      2^n * p(r), x = n ln 2 + r, |r| <= ln 2 / 2; p of degree 5 by reweighted least squares: relative
 *              error below 2e-7. 0 below -87, exp(88) above 88.
 *   v_erf      x P(x^2)/Q(x^2), P and Q by reweighted least squares on |x| < 3.9 (error of the fit 1.5e-8, with f32
 *              rounding 4e-7); 1 from 3.83 on, where f32 rounds erf to it.
 * NaN stays NaN in all of them. */
#ifndef KERNELS_CPU_VEC_H
#define KERNELS_CPU_VEC_H

#include <stdint.h>
#include <string.h>
#include "formats/dtype.h"
#include "kernels/op.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* REGISTERS: how many vectors the sums of a loop, and what it adds to them, may be. */
#if defined(__AVX512F__)
enum { LANES = 16, REGISTERS = 32 };
#elif defined(__AVX__)
enum { LANES = 8, REGISTERS = 16 };
#elif defined(__x86_64__)
enum { LANES = 4, REGISTERS = 16 };
#else
enum { LANES = 4, REGISTERS = 32 };
#endif
/* A loop over lanes that becomes instructions on vectors, at any level of optimisation. */
#define EACH_LANE(l) _Pragma("omp simd") for (int l = 0; l < LANES; l++)
typedef float V __attribute__((vector_size(4*LANES)));
typedef int32_t VInt __attribute__((vector_size(4*LANES)));
typedef uint32_t VBits __attribute__((vector_size(4*LANES)));
typedef uint16_t VHalf __attribute__((vector_size(2*LANES)));

ALWAYS_INLINE V v_splat(float x)
{
    return x - (V){0};
}

/* The first n of a vector, n <= LANES; the other lanes are 0 (load) or untouched (store). */
#ifdef __AVX512F__
ALWAYS_INLINE V v_load(const float *x, int n)
{
    return n == LANES ? (V)_mm512_loadu_ps(x) : (V)_mm512_maskz_loadu_ps((__mmask16)((1 << n) - 1), x);
}

ALWAYS_INLINE void v_store(float *y, V v, int n)
{
    if (n == LANES)
        _mm512_storeu_ps(y, (__m512)v);
    else
        _mm512_mask_storeu_ps(y, (__mmask16)((1 << n) - 1), (__m512)v);
}

ALWAYS_INLINE VHalf v_load_half(const uint16_t *x, int n)
{
    return n == LANES ? (VHalf)_mm256_loadu_si256((const __m256i *)x)
                      : (VHalf)_mm256_maskz_loadu_epi16((__mmask16)((1 << n) - 1), x);
}

ALWAYS_INLINE void v_store_half(uint16_t *y, VHalf v, int n)
{
    if (n == LANES)
        _mm256_storeu_si256((__m256i *)y, (__m256i)v);
    else
        _mm256_mask_storeu_epi16(y, (__mmask16)((1 << n) - 1), (__m256i)v);
}
#else
ALWAYS_INLINE V v_load(const float *x, int n)
{
    V v = {0};
    if (n == LANES)
        memcpy(&v, x, sizeof v);
    else
        memcpy(&v, x, (size_t)n*sizeof *x);
    return v;
}

ALWAYS_INLINE void v_store(float *y, V v, int n)
{
    if (n == LANES)
        memcpy(y, &v, sizeof v);
    else
        memcpy(y, &v, (size_t)n*sizeof *y);
}

ALWAYS_INLINE VHalf v_load_half(const uint16_t *x, int n)
{
    VHalf v = {0};
    if (n == LANES)
        memcpy(&v, x, sizeof v);
    else
        memcpy(&v, x, (size_t)n*sizeof *x);
    return v;
}

ALWAYS_INLINE void v_store_half(uint16_t *y, VHalf v, int n)
{
    if (n == LANES)
        memcpy(y, &v, sizeof v);
    else
        memcpy(y, &v, (size_t)n*sizeof *y);
}
#endif

ALWAYS_INLINE V v_from_bf16(VHalf h)
{
    return (V)(__builtin_convertvector(h, VBits) << 16);
}

/* Round to nearest even; a NaN keeps its upper bits and becomes quiet. */
ALWAYS_INLINE VHalf v_to_bf16(V v)
{
    const VBits u = (VBits)v;
    const VBits rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    VBits r;
    EACH_LANE(l)
        r[l] = (u[l] & 0x7fffffff) > 0x7f800000 ? (u[l] >> 16) | 0x40 : rounded[l];
    return __builtin_convertvector(r, VHalf);
}

/* The same, where numbers below 2^-126 may become 0: by one instruction where it is. */
ALWAYS_INLINE VHalf v_round_bf16(V v)
{
#ifdef __AVX512BF16__
    return (VHalf)_mm512_cvtneps_pbh((__m512)v);
#else
    return v_to_bf16(v);
#endif
}

/* The same of one value. */
ALWAYS_INLINE uint32_t bf16_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

/* Elements [i, i+n) of an array of F32 or BF16; stored as v_round_bf16 has it. */
ALWAYS_INLINE V v_load_as(const void *x, DType type, int64_t i, int n)
{
    return type == F32 ? v_load((const float *)x + i, n) : v_from_bf16(v_load_half((const uint16_t *)x + i, n));
}

ALWAYS_INLINE void v_store_as(void *y, DType type, int64_t i, V v, int n)
{
    if (type == F32)
        v_store((float *)y + i, v, n);
    else
        v_store_half((uint16_t *)y + i, v_round_bf16(v), n);
}

/* The larger of each lane; b where either is NaN. */
ALWAYS_INLINE V v_max(V a, V b)
{
    V r;
    EACH_LANE(l)
        r[l] = a[l] > b[l] ? a[l] : b[l];
    return r;
}

ALWAYS_INLINE V v_min(V a, V b)
{
    V r;
    EACH_LANE(l)
        r[l] = a[l] < b[l] ? a[l] : b[l];
    return r;
}

/* v = join(v, v turned by half its lanes), by a quarter, ... by two: lanes 0 and 1 are then of all even and all odd
 * ones. The shuffles are constants, which a loop over them would not be. */
#if defined(__AVX512F__)
#define V_FOLD(v, join) \
    v = join(v, __builtin_shuffle(v, (VInt){8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7})); \
    v = join(v, __builtin_shuffle(v, (VInt){4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3})); \
    v = join(v, __builtin_shuffle(v, (VInt){2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1}))
#elif defined(__AVX__)
#define V_FOLD(v, join) \
    v = join(v, __builtin_shuffle(v, (VInt){4, 5, 6, 7, 0, 1, 2, 3})); \
    v = join(v, __builtin_shuffle(v, (VInt){2, 3, 0, 1, 2, 3, 0, 1}))
#else
#define V_FOLD(v, join) v = join(v, __builtin_shuffle(v, (VInt){2, 3, 0, 1}))
#endif

ALWAYS_INLINE V v_add(V a, V b)
{
    return a + b;
}

/* Sum and maximum of the lanes. */
ALWAYS_INLINE float v_sum(V v)
{
    V_FOLD(v, v_add);
    return v[0] + v[1];
}

ALWAYS_INLINE float v_top(V v)
{
    V_FOLD(v, v_max);
    return v[0] > v[1] ? v[0] : v[1];
}

/* A bit for each lane where a > b, a >= b, a == b; none where either is NaN. */
#if defined(__AVX512F__)
#define V_COMPARE(name, operator, kind) \
    ALWAYS_INLINE unsigned name(V a, V b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, kind); }
#elif defined(__AVX__)
#define V_COMPARE(name, operator, kind) \
    ALWAYS_INLINE unsigned name(V a, V b) { return (unsigned)_mm256_movemask_ps((__m256)(a operator b)); }
#elif defined(__x86_64__)
#define V_COMPARE(name, operator, kind) \
    ALWAYS_INLINE unsigned name(V a, V b) { return (unsigned)_mm_movemask_ps((__m128)(a operator b)); }
#else
#define V_COMPARE(name, operator, kind) \
    ALWAYS_INLINE unsigned name(V a, V b) \
    { \
        const VInt bit = (a operator b) & (VInt){1, 2, 4, 8}; \
        return (unsigned)(bit[0] | bit[1] | bit[2] | bit[3]); \
    }
#endif
V_COMPARE(v_greater, >, _CMP_GT_OQ)
V_COMPARE(v_reaches, >=, _CMP_GE_OQ)
V_COMPARE(v_equal, ==, _CMP_EQ_OQ)
#undef V_COMPARE

/* exp of what is not above 88. */
ALWAYS_INLINE V v_exp_below(V x)
{
    const V magic = v_splat(12582912.0f);       /* 1.5 * 2^23: adding it rounds to an integer */
    const V shifted = x*1.44269504089f + magic;
    const V n = shifted - magic;
    V r = x - n*0.693359375f;
    r = r - n*-2.12194440e-4f;
    V p = r*8.312501489e-3f + 4.189033233e-2f;
    p = p*r + 1.666711539e-1f;
    p = p*r + 4.999923030e-1f;
    p = p*r + 1.0f;
    p = p*r + 1.0f;
    p = (V)((VBits)p + ((VBits)shifted << 23));
    V y;
    EACH_LANE(l)
        y[l] = x[l] < -87.0f ? 0.0f : p[l];
    return y;
}

ALWAYS_INLINE V v_exp(V x)
{
    const V p = v_exp_below(x);
    V y;
    EACH_LANE(l)
        y[l] = x[l] > 88.0f ? 1.6516363e38f : p[l];
    return y;
}

/* a/b of numbers, b from 2^-126 to 2^127: where a division of AVX-512 takes 16 cycles, by its estimate of 1/b to 2^-14
 * and one step of Newton's, to 2 units of the last place. */
ALWAYS_INLINE V v_divide(V a, V b)
{
#ifdef __AVX512F__
    const V r = (V)_mm512_rcp14_ps((__m512)b);
    return a*(r*(2.0f - b*r));
#else
    return a/b;
#endif
}

ALWAYS_INLINE V v_sigmoid(V x)
{
    return v_divide(v_splat(1), 1.0f + v_exp(-x));
}

ALWAYS_INLINE V v_erf(V x)
{
    const V u = x*x;
    V p = u*2.050355084e-06f + 2.874463151e-04f;
    p = p*u + 3.836638961e-03f;
    p = p*u + 5.296619928e-02f;
    p = p*u + 1.919362252e-01f;
    p = p*u + 1.128379033e+00f;
    V q = u*3.822982711e-05f + 1.181665793e-03f;
    q = q*u + 1.510874587e-02f;
    q = q*u + 1.147561409e-01f;
    q = q*u + 5.034308328e-01f;
    q = q*u + 1.0f;
    const V inside = v_divide(x*p, q);
    V y;
    EACH_LANE(l)
        y[l] = x[l] > 3.83f ? 1.0f : x[l] < -3.83f ? -1.0f : inside[l];
    return y;
}

ALWAYS_INLINE V v_gelu(V x)
{
    return 0.5f*x*(1.0f + v_erf(x*0.70710678118f));
}

/* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), where (1 + tanh u)/2 = sigmoid(2u) */
ALWAYS_INLINE V v_gelu_tanh(V x)
{
    return x*v_sigmoid(x*(1.5957691216f + 0.0713548163f*x*x));
}

ALWAYS_INLINE V v_relu(V x)             /* a NaN stays */
{
    V y;
    EACH_LANE(l)
        y[l] = x[l] < 0.0f ? 0.0f : x[l];
    return y;
}

ALWAYS_INLINE V v_activate(V x, Activation act)
{
    switch (act) {
    case ACT_SILU:       return x*v_sigmoid(x);
    case ACT_GELU:       return v_gelu(x);
    case ACT_GELU_TANH:  return v_gelu_tanh(x);
    case ACT_QUICK_GELU: return x*v_sigmoid(1.702f*x);
    case ACT_RELU:       return v_relu(x);
    case ACT_NONE:
    case ACT_GEGLU:      break;             /* of two values (elementwise.c) */
    }
    return x;
}

#endif
