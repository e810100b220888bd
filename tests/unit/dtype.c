/* SPDX-License-Identifier: MIT */
/* dtype.c -- conversions: every f16 and bf16, rounding at and beside every tie, rows of every length and misaligned.
 * The reference is written from the formats' definitions in double precision, which holds all of it exactly. */
#include <float.h>
#include "formats/dtype.h"
#include "tests/unit/test.h"

static double f16_value(unsigned h)
{
    const int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
    const double size = exponent == 31 ? (mantissa ? NAN : INFINITY)
                      : exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return h >> 15 ? -size : size;
}

static uint32_t bits(float x)
{
    uint32_t b;
    memcpy(&b, &x, 4);
    return b;
}

static float from_bits(uint32_t b)
{
    float x;
    memcpy(&x, &b, 4);
    return x;
}

static int test_f16(void)
{
    static uint16_t h[65536], back[65536];
    static float y[65536];
    long wrong = 0, returned = 0;
    for (unsigned i = 0; i < 65536; i++)
        h[i] = (uint16_t)i;
    dtype_to_f32(y, h, F16, 65536);
    dtype_from_f32(back, F16, y, 65536);
    for (unsigned i = 0; i < 65536; i++) {
        const double want = f16_value(i);
        wrong += isnan(want) ? !isnan(y[i]) : (double)y[i] != want || !signbit(y[i]) != !signbit(want);
        returned += isnan(want) ? (back[i] & 0x7fff) <= 0x7c00 : back[i] != i;
    }
    int failed = test_ok("f16/every value widens exactly", wrong == 0);
    failed += test_ok("f16/every value comes back", returned == 0);

    /* Between neighbours a < b: at the middle the even one, beside it the nearer one. */
    long rounded = 0;
    for (unsigned i = 0; i < 0x7c00; i++) {
        const float middle = (float)(i == 0x7bff ? 65520.0 : (f16_value(i) + f16_value(i + 1)) / 2);
        const float x[6] = {middle, nextafterf(middle, 0), nextafterf(middle, INFINITY), -middle,
                            -nextafterf(middle, 0),
                            -nextafterf(middle, INFINITY)};
        const unsigned even = i & 1 ? i + 1 : i;
        const unsigned want[6] = {even, i, i + 1, even | 0x8000, i | 0x8000, (i + 1) | 0x8000};
        uint16_t got[6];
        dtype_from_f32(got, F16, x, 6);
        for (int k = 0; k < 6; k++)
            rounded += got[k] != want[k];
    }
    failed += test_ok("f16/rounds to nearest even, overflows at 65520", rounded == 0);
    return failed;
}

static int test_bf16(void)
{
    static uint16_t h[65536], back[65536];
    static float y[65536];
    long wrong = 0, rounded = 0;
    for (unsigned i = 0; i < 65536; i++)
        h[i] = (uint16_t)i;
    dtype_to_f32(y, h, BF16, 65536);
    dtype_from_f32(back, BF16, y, 65536);
    for (unsigned i = 0; i < 65536; i++) {
        const int nan = (i & 0x7fff) > 0x7f80;
        wrong += bits(y[i]) != i << 16 || (nan ? (back[i] & 0x7fff) <= 0x7f80 : back[i] != i);
    }
    for (uint32_t i = 0; i < 0x7f80; i++) {
        const float x[3] = {from_bits(i << 16 | 0x8000), from_bits(i << 16 | 0x7fff), from_bits(i << 16 | 0x8001)};
        uint16_t got[3];
        dtype_from_f32(got, BF16, x, 3);
        rounded += got[0] != (i & 1 ? i + 1 : i) || got[1] != i || got[2] != i + 1;
    }
    int failed = test_ok("bf16/every value there and back", wrong == 0);
    failed += test_ok("bf16/rounds to nearest even", rounded == 0);
    uint16_t got[2];
    dtype_from_f32(got, BF16, (float[]){from_bits(0x7f800001), from_bits(0xffffffff)}, 2);
    failed += test_ok("bf16/a NaN with low bits only stays NaN", got[0] == 0x7fc0 && got[1] == 0xffff);
    return failed;
}

/* Vector loops and their tails agree, at any alignment, with values one by one, and touch nothing beside. */
static int test_rows(void)
{
    static const DType types[] = {F32, F16, BF16};
    long wrong = 0;
    for (int k = 0; k < 3; k++)
        for (size_t n = 0; n < 70; n++)
            for (size_t shift = 0; shift < 3; shift++) {
                float x[70], y[72], one;
                unsigned char row[70*4 + 8], single[4];
                memset(row, 0xaa, sizeof row);
                y[n] = y[n + 1] = 77;
                for (size_t i = 0; i < n; i++)
                    x[i] = (float)(i * 37 % 29) * 1.2345e-3f - (i % 7 ? 0.01f : 1e-7f);
                const size_t size = dtype_size(types[k]);
                dtype_from_f32(row + shift, types[k], x, n);
                dtype_to_f32(y, row + shift, types[k], n);
                for (size_t i = 0; i < n; i++) {
                    dtype_from_f32(single, types[k], x + i, 1);
                    dtype_to_f32(&one, single, types[k], 1);
                    wrong += memcmp(single, row + shift + i*size, size) != 0 || bits(one) != bits(y[i]);
                }
                wrong += y[n] != 77 || row[shift + n*size] != 0xaa;
            }
    return test_ok("rows/any length and alignment", wrong == 0);
}

static int test_integers(void)
{
    float y[2];
    int failed = 0;
    dtype_to_f32(y, (int8_t[]){-128, 127}, I8, 2);
    failed += test_same("i8", y, (float[]){-128, 127}, 8);
    dtype_to_f32(y, (uint8_t[]){0, 255}, U8, 2);
    failed += test_same("u8", y, (float[]){0, 255}, 8);
    dtype_to_f32(y, (int16_t[]){-32768, 32767}, I16, 2);
    failed += test_same("i16", y, (float[]){-32768, 32767}, 8);
    dtype_to_f32(y, (int32_t[]){-16777216, 3}, I32, 2);
    failed += test_same("i32", y, (float[]){-16777216, 3}, 8);
    dtype_to_f32(y, (int64_t[]){-1099511627776, 3}, I64, 2);
    failed += test_same("i64", y, (float[]){-1099511627776, 3}, 8);
    dtype_to_f32(y, (double[]){0.1, 1e300}, F64, 2);
    failed += test_same("f64", y, (float[]){0.1f, INFINITY}, 8);
    failed += test_ok("names", dtype_parse("bf16") == BF16 && dtype_parse("f33") == -1 && dtype_size(F64) == 8);
    return failed;
}

/* One value that is no number, wherever it stands in a row of any length. */
static int test_finite(void)
{
    enum { N = 150 };
    static const DType type[] = {F32, F16, BF16};
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    static const uint32_t largest[] = {0x7f7fffff, 0x7bff, 0x7f7f};
    float x[N];
    unsigned char row[N*sizeof(float)];
    int wrong = 0;
    for (int k = 0; k < 3; k++) {
        const size_t size = dtype_size(type[k]);
        for (size_t n = 0; n <= N; n++) {
            for (size_t i = 0; i < n; i++)
                x[i] = i % 3 ? -1000.5f : 3e-8f;
            dtype_from_f32(row, type[k], x, n);
            wrong += !dtype_finite(row, type[k], n);
            for (size_t i = 0; i < n; i++) {
                unsigned char value[sizeof(float)];
                memcpy(value, row + i*size, size);
                dtype_from_f32(row + i*size, type[k], &bad[i % 3], 1);
                wrong += dtype_finite(row, type[k], n);
                memcpy(row + i*size, &largest[k], size);
                wrong += !dtype_finite(row, type[k], n);
                memcpy(row + i*size, value, size);
            }
        }
    }
    int failed = test_ok("finite/one value of any row", wrong == 0);
    double d[3] = {1e300, -1, DBL_MAX};
    failed += test_ok("finite/f64 beyond f32", dtype_finite(d, F64, 3));
    d[1] = -INFINITY;
    failed += test_ok("finite/f64 infinity", !dtype_finite(d, F64, 3));
    d[1] = NAN;
    failed += test_ok("finite/f64 NaN", !dtype_finite(d, F64, 3) && dtype_finite(d, F64, 1));
    failed += test_ok("finite/integers", dtype_finite((uint16_t[]){0x7fff, 0xffff}, I16, 2));
    return failed;
}

int main(void)
{
    return (test_finite() + test_f16() + test_bf16() + test_rows() + test_integers()) != 0;
}
