/* SPDX-License-Identifier: MIT */
/* sae_encode.c -- encoding: h = (x - b_dec) W_enc^T + b_enc and its K largest, block by block of rows.
 *
 *   x (N,D)   W_enc (F,D)   h (rows of a block, F) never leaves the caches of its thread   a, i (N,K)
 *
 * The product is written here and not given to a library for three reasons: each h[n,f] is one chain of fused
 * multiply-adds over d, the same whatever N, F or threads; the choice of the K largest follows while h is warm; and
 * packing W_enc again after each training step costs one copy of it. Tiles (tile.h) are bound by the multiply-adds.
 *
 * Packed:  W in panels [F/32][words][32], x in groups of tile rows [words][rows]; a word is one f32 or a pair of bf16
 * along d. Where AMX is (amx.h) it multiplies bf16, by rows of whole steps. */
#include <float.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cpu/amx.h"
#include "kernels/cpu/sae_cpu.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vec.h"

enum { PANEL = CPU_PANEL, NEAR_ROWS = 56, FAR_ROWS = 112, AMX_ROWS_AT_ONCE = 128, NEAR_BYTES = 4 << 20 };

typedef struct Block {              /* scratch of one thread */
    uint32_t *x;                    /* packed rows */
    float *h, *topk;
} Block;

struct SaeEncoder {
    int D, F, most_F, words;        /* F now and at most; words a row, whole steps for AMX */
    int pitch;                      /* of packed rows for AMX, in words */
    int32_t *at;                    /* [steps] of AMX; NULL elsewhere */
    int columns;                    /* F rounded up to PANEL */
    DType type;                     /* asked for; bf16 is kept as rounded f32 where it cannot be multiplied */
    Tile tile;
    int block_rows;
    uint32_t *W;
    float *b_enc, *b_dec;           /* b_enc (columns), -FLT_MAX after the last feature */
    int32_t *rows;                  /* [F] numbers of the packed features; NULL: their places */
    bool subset;
    int threads, K;                 /* what block[] was made for */
    Block *block;
};

/* ---- creation ---- */

static void blocks_free(SaeEncoder *e)
{
    for (int t = 0; e->block && t < e->threads; t++) {
        free(e->block[t].x);
        free(e->block[t].h);
        free(e->block[t].topk);
    }
    free(e->block);
    e->block = NULL;
}

static void *memory(size_t bytes)
{
    return aligned_alloc(64, (bytes + 127) & ~(size_t)63);
}

/* Scratch for `threads` threads and K; kept while both fit. */
static void blocks_need(SaeEncoder *e, int threads, int K)
{
    if (e->block && threads <= e->threads && K <= e->K)
        return;
    blocks_free(e);
    const size_t columns = (size_t)(e->most_F + PANEL - 1)/PANEL*PANEL;
    e->threads = threads;
    e->K = K;
    e->block = calloc((size_t)threads, sizeof *e->block);
    for (int t = 0; e->block && t < threads; t++) {
        Block *b = &e->block[t];
        b->x = memory(sizeof(uint32_t)*(size_t)e->pitch*(size_t)e->block_rows);
        b->h = memory(sizeof(float)*columns*(size_t)e->block_rows);
        b->topk = memory(sizeof(float)*cpu_topk_scratch(K));
        if (!b->x || !b->h || !b->topk)
            abort();
    }
    if (!e->block)
        abort();
}

static void encoder_free(SaeEncoder *e)
{
    if (!e)
        return;
    blocks_free(e);
    free(e->W);
    free(e->b_enc);
    free(e->b_dec);
    free(e->rows);
    free(e->at);
    free(e);
}

static int encoder_create(SaeEncoder **out, int D, int F, DType type, Err *err)
{
    *out = NULL;
    SaeEncoder *e = calloc(1, sizeof *e);
    if (!e)
        return err_set(err, "out of memory");
    e->D = D;
    e->most_F = F;
    e->type = type;
    e->tile = cpu_tile(type);
    e->words = e->tile.store == BF16 ? (D + 1)/2 : D;
    if (e->tile.amx)
        e->words = (int)round_up(e->words, AMX_STEP_WORDS);
    e->pitch = e->tile.amx ? (int)amx_pitch((size_t)e->words*sizeof(uint32_t))/(int)sizeof(uint32_t) : e->words;
    const size_t columns = ((size_t)F + PANEL - 1)/PANEL*PANEL, bytes = columns*(size_t)e->words*sizeof(uint32_t);
    /* W passes by once a block: the farther it lies, the more rows */
    const int rows = e->tile.amx ? AMX_ROWS_AT_ONCE : bytes <= NEAR_BYTES ? NEAR_ROWS : FAR_ROWS;
    e->block_rows = (rows + e->tile.rows - 1)/e->tile.rows*e->tile.rows;
    e->W = memory(bytes);
    e->b_enc = memory(columns*sizeof(float));
    e->b_dec = memory((size_t)D*sizeof(float));
    e->rows = memory(columns*sizeof(int32_t));
    e->at = e->tile.amx ? memory((size_t)(e->words/AMX_STEP_WORDS)*sizeof(int32_t)) : NULL;
    if (!e->W || !e->b_enc || !e->b_dec || !e->rows || (e->tile.amx && !e->at)) {
        encoder_free(e);
        return err_set(err, "cannot allocate %zu bytes for an encoder of %d features of width %d", bytes, F, D);
    }
    if (e->tile.amx) {
        memset(e->W, 0, bytes);                             /* words after D stay so */
        for (int s = 0; s < e->words/AMX_STEP_WORDS; s++)
            e->at[s] = s*AMX_STEP_WORDS*(int)sizeof(uint32_t);
    }
    *out = e;
    return 0;
}

/* ---- packing ---- */

/* 32 features side by side. In blocks of LANES values, which the compiler turns in registers. */
static void pack_panel(const SaeEncoder *e, uint32_t *panel, const float *const *w)
{
    const int D = e->D;
    for (int d = 0; d < D; d += LANES)
        for (int c = 0; c < PANEL; c++)
            for (int j = d; j < d + LANES && j < D; j++) {
                float v = w[c] ? w[c][j] : 0;
                memcpy(&panel[(size_t)j*PANEL + c], &v, sizeof v);
            }
}

static void pack_panel_bf16(const SaeEncoder *e, uint32_t *panel, const float *const *w)
{
    const int D = e->D;
    for (int d = 0; d < D; d += 2*LANES)
        for (int c = 0; c < PANEL; c++)
            for (int j = d; j < d + 2*LANES && j < D; j += 2)
                panel[(size_t)j/2*PANEL + c] = !w[c] ? 0 : bf16_bits(w[c][j])
                                                           | (j + 1 < D ? bf16_bits(w[c][j + 1]) << 16 : 0);
}

void cpu_pack_panel(const SaeEncoder *e, const float *W_enc, int first)
{
    const float *w[PANEL];
    for (int c = 0; c < PANEL; c++)
        w[c] = e->rows[first + c] < 0 ? NULL : W_enc + (size_t)e->rows[first + c]*(size_t)e->D;
    uint32_t *panel = e->W + (size_t)first*(size_t)e->words;
    if (e->tile.store == BF16)
        pack_panel_bf16(e, panel, w);
    else
        pack_panel(e, panel, w);
    if (e->tile.store == F32 && e->type == BF16)
        for (size_t j = 0; j < (size_t)PANEL*(size_t)e->words; j++)
            panel[j] = bf16_bits(((const float *)panel)[j]) << 16;
}

static void encoder_pack(SaeEncoder *e, const float *W_enc, const float *b_enc, const float *b_dec, const int32_t *rows,
                         int F)
{
    e->F = F;
    e->columns = (F + PANEL - 1)/PANEL*PANEL;
    e->subset = rows != NULL;
    memcpy(e->b_dec, b_dec, (size_t)e->D*sizeof(float));
    for (int f = 0; f < e->columns; f++) {
        const int row = f >= F ? -1 : rows ? rows[f] : f;
        e->rows[f] = row;
        e->b_enc[f] = row < 0 ? -FLT_MAX : b_enc[row];
    }
    if (!W_enc)
        return;
    #pragma omp parallel for
    for (int first = 0; first < e->columns; first += PANEL)
        cpu_pack_panel(e, W_enc, first);
}

/* ---- encoding ---- */

/* R rows of x, centered, in groups of a tile's; rows beyond R are 0. */
static void pack_rows(const SaeEncoder *e, uint32_t *packed, const float *x, int R)
{
    const int T = e->tile.rows, D = e->D;
    for (int first = 0; first < R; first += T, packed += (size_t)T*(size_t)e->words)
        for (int r = 0; r < T; r++) {
            const float *row = x + (size_t)(first + r)*(size_t)D;
            if (first + r >= R)
                for (int k = 0; k < e->words; k++)
                    packed[k*T + r] = 0;
            else if (e->tile.store == BF16)
                for (int k = 0; k < e->words; k++)
                    packed[k*T + r] = bf16_bits(row[2*k] - e->b_dec[2*k])
                                      | (2*k + 1 < D ? bf16_bits(row[2*k + 1] - e->b_dec[2*k + 1]) << 16 : 0);
            else
                for (int k = 0; k < D; k++) {
                    const float v = row[k] - e->b_dec[k];
                    if (e->type == BF16)
                        packed[k*T + r] = bf16_bits(v) << 16;
                    else
                        memcpy(&packed[k*T + r], &v, sizeof v);
                }
        }
}

/* h (R, columns) by tiles. */
static void multiply(const SaeEncoder *e, const Block *b, const float *x, int R)
{
    const size_t stride = (size_t)e->columns, group = (size_t)e->tile.rows*(size_t)e->words;
    pack_rows(e, b->x, x, R);
    for (int p = 0; p < e->columns/PANEL; p++)
        for (int first = 0; first < R; first += e->tile.rows)
            e->tile.run(b->h + (size_t)first*stride + (size_t)p*PANEL, stride,
                        b->x + (size_t)(first/e->tile.rows)*group, e->W + (size_t)p*PANEL*(size_t)e->words,
                        e->b_enc + p*PANEL, 0, e->words);
}

/* The same by AMX. */
static void multiply_amx(const SaeEncoder *e, const Block *b, const float *x, int R)
{
    const int T = e->tile.rows, pairs = (R + T - 1)/T, steps = e->words/AMX_STEP_WORDS;
    const size_t stride = (size_t)e->columns, group = (size_t)T*(size_t)e->pitch;
    const int lines = (PANEL*AMX_STEP_WORDS*(int)sizeof(uint32_t)/64 + pairs - 1)/pairs;
    for (int r = 0; r < pairs*T; r++) {
        uint16_t *row = (uint16_t *)(b->x + (size_t)r*(size_t)e->pitch);
        const float *from = x + (size_t)r*(size_t)e->D;
        const int values = r < R ? e->D : 0;
        for (int d = 0; d < values; d += LANES) {
            const int n = values - d < LANES ? values - d : LANES;
            v_store_half(row + d, v_to_bf16(v_load(from + d, n) - v_load(e->b_dec + d, n)), n);
        }
        memset(row + values, 0, sizeof *row*(size_t)(2*e->words - values));
    }
    amx_begin();
    for (int p = 0; p < e->columns/PANEL; p++)
        for (int i = 0; i < pairs; i++) {
            const uint32_t *low = b->x + (size_t)i*group, *W = e->W + (size_t)p*PANEL*(size_t)e->words;
            const uint32_t *soon = W + PANEL*(size_t)e->words + (size_t)(i*steps*lines)*64/sizeof *soon;
            amx_product(b->h + (size_t)(i*T)*stride + (size_t)p*PANEL, stride, low, low + group/2,
                        (size_t)e->pitch*sizeof *low, e->at, W, PANEL, e->b_enc + p*PANEL, 0, steps, soon, lines);
        }
    amx_end();
}

static void encode_block(const SaeEncoder *e, const Block *b, float *a, int32_t *i, const float *x, int R, int K)
{
    const size_t stride = (size_t)e->columns;
    if (e->tile.amx)
        multiply_amx(e, b, x, R);
    else
        multiply(e, b, x, R);
    for (int r = 0; r < R; r++) {
        int32_t *i_r = i + (size_t)r*(size_t)K;
        cpu_topk_row(a + (size_t)r*(size_t)K, i_r, b->h + (size_t)r*stride, e->columns, K, b->topk);
        if (e->subset)
            for (int j = 0; j < K; j++)
                i_r[j] = e->rows[i_r[j]];
    }
}

static void encode(SaeEncoder *e, float *a, int32_t *i, const float *x, int64_t N, int K)
{
    const int threads = omp_get_max_threads(), T = e->tile.rows;
    blocks_need(e, threads, K);
    /* few rows: a part for each thread; no value depends on it */
    int64_t rows = ((N + threads - 1)/threads + T - 1)/T*T;
    rows = rows < e->block_rows ? rows : e->block_rows;
    #pragma omp parallel for schedule(dynamic)
    for (int64_t n = 0; n < N; n += rows)
        encode_block(e, &e->block[omp_get_thread_num()], a + n*K, i + n*K, x + n*e->D,
                     (int)(N - n < rows ? N - n : rows), K);
}

void cpu_sae_encode_ops(SaeOps *ops)
{
    ops->encoder_create = encoder_create;
    ops->encoder_free = encoder_free;
    ops->encoder_pack = encoder_pack;
    ops->encode = encode;
}
