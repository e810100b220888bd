/* SPDX-License-Identifier: MIT */
/* float8.c -- values of F8_E4M3 and F8_E5M2.
 *
 *     e5m2   1 sign, 5 exponent (bias 15), 2 mantissa bits: the upper byte of an f16
 *     e4m3   1 sign, 4 exponent (bias 7), 3 mantissa bits, no infinity: NaN is all ones, and 448 the largest
 *
 * (Micikevicius et al. 2022, arXiv 2209.05433; torch.float8_e5m2, torch.float8_e4m3fn.) */
#include <math.h>
#include <string.h>
#include "formats/float8.h"

static void unpack_e5m2(float *y, const uint8_t *x)
{
    const uint16_t half = (uint16_t)(*x << 8);
    dtype_to_f32(y, &half, F16, 1);
}

/* As an f16 of the same exponent's bits it is 2^8 times too small. */
static void unpack_e4m3(float *y, const uint8_t *x)
{
    const int sign = *x & 0x80, size = *x & 0x7f;
    const uint16_t half = (uint16_t)(sign << 8 | size << 7);
    dtype_to_f32(y, &half, F16, 1);
    *y = size == 0x7f ? NAN : *y*256;
}

static const struct { const char *safetensors; GgufType type; } types[] = {
    {"F8_E4M3", {"f8_e4m3", 1, 1, F16, unpack_e4m3}}, {"F8_E5M2", {"f8_e5m2", 1, 1, F16, unpack_e5m2}},
};

const GgufType *float8_type(const char *safetensors)
{
    for (size_t i = 0; i < sizeof types/sizeof *types; i++)
        if (strcmp(types[i].safetensors, safetensors) == 0)
            return &types[i].type;
    return NULL;
}
