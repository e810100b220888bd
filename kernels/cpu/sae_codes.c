/* SPDX-License-Identifier: MIT */
/* sae_codes.c -- kept features as lists: gated, thinned out, counted, and turned from rows to features.
 *
 *   a (N,K) values, none negative   i (N,K) their features
 *
 * Bound by memory, and small beside the encoder's product: one thread, but for the gate. */
#include <string.h>
#include "kernels/cpu/cpu.h"

static void gate(float *a, const int32_t *i, const float *threshold, const float *scale, const float *offset, int64_t n)
{
    #pragma omp parallel for if (n > CPU_PARALLEL)
    for (int64_t j = 0; j < n; j++) {
        if (!(a[j] > 0))
            continue;
        float v = a[j];
        if (threshold)
            v += threshold[i[j]];
        if (scale)
            v *= scale[i[j]];
        if (offset)
            v += offset[i[j]];
        a[j] = v > 0 ? v : 0;
    }
}

static uint32_t bits_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

/* The bits of the rank-th largest of n values: their order is that of the values, as none is negative. 16 at a time. */
static uint32_t find_rank(const float *a, int64_t n, int64_t rank)
{
    static _Thread_local int64_t bin[1 << 16];
    uint32_t high = 0;
    for (int part = 0; part < 2; part++) {
        memset(bin, 0, sizeof bin);
        for (int64_t j = 0; j < n; j++) {
            const uint32_t u = bits_of(a[j]);
            if (part == 0 || u >> 16 == high)
                bin[part == 0 ? u >> 16 : u & 0xffff]++;
        }
        uint32_t b = 0xffff;
        for (; b > 0 && bin[b] < rank; b--)
            rank -= bin[b];
        high = part == 0 ? b : high << 16 | b;
    }
    return high;
}

static float keep_of_group(float *a, int64_t n, int64_t keep)
{
    if (keep > n)
        keep = n;
    const uint32_t bound = keep > 0 ? find_rank(a, n, keep) : UINT32_MAX;
    int64_t above = 0;
    float least = 0;
    for (int64_t j = 0; j < n; j++)
        above += bits_of(a[j]) > bound;
    for (int64_t j = 0; j < n; j++) {
        const uint32_t u = bits_of(a[j]);
        if (u < bound || (u == bound && above++ >= keep))
            a[j] = 0;
        else if (a[j] > 0 && (least == 0 || a[j] < least))
            least = a[j];
    }
    return least;
}

static void keep_largest(double *least, float *a, int64_t n, int64_t keep, int64_t groups)
{
    for (int64_t group = 0; group < groups; group++)
        least[group] = (double)keep_of_group(a + group*n, n, keep);
}

static void full_rows(double *full, const float *a, int64_t N, int K)
{
    *full = 0;
    for (int64_t n = 0; n < N; n++)
        *full += a[n*K + K - 1] > 0;
}

/* The others' values that come before a's rise along with a's place. */
static void keep_of_all(float *a, const float *all, int64_t stride, const int *K, int rank, int ranks, int64_t N,
                        int keep)
{
    #pragma omp parallel for if (N*K[rank]*ranks > CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++) {
        float *mine = a + n*K[rank];
        int before[TEAM_MOST] = {0};
        for (int j = 0; j < K[rank]; j++) {
            int place = j;
            for (int r = 0; r < ranks; r++) {
                const float *other = all + r*stride + n*K[r];
                while (r != rank && before[r] < K[r]
                       && (r < rank ? other[before[r]] >= mine[j] : other[before[r]] > mine[j]))
                    before[r]++;
                place += before[r];
            }
            if (place >= keep)
                mine[j] = 0;
        }
    }
}

static void head(float *b, const float *a, int64_t N, int K, int keep)
{
    for (int64_t n = 0; n < N; n++)
        for (int k = 0; k < K; k++)
            b[n*K + k] = k < keep ? a[n*K + k] : 0;
}

static void select_features(float *b, const float *a, const int32_t *i, int from, int to, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        b[j] = i[j] >= from && i[j] < to ? a[j] : 0;
}

static void count(int32_t *counts, const float *a, const int32_t *i, int64_t N, int K)
{
    for (int64_t j = 0; j < N*K; j++)
        counts[i[j]] += a[j] > 0;
}

static void invert(int32_t *start, int32_t *order, const int32_t *i, int64_t N, int F, int K)
{
    memset(start, 0, sizeof *start*((size_t)F + 1));
    for (int64_t e = 0; e < N*K; e++)
        start[i[e] + 1]++;
    for (int f = 0; f < F; f++)
        start[f + 1] += start[f];
    for (int64_t e = 0; e < N*K; e++)       /* start[f] runs to where f ends ... */
        order[start[i[e]]++] = (int32_t)e;
    for (int f = F; f > 0; f--)             /* ... which is where f + 1 starts */
        start[f] = start[f - 1];
    start[0] = 0;
}

void cpu_sae_code_ops(SaeOps *ops)
{
    ops->gate = gate;
    ops->keep_largest = keep_largest;
    ops->full_rows = full_rows;
    ops->keep_of_all = keep_of_all;
    ops->head = head;
    ops->select = select_features;
    ops->count = count;
    ops->invert = invert;
}
