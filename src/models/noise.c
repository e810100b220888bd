/* SPDX-License-Identifier: MIT */
/* noise.c -- normal values as torch makes them on the CPU.
 *
 *   u     24 bits of mt19937 (Matsumoto and Nishimura 1998) / 2^24, in [0,1)
 *   16 values or more: blocks of 16 in place, j < 8, all in f32:
 *         y[j] = r cos a    y[j+8] = r sin a    r = sqrt(-2 log(1 - u[j]))    a = 2 pi u[j+8]
 *     Where n is no multiple of 16, the last 16 values are drawn again, with 16 further u, as a block of their own.
 *   fewer: in f64, u of 53 bits, pairs r cos a, r sin a with r = sqrt(-2 log1p(-u2)), a = 2 pi u1.
 *
 * Source: pytorch aten/src/ATen/native/cpu/DistributionTemplates.h, core/DistributionsHelper.h,
 * core/MT19937RNGEngine.h. log, sin and cos are Cephes' single precision ones (netlib.org/cephes: logf.c, sinf.c), as
 * torch's x86 build evaluates them: the fused multiply-adds below stand where its compiler put them, so that the values
 * agree to the last bit (tests/unit/golden_noise.c). */
#include <math.h>
#include "src/models/noise.h"

enum { STATE = NOISE_STATE, SHIFT = 397, BLOCK = 16 };

void noise_seed(Noise *g, uint64_t seed)
{
    g->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < STATE; i++)
        g->state[i] = 1812433253u * (g->state[i-1] ^ g->state[i-1] >> 30) + i;
    g->next = STATE;
    g->half = false;
}

static uint32_t mt_next(Noise *g)
{
    uint32_t *s = g->state;
    if (g->next == STATE) {
        for (int i = 0; i < STATE; i++) {
            const uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % STATE] & 0x7fffffffu);
            s[i] = s[(i + SHIFT) % STATE] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        g->next = 0;
    }
    uint32_t y = s[g->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

static float uniform24(Noise *g)
{
    return (float)(mt_next(g) & 0xffffffu) * 0x1p-24f;
}

static double uniform53(Noise *g)
{
    const uint64_t high = mt_next(g), low = mt_next(g);
    return (double)((high << 32 | low) & 0x1fffffffffffffULL) * 0x1p-53;
}

/* log of u in (0,1]: u = 2^e (1 + x), 1 + x in [sqrt(1/2), sqrt(2)); log = x - x^2/2 + x^3 P(x) + e log 2, log 2 in two
 * parts. */
static float log_f32(float u)
{
    static const float P[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                              -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                              2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
    int exponent;
    float x = frexpf(u, &exponent);
    if (x < 0.707106781186547524f) {
        x = x + x - 1.0f;               /* exact, as x - 1 + x is */
        exponent--;
    } else {
        x -= 1.0f;
    }
    const float e = (float)exponent, x2 = x * x;
    float y = P[0];
    for (int i = 1; i < 9; i++)
        y = fmaf(y, x, P[i]);
    y = fmaf(y * x, x2, e * -2.12194440e-4f);
    y = fmaf(x2, -0.5f, y);
    return fmaf(e, 0.693359375f, x + y);
}

/* sin and cos of a in [0, 2 pi): a less the nearest even multiple of pi/4, in three parts; polynomials of the two; then
 * the octant. */
static void sincos_f32(float a, float *sine, float *cosine)
{
    const int octant = ((int)(a * 1.27323954473516f) + 1) & ~1;
    const float n = (float)octant;
    const float x = fmaf(n, -3.77489497744594108e-8f, fmaf(n, -2.4187564849853515625e-4f, fmaf(n, -0.78515625f, a)));
    const float z = x * x;
    float c = fmaf(fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f), z, 4.166664568298827e-2f) * z;
    c = fmaf(c, z, z * -0.5f) + 1.0f;
    float s = fmaf(fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f), z, -1.6666654611e-1f) * z;
    s = fmaf(s, x, x);
    const float of_sine = octant & 2 ? c : s, of_cosine = octant & 2 ? s : c;
    *sine = octant & 4 ? -of_sine : of_sine;
    *cosine = (octant + 2) & 4 ? -of_cosine : of_cosine;
}

static void box_muller(float *y)
{
    for (int j = 0; j < BLOCK / 2; j++) {
        const float r = sqrtf(-2.0f * log_f32(1.0f - y[j]));
        float s, c;
        sincos_f32(6.2831853071795864f * y[j + BLOCK/2], &s, &c);
        y[j] = r * c;
        y[j + BLOCK/2] = r * s;
    }
}

static float draw_small(Noise *g)
{
    if (g->half) {
        g->half = false;
        return (float)g->left;
    }
    const double u1 = uniform53(g), u2 = uniform53(g);
    const double r = sqrt(-2.0 * log1p(-u2)), a = 2.0 * M_PI * u1;
    g->half = true;
    g->left = r * sin(a);
    return (float)(r * cos(a));
}

void noise_draw(Noise *g, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = n < BLOCK ? draw_small(g) : uniform24(g);
    if (n < BLOCK)
        return;
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK)
        box_muller(y + i);
    if (n % BLOCK != 0) {
        float *last = y + n - BLOCK;
        for (int i = 0; i < BLOCK; i++)
            last[i] = uniform24(g);
        box_muller(last);
    }
}

void noise_torch(float *y, size_t n, uint64_t seed)
{
    Noise g;
    noise_seed(&g, seed);
    noise_draw(&g, y, n);
}
