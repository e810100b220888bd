/* SPDX-License-Identifier: MIT */
/* dtype.c -- element types, and conversion to and from float.
 *
 *     bf16  the upper half of an f32          f16  1 sign, 5 exponent (bias 15), 10 mantissa bits, with subnormals
 *
 * Each loop exists once, inlined into one function a processor level, so that the compiler vectorises it for that
 * level; the level is asked of the processor at run time. f16 uses the F16C instructions where they are. All give equal
 * bits. */
#include <stdio.h>
#include <string.h>
#include "formats/dtype.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#pragma GCC optimize("O3")      /* at O2 gcc 12 vectorises no loop whose length it does not know */

static const struct { size_t size; const char *name, *numpy, *safetensors; } types[DTYPE_COUNT] = {
    [F32] = {4, "f32", "<f4", "F32"}, [F16] = {2, "f16", "<f2", "F16"}, [BF16] = {2, "bf16", "bfloat16", "BF16"},
    [F64] = {8, "f64", "<f8", "F64"}, [I8] = {1, "i8", "|i1", "I8"}, [U8] = {1, "u8", "|u1", "U8"},
    [I16] = {2, "i16", "<i2", "I16"}, [I32] = {4, "i32", "<i4", "I32"}, [I64] = {8, "i64", "<i8", "I64"},
};

size_t dtype_size(DType t)
{
    return (unsigned)t < DTYPE_COUNT ? types[t].size : 0;
}

const char *dtype_name(DType t)
{
    return (unsigned)t < DTYPE_COUNT ? types[t].name : "unknown";
}

int dtype_parse(const char *name)
{
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (strcmp(types[t].name, name) == 0)
            return t;
    return -1;
}

const char *dtype_numpy(DType t)
{
    return types[t].numpy;
}

const char *dtype_safetensors(DType t)
{
    return types[t].safetensors;
}

bool dtype_is_float(DType t)
{
    return t == F32 || t == F16 || t == BF16;
}

const char *shape_text(char text[SHAPE_SIZE], int ndim, const int64_t *dim)
{
    const int size = SHAPE_SIZE;
    int used = snprintf(text, SHAPE_SIZE, "(");
    for (int i = 0; i < ndim && used < size; i++)
        used += dim[i] < 0 ? snprintf(text + used, (size_t)(size - used), "%s*", i ? ", " : "")
                           : snprintf(text + used, (size_t)(size - used), "%s%lld", i ? ", " : "", (long long)dim[i]);
    if (used < size - 1)
        strcpy(text + used, ")");
    return text;
}

/* ---- one value ---- */

#define INLINE static inline __attribute__((always_inline))

INLINE float float_of(uint32_t bits)
{
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

INLINE uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE float from_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, low = h & 0x7fff;
    if (low > 0x7c00)
        return float_of(sign | 0x7fc00000 | low << 13);                     /* NaN, made quiet */
    if (low == 0x7c00)
        return float_of(sign | 0x7f800000);
    if (low < 0x0400)
        return float_of(sign | bits_of((float)low * 0x1p-24f));             /* subnormal: an exact multiple of 2^-24 */
    return float_of(sign | ((low << 13) + (112u << 23)));                   /* exponent bias 15 to 127 */
}

INLINE uint16_t to_f16(float x)
{
    const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, low = bits & 0x7fffffff;
    if (low > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (low >> 13 & 0x3ff));             /* NaN, made quiet */
    if (low >= 0x477ff000)
        return (uint16_t)(sign | 0x7c00);                                   /* 65520 and above round to infinity */
    /* Under 2^-14: adding 0.5 rounds to 2^-24 */
    if (low < 0x38800000)
        return (uint16_t)(sign | (bits_of(float_of(low) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | ((low - (112u << 23) + 0xfff + (low >> 13 & 1)) >> 13));
}

INLINE uint16_t to_bf16(float x)
{
    const uint32_t bits = bits_of(x);
    const uint32_t quiet = bits >> 16 | 0x40, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

/* ---- rows: loads and stores by memcpy, since a mapped file need not be aligned ---- */

#define LOAD(type, p, i) __extension__({ type v_; memcpy(&v_, (const char *)(p) + (i) * sizeof(type), sizeof v_); v_; })
#define STORE(p, i, v) memcpy((char *)(p) + (i) * sizeof(v), &(v), sizeof(v))

INLINE void widen(float *restrict y, const void *restrict x, DType type, size_t n)
{
    switch (type) {
    case F32:  if (n) memcpy(y, x, n * sizeof *y); break;
    case F16:  for (size_t i = 0; i < n; i++) y[i] = from_f16(LOAD(uint16_t, x, i)); break;
    case BF16: for (size_t i = 0; i < n; i++) y[i] = float_of((uint32_t)LOAD(uint16_t, x, i) << 16); break;
    case F64:  for (size_t i = 0; i < n; i++) y[i] = (float)LOAD(double, x, i); break;
    case I8:   for (size_t i = 0; i < n; i++) y[i] = LOAD(int8_t, x, i); break;
    case U8:   for (size_t i = 0; i < n; i++) y[i] = LOAD(uint8_t, x, i); break;
    case I16:  for (size_t i = 0; i < n; i++) y[i] = LOAD(int16_t, x, i); break;
    case I32:  for (size_t i = 0; i < n; i++) y[i] = (float)LOAD(int32_t, x, i); break;
    case I64:  for (size_t i = 0; i < n; i++) y[i] = (float)LOAD(int64_t, x, i); break;
    case DTYPE_COUNT: break;
    }
}

INLINE void narrow(void *restrict y, DType type, const float *restrict x, size_t n)
{
    if (type == F32 && n)
        memcpy(y, x, n * sizeof *x);
    for (size_t i = 0; type == BF16 && i < n; i++) {
        const uint16_t v = to_bf16(x[i]);
        STORE(y, i, v);
    }
    for (size_t i = 0; type == F16 && i < n; i++) {
        const uint16_t v = to_f16(x[i]);
        STORE(y, i, v);
    }
}

/* The largest of the magnitudes' bits, which are in the order of the magnitudes, infinity and then NaN above all
 * others. */
INLINE uint32_t largest(const void *x, DType type, size_t n)
{
    uint32_t all = 0;
    uint16_t half = 0;
    if (type == F32)
        for (size_t i = 0; i < n; i++) {
            const uint32_t bits = LOAD(uint32_t, x, i) & 0x7fffffff;
            all = bits > all ? bits : all;
        }
    else
        for (size_t i = 0; i < n; i++) {
            const uint16_t bits = LOAD(uint16_t, x, i) & 0x7fff;
            half = bits > half ? bits : half;
        }
    return type == F32 ? all : half;
}

#if defined(__x86_64__)
#define LEVEL4 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define LEVEL3 __attribute__((target("avx2,f16c,fma")))

LEVEL4 static void widen_level4(float *y, const void *x, DType type, size_t n)
{
    size_t i = 0;
    if (type == F16)
        for (; i + 16 <= n; i += 16)
            _mm512_storeu_ps(y + i, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)((const char *)x + 2*i))));
    widen(y + i, (const char *)x + i * dtype_size(type), type, n - i);
}

LEVEL3 static void widen_level3(float *y, const void *x, DType type, size_t n)
{
    size_t i = 0;
    if (type == F16)
        for (; i + 8 <= n; i += 8)
            _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)((const char *)x + 2*i))));
    widen(y + i, (const char *)x + i * dtype_size(type), type, n - i);
}

LEVEL4 static void narrow_level4(void *y, DType type, const float *x, size_t n)
{
    size_t i = 0;
    if (type == F16)
        for (; i + 16 <= n; i += 16)
            _mm256_storeu_si256((void *)((char *)y + 2*i), _mm512_cvtps_ph(_mm512_loadu_ps(x + i),
                                                                           _MM_FROUND_TO_NEAREST_INT));
    narrow((char *)y + i * dtype_size(type), type, x + i, n - i);
}

LEVEL3 static void narrow_level3(void *y, DType type, const float *x, size_t n)
{
    size_t i = 0;
    if (type == F16)
        for (; i + 8 <= n; i += 8)
            _mm_storeu_si128((void *)((char *)y + 2*i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i),
                                                                        _MM_FROUND_TO_NEAREST_INT));
    narrow((char *)y + i * dtype_size(type), type, x + i, n - i);
}

LEVEL4 static uint32_t largest_level4(const void *x, DType type, size_t n) { return largest(x, type, n); }
LEVEL3 static uint32_t largest_level3(const void *x, DType type, size_t n) { return largest(x, type, n); }

static int level(void)
{
    static int known;                           /* 0: not asked yet; racing threads store the same value */
    int answer = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (!answer) {
        const int four = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
                         && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
        const int three = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                          && __builtin_cpu_supports("f16c");
        answer = four ? 4 : three ? 3 : 1;
        __atomic_store_n(&known, answer, __ATOMIC_RELAXED);
    }
    return answer;
}

void dtype_to_f32(float *y, const void *x, DType x_type, size_t n)
{
    switch (level()) {
    case 4:  widen_level4(y, x, x_type, n); break;
    case 3:  widen_level3(y, x, x_type, n); break;
    default: widen(y, x, x_type, n);
    }
}

void dtype_from_f32(void *y, DType y_type, const float *x, size_t n)
{
    switch (level()) {
    case 4:  narrow_level4(y, y_type, x, n); break;
    case 3:  narrow_level3(y, y_type, x, n); break;
    default: narrow(y, y_type, x, n);
    }
}

static uint32_t largest_bits(const void *x, DType type, size_t n)
{
    switch (level()) {
    case 4:  return largest_level4(x, type, n);
    case 3:  return largest_level3(x, type, n);
    default: return largest(x, type, n);
    }
}

#else

static uint32_t largest_bits(const void *x, DType type, size_t n)
{
    return largest(x, type, n);
}

void dtype_to_f32(float *y, const void *x, DType x_type, size_t n)
{
    widen(y, x, x_type, n);
}

void dtype_from_f32(void *y, DType y_type, const float *x, size_t n)
{
    narrow(y, y_type, x, n);
}

#endif

static bool finite_f64(const void *x, size_t n)
{
    uint64_t all = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t bits = LOAD(uint64_t, x, i) & INT64_MAX;
        all = bits > all ? bits : all;
    }
    return all < 0x7ff0000000000000;
}

bool dtype_finite(const void *x, DType x_type, size_t n)
{
    switch (x_type) {
    case F32:  return largest_bits(x, F32, n) < 0x7f800000;
    case F16:  return largest_bits(x, F16, n) < 0x7c00;
    case BF16: return largest_bits(x, BF16, n) < 0x7f80;
    case F64:  return finite_f64(x, n);
    default:   return true;
    }
}

void dtype_to_f64(double *y, const void *x, DType x_type, size_t n)
{
    enum { BLOCK = 512 };
    float some[BLOCK];
    switch (x_type) {
    case F64: if (n) memcpy(y, x, n * sizeof *y); return;
    case I64:
        for (size_t i = 0; i < n; i++)
            y[i] = (double)LOAD(int64_t, x, i);
        return;
    case I32:
        for (size_t i = 0; i < n; i++)
            y[i] = LOAD(int32_t, x, i);
        return;
    default:                            /* those are floats too */
        for (size_t at = 0; at < n; at += BLOCK) {
            const size_t count = n - at < BLOCK ? n - at : BLOCK;
            dtype_to_f32(some, (const char *)x + at * dtype_size(x_type), x_type, count);
            for (size_t i = 0; i < count; i++)
                y[at + i] = (double)some[i];
        }
    }
}
