/* SPDX-License-Identifier: MIT */
/* gguf_types.c -- values out of ggml's blocks, each product and sum in f32 and in the order of ggml's own.
 *
 *     q4_0, q5_0, q8_0    y = d (q - offset)          32 values share d, an f16
 *     q4_1, q5_1          y = d q + m                 and m
 *     q2_k, q4_k, q5_k    y = (d s) q - (dmin m)      256 values share d and dmin, 16 or 32 of them the integers s, m
 *     q3_k, q6_k          y = (d s) (q - offset)
 *     iq4_nl, iq4_xs      y = d v[q], (d s) v[q]      v: 16 levels, denser around 0
 *
 * Each block is described as it lies, from its first byte on. (ggml-quants.c and ggml-common.h of
 * github.com/ggml-org/ggml; gguf.quants, the same in numpy.) */
#include <string.h>
#include "formats/gguf_types.h"

static float half_at(const uint8_t *x)
{
    float y;
    dtype_to_f32(&y, x, F16, 1);
    return y;
}

/* ---- 32 values ---- */

/* q: the lower halves of 16 bytes, then the upper ones; bit i of high, where there is one, is bit 4 of q[i]. */
static void read_nibbles(int q[32], const uint8_t low[16], const uint8_t *high)
{
    for (int i = 0; i < 32; i++) {
        q[i] = low[i % 16] >> i/16*4 & 15;
        if (high)
            q[i] |= (high[i/8] >> i % 8 & 1) << 4;
    }
}

/* d, 16 bytes of q */
static void unpack_q4_0(float *y, const uint8_t *x)
{
    const float d = half_at(x);
    int q[32];
    read_nibbles(q, x + 2, NULL);
    for (int i = 0; i < 32; i++)
        y[i] = d*(float)(q[i] - 8);
}

/* d, m, 16 bytes of q */
static void unpack_q4_1(float *y, const uint8_t *x)
{
    const float d = half_at(x), m = half_at(x + 2);
    int q[32];
    read_nibbles(q, x + 4, NULL);
    for (int i = 0; i < 32; i++)
        y[i] = d*(float)q[i] + m;
}

/* d, 4 bytes of bit 4, 16 bytes of q */
static void unpack_q5_0(float *y, const uint8_t *x)
{
    const float d = half_at(x);
    int q[32];
    read_nibbles(q, x + 6, x + 2);
    for (int i = 0; i < 32; i++)
        y[i] = d*(float)(q[i] - 16);
}

/* d, m, 4 bytes of bit 4, 16 bytes of q */
static void unpack_q5_1(float *y, const uint8_t *x)
{
    const float d = half_at(x), m = half_at(x + 2);
    int q[32];
    read_nibbles(q, x + 8, x + 4);
    for (int i = 0; i < 32; i++)
        y[i] = d*(float)q[i] + m;
}

/* d, 32 bytes of q */
static void unpack_q8_0(float *y, const uint8_t *x)
{
    const float d = half_at(x);
    for (int i = 0; i < 32; i++)
        y[i] = d*(float)(int8_t)x[2 + i];
}

static const int levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* d, 16 bytes of q */
static void unpack_iq4_nl(float *y, const uint8_t *x)
{
    const float d = half_at(x);
    int q[32];
    read_nibbles(q, x + 2, NULL);
    for (int i = 0; i < 32; i++)
        y[i] = d*(float)levels[q[i]];
}

/* ---- 256 values ---- */

/* Value i of those of 2 bits: 32 bytes hold 128, the lowest bits of all first. */
static int two_bits(const uint8_t *x, int i)
{
    return x[i/128*32 + i % 32] >> i % 128/32*2 & 3;
}

/* Value i of those of 4 bits: `run` bytes hold 2*run, the lower halves first. */
static int four_bits(const uint8_t *x, int i, int run)
{
    return x[i/(2*run)*run + i % run] >> i % (2*run)/run*4 & 15;
}

/* 16 bytes of s and, above it, m; 64 of q; d; dmin */
static void unpack_q2_k(float *y, const uint8_t *x)
{
    const float d = half_at(x + 80), dmin = half_at(x + 82);
    for (int i = 0; i < 256; i++) {
        const int both = x[i/16];
        y[i] = d*(float)(both & 15)*(float)two_bits(x + 16, i) - dmin*(float)(both >> 4);
    }
}

/* 32 bytes whose bit i/32 is 1 where q[i] is not 4 less; 64 of q; 12 of s, 6 bits each; d */
static void unpack_q3_k(float *y, const uint8_t *x)
{
    const uint8_t *packed = x + 96;
    const float d = half_at(x + 108);
    for (int i = 0; i < 256; i++) {
        const int k = i/16, s = (packed[k % 8] >> k/8*4 & 15) | (packed[8 + k % 4] >> k/4*2 & 3) << 4;
        const int less = x[i % 32] >> i/32 & 1 ? 0 : 4;
        y[i] = d*(float)(s - 32)*(float)(two_bits(x + 32, i) - less);
    }
}

/* s and m of 8 runs, 6 bits each in 12 bytes: of the first 4 runs the lower bits of bytes 0 to 3 and 4 to 7, whose
 * upper two belong to the others, as do the halves of bytes 8 to 11. */
static void read_scales(int s[8], int m[8], const uint8_t *x)
{
    for (int k = 0; k < 4; k++) {
        s[k] = x[k] & 63;
        m[k] = x[4 + k] & 63;
        s[4 + k] = (x[8 + k] & 15) | x[k] >> 6 << 4;
        m[4 + k] = x[8 + k] >> 4 | x[4 + k] >> 6 << 4;
    }
}

/* d, dmin, 12 bytes of s and m, 128 of q */
static void unpack_q4_k(float *y, const uint8_t *x)
{
    const float d = half_at(x), dmin = half_at(x + 2);
    int s[8], m[8];
    read_scales(s, m, x + 4);
    for (int i = 0; i < 256; i++)
        y[i] = d*(float)s[i/32]*(float)four_bits(x + 16, i, 32) - dmin*(float)m[i/32];
}

/* d, dmin, 12 bytes of s and m, 32 whose bit i/32 is bit 4 of q[i], 128 of q */
static void unpack_q5_k(float *y, const uint8_t *x)
{
    const float d = half_at(x), dmin = half_at(x + 2);
    int s[8], m[8];
    read_scales(s, m, x + 4);
    for (int i = 0; i < 256; i++) {
        const int q = four_bits(x + 48, i, 32) | (x[16 + i % 32] >> i/32 & 1) << 4;
        y[i] = d*(float)s[i/32]*(float)q - dmin*(float)m[i/32];
    }
}

/* 128 bytes of the lower 4 bits of q, 64 of its upper 2, 16 of s, d */
static void unpack_q6_k(float *y, const uint8_t *x)
{
    const float d = half_at(x + 208);
    for (int i = 0; i < 256; i++) {
        const int q = four_bits(x, i, 64) | two_bits(x + 128, i) << 4;
        y[i] = d*(float)(int8_t)x[192 + i/16]*(float)(q - 32);
    }
}

/* d, 2 bytes of the upper 2 bits of s, 4 of its lower 4, 128 of q */
static void unpack_iq4_xs(float *y, const uint8_t *x)
{
    const float d = half_at(x);
    for (int i = 0; i < 256; i++) {
        const int k = i/32, s = (x[4 + k/2] >> k % 2*4 & 15) | (x[2 + k/4] >> k % 4*2 & 3) << 4;
        y[i] = d*(float)(s - 32)*(float)levels[four_bits(x + 8, i, 16)];
    }
}

/* ---- all of them ---- */

static void unpack_f64(float *y, const uint8_t *x)
{
    dtype_to_f32(y, x, F64, 1);
}

/* By ggml's numbers (enum ggml_type of ggml.h). Those that are no longer written, only ever an intermediate, or need
 * tables of their own are not read. */
static const GgufType types[] = {
    [0] = {"f32", 1, 4, F32, NULL}, [1] = {"f16", 1, 2, F16, NULL}, [30] = {"bf16", 1, 2, BF16, NULL},
    [24] = {"i8", 1, 1, I8, NULL}, [25] = {"i16", 1, 2, I16, NULL}, [26] = {"i32", 1, 4, I32, NULL},
    [27] = {"i64", 1, 8, I64, NULL}, [28] = {"f64", 1, 8, F32, unpack_f64},
    [2] = {"q4_0", 32, 18, F16, unpack_q4_0}, [3] = {"q4_1", 32, 20, F16, unpack_q4_1},
    [6] = {"q5_0", 32, 22, F16, unpack_q5_0}, [7] = {"q5_1", 32, 24, F16, unpack_q5_1},
    [8] = {"q8_0", 32, 34, F16, unpack_q8_0}, [10] = {"q2_k", 256, 84, F16, unpack_q2_k},
    [11] = {"q3_k", 256, 110, F16, unpack_q3_k}, [12] = {"q4_k", 256, 144, F16, unpack_q4_k},
    [13] = {"q5_k", 256, 176, F16, unpack_q5_k}, [14] = {"q6_k", 256, 210, F16, unpack_q6_k},
    [20] = {"iq4_nl", 32, 18, F16, unpack_iq4_nl}, [23] = {"iq4_xs", 256, 136, F16, unpack_iq4_xs},
    [4] = {.name = "q4_2"}, [5] = {.name = "q4_3"}, [9] = {.name = "q8_1"}, [15] = {.name = "q8_k"},
    [16] = {.name = "iq2_xxs"}, [17] = {.name = "iq2_xs"}, [18] = {.name = "iq3_xxs"}, [19] = {.name = "iq1_s"},
    [21] = {.name = "iq3_s"}, [22] = {.name = "iq2_s"}, [29] = {.name = "iq1_m"}, [31] = {.name = "q4_0_4_4"},
    [32] = {.name = "q4_0_4_8"}, [33] = {.name = "q4_0_8_8"}, [34] = {.name = "tq1_0"}, [35] = {.name = "tq2_0"},
    [36] = {.name = "iq4_nl_4_4"}, [37] = {.name = "iq4_nl_4_8"}, [38] = {.name = "iq4_nl_8_8"},
    [39] = {.name = "mxfp4"}, [40] = {.name = "nvfp4"}, [41] = {.name = "q1_0"},
};

const GgufType *gguf_type(uint32_t number)
{
    return number < sizeof types / sizeof *types ? &types[number] : NULL;
}

void gguf_unpack(float *y, const GgufType *t, const void *blocks, size_t n)
{
    const uint8_t *x = blocks;
    for (; n; n -= (size_t)t->values, y += t->values, x += t->bytes)
        t->unpack(y, x);
}
