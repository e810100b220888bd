/* SPDX-License-Identifier: MIT */
/* sae_decode.c -- decoding and steering: sums of a few gathered rows of W_dec.
 *
 *     decode  y[n,:] = sum_j a[n,j] W_dec[i[n,j],:] + b
 *     steer   y[n,:] = x[n,:] + sum_j (s[n,j] - a[n,j]) W_dec[i[n,j],:],  s as a is turned (op_sae.h)
 *
 *   x, y (N,D)   a (N,K)   i (N,K) in [0,F)   W_dec (F,D)
 *
 * A row's sum over j is held in registers, 128 values of D at a time, in order of j. Reads 4*K*D bytes of W_dec a row
 * for 2*K*D flop: bound by the cache that W_dec fits. */
#include <string.h>
#include "kernels/cpu/sae_cpu.h"
#include "kernels/cpu/vec.h"

enum { AT_ONCE = 8 };

/* y[d..d+n) = x (or 0) + sum_j c[j] W[i[j],d..d+n) */
ALWAYS_INLINE void gather(float *y, const float *x, const float *c, const int32_t *i, const float *W, int D, int K,
                          int d, int vectors, int last)
{
    V sum[AT_ONCE];
    for (int v = 0; v < vectors; v++)
        sum[v] = x ? v_load(x + d + v*LANES, v == vectors - 1 ? last : LANES) : (V){0};
    for (int j = 0; j < K; j++) {
        if (c[j] == 0)
            continue;
        const float *w = W + (size_t)i[j]*(size_t)D + d;
        for (int v = 0; v < vectors; v++)
            sum[v] += c[j]*v_load(w + v*LANES, v == vectors - 1 ? last : LANES);
    }
    for (int v = 0; v < vectors; v++)
        v_store(y + d + v*LANES, sum[v], v == vectors - 1 ? last : LANES);
}

static void gather_row(float *y, const float *x, const float *c, const int32_t *i, const float *W, int D, int K)
{
    int d = 0;
    for (; d + AT_ONCE*LANES <= D; d += AT_ONCE*LANES)
        gather(y, x, c, i, W, D, K, d, AT_ONCE, LANES);
    for (; d < D; d += LANES)
        gather(y, x, c, i, W, D, K, d, 1, D - d < LANES ? D - d : LANES);
}

void cpu_sae_decode(float *y, const float *a, const int32_t *i, const float *W_dec, const float *b, int64_t N, int D,
                    int K)
{
    #pragma omp parallel for if (N*D*K > CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++)
        gather_row(y + n*D, b, a + n*K, i + n*K, W_dec, D, K);
}

/* ---- steering ---- */

enum { TERMS = 256 };               /* of a row's sum, gathered at once */

/* A row's sum under way. */
typedef struct Row {
    float *y;
    const float *x, *W;             /* x: y once terms were gathered */
    int D, terms;
    float c[TERMS];
    int32_t i[TERMS];
} Row;

static void flush(Row *r)
{
    if (r->terms)
        gather_row(r->y, r->x, r->c, r->i, r->W, r->D, r->terms);
    else if (r->y != r->x)
        memcpy(r->y, r->x, (size_t)r->D*sizeof *r->y);
    r->x = r->y;
    r->terms = 0;
}

static void add_change(Row *r, const SaeTurns *t, int place, float a, float share)
{
    const SaeTurn *turn = &t->turn[place];
    if (!(t->sets >> turn->set & 1) || !(a > turn->over))
        return;
    const float full = turn->factor*a + turn->offset, s = share >= 1 ? full : share > 0 ? a + share*(full - a) : a;
    if (s == a)
        return;
    if (r->terms == TERMS)
        flush(r);
    r->c[r->terms] = s - a;
    r->i[r->terms++] = turn->feature;
}

/* Those that the row does not keep, a word of places at a time. */
static void add_others(Row *r, const SaeTurns *t, const int32_t *i, int K, float share)
{
    enum { WORD = 64 };
    for (int first = 0; first < t->count; first += WORD) {
        uint64_t kept = 0;
        for (int j = 0; j < K; j++) {
            const int place = t->place[i[j]] - first;
            if (place >= 0 && place < WORD)
                kept |= (uint64_t)1 << place;
        }
        for (int p = 0; p < WORD && first + p < t->count; p++)
            if (!(kept >> p & 1))
                add_change(r, t, first + p, 0, share);
    }
}

static void steer(float *y, const float *x, const float *a, const int32_t *i, const SaeTurns *turns,
                  const float *W_dec, int64_t N, int D, int K)
{
    #pragma omp parallel for if (N*D*K > CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++) {
        const float share = turns->share ? turns->share[(turns->first + n)%turns->shares] : 1;
        Row r;                      /* but for the terms to come */
        r.y = y + n*D;
        r.x = x + n*D;
        r.W = W_dec;
        r.D = D;
        r.terms = 0;
        for (int j = 0; j < K; j++)
            if (turns->place[i[n*K + j]] >= 0)
                add_change(&r, turns, turns->place[i[n*K + j]], a[n*K + j], share);
        if (turns->all)
            add_others(&r, turns, i + n*K, K, share);
        flush(&r);
    }
}

void cpu_sae_ops(SaeOps *ops)
{
    ops->decode = cpu_sae_decode;
    ops->steer = steer;
    cpu_sae_encode_ops(ops);
    cpu_sae_grad_ops(ops);
    cpu_sae_dense_ops(ops);
}
