/* SPDX-License-Identifier: MIT */
/* op_test.h -- what the tests of ops share: values that are the same everywhere, and halves beside their f32. */
#ifndef TESTS_UNIT_OP_TEST_H
#define TESTS_UNIT_OP_TEST_H

#include <omp.h>
#include <stdint.h>
#include "formats/dtype.h"
#include "kernels/cpu/cpu.h"
#include "kernels/op.h"
#include "tests/unit/test.h"

/* n values in [-1, 1), always the same for the same seed. The caller frees. */
__attribute__((unused)) static float *op_values(size_t n, uint32_t seed)
{
    float *x = malloc((n + 16)*sizeof *x);
    uint32_t s = seed*2654435761u + 12345;
    for (size_t i = 0; x && i < n; i++) {
        s = s*1664525u + 1013904223u;
        x[i] = (float)((int32_t)s >> 8)*0x1p-23f;
    }
    return x;
}

/* x as `type`, in new memory; where it is a half x is rounded to what was stored. The caller frees. */
__attribute__((unused)) static void *op_typed(float *x, DType type, size_t n)
{
    void *t = malloc((n + 16)*dtype_size(type));
    dtype_from_f32(t, type, x, n);
    dtype_to_f32(x, t, type, n);
    return t;
}

__attribute__((unused)) static float *op_floats(const void *t, DType type, size_t n)
{
    float *x = malloc((n + 16)*sizeof *x);
    dtype_to_f32(x, t, type, n);
    return x;
}

/* A tolerance by type. f16 keeps 11 bits where bf16 keeps 8. */
__attribute__((unused)) static float op_within(DType type, float f32, float bf16)
{
    return type == F32 ? f32 : type == BF16 ? bf16 : bf16/8;
}

__attribute__((unused)) static void *op_space(size_t bytes)
{
    return calloc(bytes + 64, 1);
}

/* Packed with all of W's rows. The caller frees. */
__attribute__((unused)) static SaeEncoder *op_encoder(const Ops *ops, int D, int F, DType type, const float *W,
                                                      const float *b_enc, const float *b_dec)
{
    Err e = {0};
    SaeEncoder *enc = NULL;
    if (ops->sae.encoder_create(&enc, D, F, type, &e)) {
        printf("FAIL encoder: %s\n", e.text);
        exit(1);
    }
    ops->sae.encoder_pack(enc, W, b_enc, b_dec, NULL, F);
    return enc;
}

/* Adam's state of a weight p with moments m and v, or where v is NULL with both in m, as op_pairs makes them. */
__attribute__((unused)) static AdamState op_state(void *p, void *m, void *v)
{
    return v ? (AdamState){.p = p, .m = m, .v = v} : (AdamState){.p = p, .pairs = m, .chance = 7, .first = 100};
}

/* n moments, both as bf16, in place of m. */
__attribute__((unused)) static void op_pairs(float *m, const float *v, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        uint32_t bits[2];
        memcpy(&bits[0], &m[j], 4);
        memcpy(&bits[1], &v[j], 4);
        bits[0] = (bits[0] & 0xffff0000) | bits[1] >> 16;
        memcpy(&m[j], &bits[0], 4);
    }
}

__attribute__((unused)) static const char *op_name(char text[160], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(text, 160, format, args);
    va_end(args);
    return text;
}

#endif
