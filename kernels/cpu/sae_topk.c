/* SPDX-License-Identifier: MIT */
/* sae_topk.c -- the K largest of a row of F values, exactly, largest first, ties to the lower index.
 *
 * Three passes, of which the first two read the row and are bound by loads:
 *   1. the row is cut in at least 4K groups; the maximum of each is kept. A threshold that K of the maxima reach is one
 *      that at least K values reach, and that few more do (K = 16 of F = 2048: 18);
 *   2. values that reach it are collected with their indices, in order;
 *   3. the few that are left are ordered: each one's rank is the number of those before it; many are sorted by radix.
 * A row that leaves too many (ties, constant rows) or too few (NaN) goes through plain insertion instead. The values do
 * not depend on which way was taken. */
#include <float.h>
#include <string.h>
#include "kernels/cpu/sae_cpu.h"
#include "kernels/cpu/vec.h"

enum { GROUP = 64, VECTORS = GROUP/LANES };         /* groups whose maxima are found side by side */

/* Insertion into a sorted list: for odd rows. */
static void plain(float *a, int32_t *i, const float *h, int F, int K)
{
    int n = 0;
    for (int f = 0; f < F; f++) {
        const float v = h[f] >= -FLT_MAX ? h[f] : -FLT_MAX;        /* NaN too */
        if (n == K && !(v > a[K - 1]))
            continue;
        int j = n < K ? n++ : K - 1;
        for (; j > 0 && v > a[j - 1]; j--) {
            a[j] = a[j - 1];
            i[j] = i[j - 1];
        }
        a[j] = v;
        i[j] = f;
    }
}

/* Floats as integers of the same order, and back. */
static inline int32_t order_of(float v)
{
    int32_t b;
    memcpy(&b, &v, sizeof b);
    return b ^ ((b >> 31) & 0x7fffffff);
}

static inline float float_of(int32_t b)
{
    b ^= (b >> 31) & 0x7fffffff;
    float v;
    memcpy(&v, &b, sizeof v);
    return v;
}

static int reach(const float *x, int n, float threshold)
{
    const V t = v_splat(threshold);
    int count = 0;
    for (int j = 0; j < n; j += LANES)
        count += __builtin_popcount(v_reaches(v_load(x + j, LANES), t));
    return count;
}

/* Maxima of GROUP*chunks groups of h, and a threshold that at least K of them reach (or -FLT_MAX). */
static float find_threshold(float *maxima, const float *h, int F, int K)
{
    const int pairs = F/32, most = (4*K + GROUP - 1)/GROUP, half = (pairs + 1)/2, chunks = most < half ? most : half;
    V top = v_splat(-FLT_MAX);
    for (int c = 0; c < chunks; c++) {
        V m[VECTORS];
        for (int u = 0; u < VECTORS; u++)
            m[u] = v_splat(-FLT_MAX);
        const float *end = h + 32*((int64_t)pairs*(c + 1)/chunks);
        const float *x = h + 32*((int64_t)pairs*c/chunks);
        for (; x + GROUP <= end; x += GROUP)
            for (int u = 0; u < VECTORS; u++)
                m[u] = v_max(v_load(x + u*LANES, LANES), m[u]);                /* m where x is NaN */
        if (x < end)
            for (int u = 0; u < VECTORS/2; u++)
                m[u] = v_max(v_load(x + u*LANES, LANES), m[u]);
        for (int u = 0; u < VECTORS; u++) {
            v_store(maxima + GROUP*c + u*LANES, m[u], LANES);
            top = v_max(m[u], top);
        }
    }
    /* low is reached by K, high is not */
    int64_t low = order_of(-FLT_MAX), high = (int64_t)order_of(v_top(top)) + 1;
    while (high - low > 1) {
        const int64_t middle = low + (high - low)/2;
        const int n = reach(maxima, GROUP*chunks, float_of((int32_t)middle));
        if (n < K)
            high = middle;
        else
            low = middle;
        if (n >= K && n <= K + K/8)
            break;
    }
    return float_of((int32_t)low);
}

/* The lanes of x that `lanes` has bits of, and their indices from f on, to value and index; up to LANES are written.
 * Returns how many. */
static int compress(float *value, int32_t *index, V x, unsigned lanes, int f)
{
#ifdef __AVX512F__
    /* in a register and stored whole: the compressing store is slow on AMD's */
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_storeu_ps(value, _mm512_maskz_compress_ps((__mmask16)lanes, (__m512)x));
    _mm512_storeu_si512(index, _mm512_maskz_compress_epi32((__mmask16)lanes,
                                                           _mm512_add_epi32(lane, _mm512_set1_epi32(f))));
    return __builtin_popcount(lanes);
#else
    int n = 0;
    for (; lanes; lanes &= lanes - 1) {
        const int l = __builtin_ctz(lanes);
        value[n] = x[l];
        index[n++] = f + l;
    }
    return n;
#endif
}

/* Values of h that are at least t, with their indices; at most `most` and 32 more. Returns how many, more than
 * `most` when too many. */
static int collect(float *value, int32_t *index, const float *h, int F, float threshold, int most)
{
    const V t = v_splat(threshold);
    int n = 0;
    for (int f = 0; f < F; f += 2*LANES) {
        const V x0 = v_load(h + f, LANES), x1 = v_load(h + f + LANES, LANES);
        const unsigned m0 = v_reaches(x0, t), m1 = v_reaches(x1, t);
        if (__builtin_expect(!(m0 | m1), 1))
            continue;
        n += compress(value + n, index + n, x0, m0, f);
        n += compress(value + n, index + n, x1, m1, f + LANES);
        if (n > most)
            break;
    }
    return n;
}

/* value[n] is in order of index: what comes before c is greater, or equal and earlier. */
static void rank(float *a, int32_t *i, float *value, const int32_t *index, int n, int K)
{
    for (int j = n; j < (n + LANES - 1)/LANES*LANES; j++)
        value[j] = -FLT_MAX;
    for (int c = 0; c < n; c++) {
        const V v = v_splat(value[c]);
        int before = 0;
        for (int j = 0; j < n; j += LANES) {
            const V x = v_load(value + j, LANES);
            const unsigned all = (1u << LANES) - 1, earlier = c - j >= LANES ? all : c <= j ? 0 : (1u << (c - j)) - 1;
            before += __builtin_popcount(v_greater(x, v) | (v_equal(x, v) & earlier));
        }
        if (before < K) {
            a[before] = value[c];
            i[before] = index[c];
        }
    }
}

/* Four stable passes of 8 bits, from the low ones; other: room for n more. */
static void radix(float *a, int32_t *i, float *value, int32_t *index, float *other, int32_t *other_index, int n, int K)
{
    for (int shift = 0; shift < 32; shift += 8) {
        int at[257] = {0};
        for (int j = 0; j < n; j++)
            at[1 + ((~((uint32_t)order_of(value[j] + 0.0f) ^ 0x80000000u) >> shift) & 255)]++;
        for (int b = 0; b < 256; b++)
            at[b + 1] += at[b];
        for (int j = 0; j < n; j++) {
            const int to = at[(~((uint32_t)order_of(value[j] + 0.0f) ^ 0x80000000u) >> shift) & 255]++;
            other[to] = value[j];
            other_index[to] = index[j];
        }
        float *v = value; value = other; other = v;
        int32_t *k = index; index = other_index; other_index = k;
    }
    memcpy(a, value, sizeof(float)*(size_t)K);
    memcpy(i, index, sizeof(int32_t)*(size_t)K);
}

static int fast(float *a, int32_t *i, const float *h, int F, int K, float *scratch)
{
    enum { FEW = 96 };
    const int most = 2*K + 32, room = most + 48;     /* 4*room = cpu_topk_scratch(K) */
    float *value = scratch, *maxima = scratch;
    int32_t *index = (int32_t *)(scratch + room);
    const float threshold = find_threshold(maxima, h, F, K);
    if (threshold == -FLT_MAX)
        return 0;
    const int n = collect(value, index, h, F, threshold, most);
    if (n > most || n < K)
        return 0;
    if (n <= FEW)
        rank(a, i, value, index, n, K);
    else
        radix(a, i, value, index, scratch + 2*room, (int32_t *)(scratch + 3*room), n, K);
    return 1;
}

void cpu_topk_row(float *a, int32_t *i, const float *h, int F, int K, float *scratch)
{
    if (!fast(a, i, h, F, K, scratch))
        plain(a, i, h, F, K);
    for (int j = 0; j < K; j++)
        a[j] = a[j] > 0 ? a[j] : 0;
}
