/* SPDX-License-Identifier: MIT */
/* sae_grad.c -- the sparse side of training: gradients through the kept features only, and Adam.
 *
 *     g = dL/dx' up to a factor      g_a[n,j] = g[n,:] . W_dec[i[n,j],:]
 *     dW_dec[f,:] = sum a[n,j] g[n,:]     dW_enc[f,:] = sum g_a[n,j] (x[n,:] - b_dec)     over (n,j), i[n,j] = f
 *
 *   x, g (N,D)   a, g_a, i (N,K)   dW_enc, dW_dec (F,D)
 *
 * 6*N*K*D flop where the dense products would take 6*N*F*D. Features are independent of each other, and each sums in
 * order of rows, so that no number depends on threads; sums over everything go by PARTS fixed parts. The gradients read
 * rows of x and g from the outer caches; Adam streams 7 numbers a parameter and is bound by memory: row_update gives it
 * each row's gradient while that is in the cache, which leaves 6 of the 14 numbers that gradients in memory take. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/adam_pair.h"
#include "kernels/cpu/sae_cpu.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vec.h"

enum { PARTS = 64, AT_ONCE = REGISTERS/4, TILE_ROWS = 32 };      /* AT_ONCE: vectors of each of two sums */

static int64_t part_start(int64_t n, int p)
{
    return n/PARTS*p + (n % PARTS)*p/PARTS;
}

static double part_sum(const double *part)
{
    double sum = 0;
    for (int p = 0; p < PARTS; p++)
        sum += part[p];
    return sum;
}

/* ---- sums over everything ---- */

static void difference_part(double *sum, float *g, const float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4096) {             /* squares in f32 for 256 a lane, then in double */
        V square = {0};
        const int64_t end = i + 4096 < n ? i + 4096 : n;
        for (int64_t j = i; j < end; j += LANES) {
            const int left = end - j < LANES ? (int)(end - j) : LANES;
            V d = v_load(x + j, left);
            if (y)
                d = v_load(y + j, left) - d;
            if (g)
                v_store(g + j, d, left);
            square += d*d;
        }
        *sum += v_sum(square);
    }
}

static void difference(float *g, double *square, const float *y, const float *x, int64_t n)
{
    double part[PARTS] = {0};
    #pragma omp parallel for if (n > CPU_PARALLEL)
    for (int p = 0; p < PARTS; p++) {
        const int64_t from = part_start(n, p), to = part_start(n, p + 1);
        difference_part(&part[p], g ? g + from : NULL, y ? y + from : NULL, x + from, to - from);
    }
    *square = part_sum(part);
}

static void sum_squares(double *square, const float *x, int64_t n)
{
    difference(NULL, square, NULL, x, n);
}

/* ---- sums over rows: each column by itself, TILE_ROWS rows in f32, those in double ---- */

/* sum[16] += of columns [d, d+n): w[n] (x - mean), or squares of it */
static void columns(double *sum, const float *mean, const float *w, bool square, const float *x, int64_t N, int D,
                    int n)
{
    const V m = mean ? v_load(mean, n) : (V){0};
    for (int64_t r = 0; r < N; r += TILE_ROWS) {
        V s = {0};
        const int64_t end = r + TILE_ROWS < N ? r + TILE_ROWS : N;
        for (int64_t j = r; j < end; j++) {
            const V v = v_load(x + j*D, n) - m;
            s += square ? v*v : w ? w[j]*v : v;
        }
        for (int l = 0; l < LANES; l++)
            sum[l] += s[l];
    }
}

static void moments(float *mean, double *spread, const float *x, int64_t N, int D)
{
    const int blocks = (D + LANES - 1)/LANES;
    double *of_block = cpu_scratch(sizeof(double)*(size_t)blocks);
    #pragma omp parallel for if (N*D > CPU_PARALLEL)
    for (int b = 0; b < blocks; b++) {
        const int d = b*LANES, n = D - d < LANES ? D - d : LANES;
        double sum[LANES] = {0}, square[LANES] = {0};
        columns(sum, NULL, NULL, false, x + d, N, D, n);
        for (int l = 0; l < n; l++)
            mean[d + l] = (float)(sum[l]/(double)N);
        columns(square, mean + d, NULL, true, x + d, N, D, n);
        of_block[b] = 0;
        for (int l = 0; l < n; l++)
            of_block[b] += square[l];
    }
    *spread = 0;
    for (int b = 0; b < blocks; b++)
        *spread += of_block[b];
}

static void column_sum(float *y, float c, const float *w, const float *x, int64_t N, int D)
{
    #pragma omp parallel for if (N*D > CPU_PARALLEL)
    for (int d = 0; d < D; d += LANES) {
        const int n = D - d < LANES ? D - d : LANES;
        double sum[LANES] = {0};
        columns(sum, NULL, w, false, x + d, N, D, n);
        for (int l = 0; l < n; l++)
            y[d + l] += c*(float)sum[l];
    }
}

static void center_row(float *y, const float *x, const float *b, int D)
{
    for (int d = 0; d < D; d++)
        y[d] = x[d] - b[d];
}

static void center(float *y, const float *x, const float *b, int64_t N, int D)
{
    #pragma omp parallel for if (N*D > CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++)
        center_row(y + n*D, x + n*D, b, D);
}

/* ---- kept features ---- */

static void code_grad_row(float *g_a, const float *g, const float *a, const int32_t *i, const float *W, int D, int K)
{
    for (int j = 0; j < K; j++) {
        if (a[j] == 0) {
            g_a[j] = 0;
            continue;
        }
        const float *w = W + (size_t)i[j]*(size_t)D;
        V s0 = {0}, s1 = {0};
        int d = 0;
        for (; d + 2*LANES <= D; d += 2*LANES) {
            s0 += v_load(g + d, LANES)*v_load(w + d, LANES);
            s1 += v_load(g + d + LANES, LANES)*v_load(w + d + LANES, LANES);
        }
        for (; d < D; d += LANES) {
            const int n = D - d < LANES ? D - d : LANES;
            s0 += v_load(g + d, n)*v_load(w + d, n);
        }
        g_a[j] = v_sum(s0 + s1);
    }
}

static void code_grad(float *g_a, const float *g, const float *a, const int32_t *i, const float *W_dec, int64_t N,
                      int D, int K)
{
    #pragma omp parallel for if (N*D*K > CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++)
        code_grad_row(g_a + n*K, g + n*D, a + n*K, i + n*K, W_dec, D, K);
}

static void reconstruct(float *g, float *g_a, double *square, const float *a, const int32_t *i, const float *W_dec,
                        const float *b, const float *x, int64_t N, int D, int K)
{
    cpu_sae_decode(g, a, i, W_dec, b, N, D, K);
    difference(g, square, g, x, N*D);
    code_grad(g_a, g, a, i, W_dec, N, D, K);
}

typedef struct Entries {            /* the (n,j) of one feature, and what they sum */
    const int32_t *order;
    int count, K;
    const float *a, *g_a, *g, *x;
    float c;
} Entries;

/* Columns [d, d + vectors*LANES) of one feature's two rows; the last vector may be short. */
ALWAYS_INLINE void row_grad(float *dec, float *enc, const Entries *t, int D, int d, int vectors, int last)
{
    V to_dec[AT_ONCE], to_enc[AT_ONCE];
    for (int v = 0; v < vectors; v++)
        to_dec[v] = to_enc[v] = (V){0};
    for (int e = 0; e < t->count; e++) {
        const uint32_t place = (uint32_t)t->order[e];
        const float a = t->a[place], g_a = t->g_a[place];
        if (a == 0)
            continue;
        const size_t row = (size_t)(place/(uint32_t)t->K)*(size_t)D + (size_t)d;
        for (int v = 0; v < vectors; v++) {
            const int n = v == vectors - 1 ? last : LANES;
            to_dec[v] += a*v_load(t->g + row + v*LANES, n);
            to_enc[v] += g_a*v_load(t->x + row + v*LANES, n);
        }
    }
    for (int v = 0; v < vectors; v++) {
        const int n = v == vectors - 1 ? last : LANES;
        v_store(dec + d + v*LANES, v_load(dec + d + v*LANES, n) + t->c*to_dec[v], n);
        v_store(enc + d + v*LANES, v_load(enc + d + v*LANES, n) + t->c*to_enc[v], n);
    }
}

static void feature_grad(float *dec, float *enc, const Entries *t, int D)
{
    int d = 0;
    for (; d + AT_ONCE*LANES <= D; d += AT_ONCE*LANES)
        row_grad(dec, enc, t, D, d, AT_ONCE, LANES);
    for (; d < D; d += LANES)
        row_grad(dec, enc, t, D, d, 1, D - d < LANES ? D - d : LANES);
}

static Entries entries_of(const CodePart *p, const float *x, int f)
{
    const int count = f < p->from || f >= p->to ? 0 : p->start[f + 1] - p->start[f];
    return (Entries){p->order + p->start[f], count, p->K, p->a, p->g_a, p->g, x, p->c};
}

static void row_grads(float *dW_dec, float *dW_enc, const CodePart *part, const float *x, int D)
{
    #pragma omp parallel for schedule(dynamic, 32)      /* some features are kept often, most rarely */
    for (int f = part->from; f < part->to; f++) {
        const Entries t = entries_of(part, x, f);
        if (t.count)
            feature_grad(dW_dec + (size_t)f*(size_t)D, dW_enc + (size_t)f*(size_t)D, &t, D);
    }
}

static void code_sums(float *db_enc, float *dec, float *enc, const CodePart *p, const float *g_length,
                      const float *x_length)
{
    #pragma omp parallel for schedule(dynamic, 256)
    for (int f = p->from; f < p->to; f++) {
        float sum = 0, to_dec = 0, to_enc = 0;
        for (int e = p->start[f]; e < p->start[f + 1]; e++) {
            const uint32_t place = (uint32_t)p->order[e], n = place/(uint32_t)p->K;
            sum += p->g_a[place];
            to_dec += fabsf(p->a[place])*g_length[n];
            to_enc += fabsf(p->g_a[place])*x_length[n];
        }
        db_enc[f] += p->c*sum;
        dec[f] += fabsf(p->c)*to_dec;
        enc[f] += fabsf(p->c)*to_enc;
    }
}

/* ---- Adam ---- */

ALWAYS_INLINE float dot(const float *x, const float *y, int D)
{
    V sum = {0};
    for (int d = 0; d < D; d += LANES) {
        const int n = D - d < LANES ? D - d : LANES;
        sum += v_load(x + d, n)*v_load(y + d, n);
    }
    return v_sum(sum);
}

static void row_square(double *square, const float *x, int D)
{
    *square += (double)dot(x, x, D);
}

/* p -= rate * m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps), g = scale (dp - along p); dp becomes 0 */
ALWAYS_INLINE void adam_value(float *p, float *m, float *v, float *dp, float along, const AdamStep *s)
{
    const float g = s->scale*(*dp - along**p);
    *m = s->beta1**m + (1 - s->beta1)*g;
    *v = s->beta2**v + (1 - s->beta2)*g*g;
    *p -= s->rate*s->unbias1**m/(sqrtf(s->unbias2)*__builtin_sqrtf(*v) + s->eps);
    *dp = 0;
}

static void adam_floats(float *restrict p, float *restrict m, float *restrict v, float *restrict dp, int D, float along,
                        const AdamStep *s)
{
    for (int d = 0; d < D; d++)
        adam_value(p + d, m + d, v + d, dp + d, along, s);
}

static void adam_pairs(float *restrict p, uint32_t *restrict pairs, float *restrict dp, int D, float along,
                       uint32_t chance, uint32_t first, const AdamStep *s)
{
    for (int d = 0; d < D; d++) {
        const uint32_t old[2] = {pairs[d] & 0xffff0000, pairs[d] << 16};
        uint32_t bits[2];
        float m, v;
        memcpy(&m, &old[0], sizeof m);
        memcpy(&v, &old[1], sizeof v);
        adam_value(p + d, &m, &v, dp + d, along, s);
        memcpy(&bits[0], &m, sizeof m);
        memcpy(&bits[1], &v, sizeof v);
        pairs[d] = adam_pair(bits[0], bits[1], adam_chance(chance, first + (uint32_t)d));
    }
}

static void adam_row(const AdamState *w, int64_t row, float *dp, int D, const AdamStep *s)
{
    float *const p = w->p + row*D;
    const float along = s->unit_rows ? dot(dp, p, D) : 0;
    if (w->pairs)
        adam_pairs(p, w->pairs + row*D, dp, D, along, w->chance, (uint32_t)(w->first + row*D), s);
    else
        adam_floats(p, w->m + row*D, w->v + row*D, dp, D, along, s);
    if (s->unit_rows) {
        const float length = sqrtf(dot(p, p, D));
        const float r = length > 0 ? 1/length : 0;
        for (int d = 0; d < D; d++)
            p[d] *= r;
    }
}

static void adam(const AdamState *w, float *dp, int64_t rows, int D, const AdamStep *step)
{
    #pragma omp parallel for if (rows*D > CPU_PARALLEL)
    for (int64_t r = 0; r < rows; r++)
        adam_row(w, r, dp + r*D, D, step);
}

/* ---- both at once ---- */

/* One panel of the encoder's features after another: W_enc's new rows are packed while they are in the cache. */
static void row_update(double *square, const AdamState *W_dec, const AdamState *W_enc, const CodePart *part, int parts,
                       const float *x, int F, int D, const AdamStep *step, SaeEncoder *encoder)
{
    AdamStep unit = *step, free_rows = *step;
    unit.unit_rows = true;
    free_rows.unit_rows = false;
    double *of_row = cpu_scratch(sizeof(double)*(size_t)F);
    #pragma omp parallel
    {
        float *row = calloc(2*(size_t)D, sizeof *row);
        if (!row)
            abort();
        #pragma omp for schedule(dynamic)
        for (int panel = 0; panel < F; panel += CPU_PANEL) {
            for (int f = panel; f < F && f < panel + CPU_PANEL; f++) {
                int count = 0;
                for (int p = 0; p < parts; p++) {
                    const Entries t = entries_of(&part[p], x, f);
                    if (t.count)
                        feature_grad(row, row + D, &t, D);
                    count += t.count;
                }
                of_row[f] = 0;
                if (count) {
                    row_square(&of_row[f], row, D);
                    row_square(&of_row[f], row + D, D);
                }
                adam_row(W_dec, f, row, D, &unit);          /* clears row again */
                adam_row(W_enc, f, row + D, D, &free_rows);
            }
            if (encoder)
                cpu_pack_panel(encoder, W_enc->p, panel);
        }
        free(row);
    }
    *square = 0;
    for (int f = 0; f < F; f++)
        *square += of_row[f];
}

static void row_lengths(float *y, const float *x, int64_t N, int D)
{
    #pragma omp parallel for if (N*D > CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++) {
        double square = 0;
        row_square(&square, x + n*D, D);
        y[n] = (float)sqrt(square);
    }
}

void cpu_sae_grad_ops(SaeOps *ops)
{
    ops->center = center;
    ops->moments = moments;
    ops->difference = difference;
    ops->sum_squares = sum_squares;
    ops->column_sum = column_sum;
    ops->code_grad = code_grad;
    ops->reconstruct = reconstruct;
    ops->row_lengths = row_lengths;
    ops->code_sums = code_sums;
    ops->row_grads = row_grads;
    ops->row_update = row_update;
    ops->adam = adam;
}
