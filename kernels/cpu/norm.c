/* SPDX-License-Identifier: MIT */
/* norm.c -- group norm with SiLU.
 *
 *     y[b,i,c] = act((x[b,i,c] - mean[b,g]) * rstd[b,g] * gamma[c] + beta[c]),  g = c/(C/groups),
 *     rstd = 1/sqrt(variance + eps)
 *
 *   x (B,HW,C) f32 or bf16, or two side by side, shift (B,C) added first; y f32 or bf16
 *   Wu and He 2018 (arXiv 1803.08494). Variances are biased.
 *
 * It goes over x twice. First, blocks of rows small enough for the first-level cache: each channel's mean in
 * the block, then its squared deviations from that mean, so that nothing is lost to cancellation; blocks and channels
 * are joined in double (Chan et al. 1979: M2 = sum M2_i + n_i (mean_i - mean)^2). Then y, from one scale and one offset
 * a channel. The blocks depend on C only and are joined in their order, so any number of threads gives the same bytes.
 * Bound by memory, or by the second-level cache where an image fits it. */
#include <math.h>
#include <omp.h>
#include "kernels/cpu/level.h"
#include "kernels/cpu/vec.h"

enum { BLOCK_VALUES = 8192, AT_ONCE = 4 };      /* 32 KB a block; vectors of channels summed side by side */

/* Channels [at, at + C) of what is normalized: rows of a matrix of C. */
typedef struct Side {
    const void *x;
    DType type;
    int at, C;
} Side;

typedef struct GroupNorm {
    void *y, *as_is;
    DType y_type;
    Side side[2];
    int sides;
    const float *shift, *gamma, *beta;
    int64_t HW, blocks, rows;       /* rows: of a block */
    int C, groups;                  /* C: of all sides */
    float eps;
    Activation act;
    float *parts;                   /* (B, blocks, 2, C): mean and M2 of each channel in each block */
    float *affine;                  /* (B, 2, C): scale and offset that make y of x */
} GroupNorm;

/* Vectors of channels from element `at` of x on, in a block of `rows` rows of C; the last may be short (last lanes). */
ALWAYS_INLINE void channel_moments(const void *x, DType type, int64_t at, int C, int64_t rows, float *mean, float *M2,
                                   int vectors, int last)
{
    V sum[AT_ONCE], square[AT_ONCE], center[AT_ONCE];
    for (int j = 0; j < vectors; j++)
        sum[j] = square[j] = (V){0};
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++)
            sum[j] += v_load_as(x, type, at + i*C + j*LANES, j == vectors - 1 ? last : LANES);
    for (int j = 0; j < vectors; j++)
        center[j] = sum[j]/(float)rows;
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) {
            const V d = v_load_as(x, type, at + i*C + j*LANES, j == vectors - 1 ? last : LANES) - center[j];
            square[j] += d*d;
        }
    for (int j = 0; j < vectors; j++) {
        v_store(mean + j*LANES, center[j], j == vectors - 1 ? last : LANES);
        v_store(M2 + j*LANES, square[j], j == vectors - 1 ? last : LANES);
    }
}

ALWAYS_INLINE void side_moments(const Side *s, DType type, int64_t first, int64_t rows, float *mean, float *M2)
{
    const int C = s->C;
    int c = 0;
    for (; c + AT_ONCE*LANES <= C; c += AT_ONCE*LANES)
        channel_moments(s->x, type, first*C + c, C, rows, mean + c, M2 + c, AT_ONCE, LANES);
    for (; c + LANES <= C; c += LANES)
        channel_moments(s->x, type, first*C + c, C, rows, mean + c, M2 + c, 1, LANES);
    if (c < C)
        channel_moments(s->x, type, first*C + c, C, rows, mean + c, M2 + c, 1, C - c);
}

/* The shift moves a mean and no deviation, so it is left to group_affine. */
static void block_moments(const GroupNorm *g, int64_t b, int64_t block)
{
    const int64_t first = block*g->rows, rows = g->HW - first < g->rows ? g->HW - first : g->rows;
    float *mean = g->parts + (b*g->blocks + block)*2*g->C, *M2 = mean + g->C;
    for (int k = 0; k < g->sides; k++) {
        const Side *s = &g->side[k];
        if (s->type == F32)
            side_moments(s, F32, b*g->HW + first, rows, mean + s->at, M2 + s->at);
        else
            side_moments(s, BF16, b*g->HW + first, rows, mean + s->at, M2 + s->at);
    }
}

/* Joins the blocks' moments of image b into each channel's scale and offset. */
static void group_affine(const GroupNorm *g, int64_t b)
{
    const int width = g->C/g->groups;
    const float *parts = g->parts + b*g->blocks*2*g->C, *shift = g->shift ? g->shift + b*g->C : NULL;
    float *scale = g->affine + b*2*g->C, *offset = scale + g->C;
    for (int first = 0; first < g->C; first += width) {
        double sum = 0, M2 = 0;
        for (int64_t k = 0; k < g->blocks; k++) {
            const double rows = (double)(k < g->blocks - 1 ? g->rows : g->HW - k*g->rows);
            for (int c = first; c < first + width; c++)
                sum += rows*((double)parts[2*k*g->C + c] + (shift ? shift[c] : 0));
        }
        const double mean = sum/((double)g->HW*width);
        for (int64_t k = 0; k < g->blocks; k++) {
            const double rows = (double)(k < g->blocks - 1 ? g->rows : g->HW - k*g->rows);
            for (int c = first; c < first + width; c++) {
                const double d = (double)parts[2*k*g->C + c] + (shift ? shift[c] : 0) - mean;
                M2 += (double)parts[(2*k + 1)*g->C + c] + rows*d*d;
            }
        }
        const double rstd = 1/sqrt(M2/((double)g->HW*width) + (double)g->eps);
        for (int c = first; c < first + width; c++) {
            scale[c] = (float)(rstd*g->gamma[c]);
            offset[c] = (float)(g->beta[c] + ((shift ? shift[c] : 0) - mean)*rstd*g->gamma[c]);
        }
    }
}

/* w channels of row i, from the c-th of a side on, as they are and normalized. Loaded first: a load that is cut short
 * branches, and what it parts is not multiplied and added at once. */
ALWAYS_INLINE void normalize_lanes(const GroupNorm *g, const Side *s, DType type, DType y_type, Activation act,
                                   bool as_is, const float *scale, const float *offset, int64_t i, int c, int w)
{
    const V x = v_load_as(s->x, type, i*s->C + c, w), by = v_load(scale + c, w), from = v_load(offset + c, w);
    if (as_is)
        v_store_as(g->as_is, y_type, i*g->C + s->at + c, x, w);
    v_store_as(g->y, y_type, i*g->C + s->at + c, v_activate(x*by + from, act), w);
}

/* Rows [first, last) of image b of a side. */
ALWAYS_INLINE void normalize_side(const GroupNorm *g, const Side *s, int64_t b, int64_t first, int64_t last, DType type,
                                  DType y_type, Activation act, bool as_is)
{
    const float *scale = g->affine + b*2*g->C + s->at, *offset = scale + g->C;
    const int whole = s->C/LANES*LANES;
    for (int64_t i = first; i < last; i++) {
        for (int c = 0; c < whole; c += LANES)
            normalize_lanes(g, s, type, y_type, act, as_is, scale, offset, i, c, LANES);
        if (whole < s->C)
            normalize_lanes(g, s, type, y_type, act, as_is, scale, offset, i, whole, s->C - whole);
    }
}

/* The kinds that the models have, each with its own loop. */
static void normalize(const GroupNorm *g, int64_t b, int64_t block)
{
    const int64_t first = b*g->HW + block*g->rows, last = (block + 1)*g->rows < g->HW ? first + g->rows : (b + 1)*g->HW;
    const bool silu = g->act == ACT_SILU, bf16 = g->y_type == BF16, as_is = g->as_is != NULL;
    for (int k = 0; k < g->sides; k++) {
        const Side *s = &g->side[k];
        if (silu && bf16 && s->type == BF16 && !as_is)
            normalize_side(g, s, b, first, last, BF16, BF16, ACT_SILU, false);
        else if (silu && bf16 && s->type == F32 && as_is)
            normalize_side(g, s, b, first, last, F32, BF16, ACT_SILU, true);
        else if (silu && bf16 && s->type == F32)
            normalize_side(g, s, b, first, last, F32, BF16, ACT_SILU, false);
        else if (silu && s->type == F32 && as_is)
            normalize_side(g, s, b, first, last, F32, F32, ACT_SILU, true);
        else if (silu && s->type == F32)
            normalize_side(g, s, b, first, last, F32, F32, ACT_SILU, false);
        else
            normalize_side(g, s, b, first, last, s->type, g->y_type, g->act, as_is);
    }
}

void cpu_group_norm(void *y, DType y_type, void *as_is, const NormInput *in, const float *gamma, const float *beta,
                    int64_t B, int64_t HW, int groups, float eps, Activation act)
{
    const int C = in->C + in->C_beside;
    GroupNorm g = {.y = y, .as_is = as_is, .y_type = y_type,
                   .side = {{in->x, in->type, 0, in->C}, {in->beside, in->type, in->C, in->C_beside}},
                   .sides = in->beside ? 2 : 1, .shift = in->shift, .gamma = gamma, .beta = beta, .HW = HW, .C = C,
                   .groups = groups, .eps = eps, .act = act};
    g.rows = C < BLOCK_VALUES/8 ? BLOCK_VALUES/C : 8;
    g.blocks = (HW + g.rows - 1)/g.rows;
    g.affine = cpu_scratch((size_t)B*2*(size_t)C*(size_t)(g.blocks + 1)*sizeof(float));
    g.parts = g.affine + B*2*C;

    if (B >= omp_get_max_threads() || g.blocks == 1) {      /* an image a thread: it stays in that core's cache */
#pragma omp parallel for schedule(static) if (B*HW*C >= CPU_PARALLEL)
        for (int64_t b = 0; b < B; b++) {
            for (int64_t k = 0; k < g.blocks; k++)
                block_moments(&g, b, k);
            group_affine(&g, b);
            for (int64_t k = 0; k < g.blocks; k++)
                normalize(&g, b, k);
        }
        return;
    }
#pragma omp parallel if (B*HW*C >= CPU_PARALLEL)
    {
#pragma omp for schedule(static)
        for (int64_t k = 0; k < B*g.blocks; k++)
            block_moments(&g, k/g.blocks, k%g.blocks);
#pragma omp for schedule(static)
        for (int64_t b = 0; b < B; b++)
            group_affine(&g, b);
#pragma omp for schedule(static)
        for (int64_t k = 0; k < B*g.blocks; k++)
            normalize(&g, k/g.blocks, k%g.blocks);
    }
}
