/* SPDX-License-Identifier: MIT */
/* attention.c -- softmax(q k^T scale + bias) v without ever writing the scores.
 *
 *     for tiles of keys:  s = q k^T scale + bias    m' = max(m, max s)    p = exp(s - m')
 *                         l = l exp(m - m') + sum p    o = o exp(m - m') + p v         y = o/l
 *
 *   q, y (B,Sq,heads,d)   k, v (images,Sk,heads,d)   f32 or bf16, rows at any stride; m, l, o, s in f32
 *   Milakov and Gimelshein 2018 (arXiv 1805.02867); Dao et al. 2022 (arXiv 2205.14135), algorithm 1.
 *
 * Both products are one small matrix product over 32-bit words: a word is one f32, or two bf16 that are neighbours in
 * the summed dimension, as vdpbf16ps takes them. k is packed once a head as (words of d, keys), v as (words of keys,
 * d), both padded to whole vectors with zeros; q is taken QUERIES rows at a time, keys KEYS at a time, so that scores
 * stay in the first-level cache. A machine without AVX512-BF16 widens bf16 to f32 while packing. Where AMX is (amx.h) k
 * and v are packed in panels of 32 columns, padded to whole steps.
 *
 * One thread takes one head of one image and a run of its queries. A query's sums run over its keys in order, whatever
 * the run. Bound by arithmetic for wide heads, by exp for narrow ones: 4d flop a score against about 20 instructions
 * for 16. */
#include <math.h>
#include <omp.h>
#include "kernels/cpu/amx.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/vec.h"

enum { QUERIES = 32, KEYS = 128 };

/* C (rows, vectors*LANES) = C * keep[row] + A (rows, words) B (words, vectors*LANES); keep NULL: C = A B. rows: a
 * multiple of 8. */
typedef void Product(float *C, int ldc, const uint32_t *A, int64_t lda, const uint32_t *B, int64_t ldb, int rows,
                     int words, int vectors, const float *keep);

typedef struct Attention {
    void *y;
    const void *q, *k, *v;
    int64_t y_stride, q_stride, k_stride, v_stride, Sq, Sk;
    const int32_t *kv_index;
    const float *bias;                      /* (heads, Sq, Sk), added to scaled scores; NULL: none */
    int heads, d, d_words, d_padded;        /* d_words: of a row of q and k; d_padded: columns of packed v */
    int row_words;                          /* d_words, for AMX those of whole steps */
    int64_t Sk_padded;
    int64_t k_columns, v_columns;           /* of a panel of packed k and v: all, but for AMX */
    const int32_t *at;                      /* of AMX's steps; NULL: another's product */
    DType type, word_type;                  /* word_type BF16: words hold two values */
    float scale;
    bool causal;
    bool in_words;                          /* rows of q and k are words as they lie in memory */
    Product *product;
} Attention;

/* One thread's memory. */
typedef struct Work {
    int64_t image, head;                    /* whose keys and values are packed; -1: none */
    uint32_t *K, *V;                        /* (row_words, Sk_padded)  (words of Sk_padded, d_padded), in panels */
    uint32_t *Q, *P;                        /* (QUERIES, row_words)  (QUERIES, KEYS) */
    float *S, *O;                           /* (QUERIES, KEYS)  (QUERIES, d_padded) */
    V sum[QUERIES];                         /* l, lane by lane */
    float top[QUERIES], keep[QUERIES];      /* m, exp(m - m') */
} Work;

/* ---- the product ---- */

ALWAYS_INLINE void product_block(float *C, int ldc, const float *A, int64_t lda, const float *B, int64_t ldb, int words,
                                 int rows, int vectors, const float *keep)
{
    V sum[8][4];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++)
            sum[r][j] = keep ? v_load(C + r*ldc + j*LANES, LANES)*keep[r] : (V){0};
    for (int w = 0; w < words; w++)
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < vectors; j++)
                sum[r][j] += A[r*lda + w]*v_load(B + w*ldb + j*LANES, LANES);
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++)
            v_store(C + r*ldc + j*LANES, sum[r][j], LANES);
}

/* Blocks of sums that fit the registers: of 32, 4 rows of 4 or 3, or 8 of 2 or 1; of 16, 4 rows of 3 or 2, or 8 of
 * 1. */
static void product_f32(float *C, int ldc, const uint32_t *A_words, int64_t lda, const uint32_t *B_words, int64_t ldb,
                        int rows, int words, int vectors, const float *keep)
{
    enum { ACROSS = REGISTERS == 32 ? 4 : 3, DOWN = REGISTERS == 32 ? 8 : 4 };
    const float *A = (const float *)A_words, *B = (const float *)B_words;
    for (int j = 0; j < vectors; j += ACROSS) {
        float *to = C + j*LANES;
        const float *from = B + j*LANES;
        if (ACROSS == 4 && vectors - j >= 4)
            for (int r = 0; r < rows; r += 4)
                product_block(to + r*ldc, ldc, A + r*lda, lda, from, ldb, words, 4, 4, keep ? keep + r : NULL);
        else if (vectors - j >= 3)
            for (int r = 0; r < rows; r += 4)
                product_block(to + r*ldc, ldc, A + r*lda, lda, from, ldb, words, 4, 3, keep ? keep + r : NULL);
        else if (vectors - j == 2)
            for (int r = 0; r < rows; r += DOWN)
                product_block(to + r*ldc, ldc, A + r*lda, lda, from, ldb, words, DOWN, 2, keep ? keep + r : NULL);
        else
            for (int r = 0; r < rows; r += 8)
                product_block(to + r*ldc, ldc, A + r*lda, lda, from, ldb, words, 8, 1, keep ? keep + r : NULL);
    }
}

#ifdef __AVX512BF16__
ALWAYS_INLINE void product_block_bf16(float *C, int ldc, const uint32_t *A, int64_t lda, const uint32_t *B, int64_t ldb,
                                      int words, int rows, int vectors, const float *keep)
{
    __m512 sum[8][4];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++)
            sum[r][j] = keep ? _mm512_mul_ps(_mm512_loadu_ps(C + r*ldc + j*LANES), _mm512_set1_ps(keep[r]))
                             : _mm512_setzero_ps();
    for (int w = 0; w < words; w++)
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < vectors; j++)
                sum[r][j] = _mm512_dpbf16_ps(sum[r][j], (__m512bh)_mm512_set1_epi32((int)A[r*lda + w]),
                                             (__m512bh)_mm512_loadu_si512(B + w*ldb + j*LANES));
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++)
            _mm512_storeu_ps(C + r*ldc + j*LANES, sum[r][j]);
}

static void product_bf16(float *C, int ldc, const uint32_t *A, int64_t lda, const uint32_t *B, int64_t ldb, int rows,
                         int words, int vectors, const float *keep)
{
    for (int j = 0; j < vectors; j += 4) {
        float *to = C + j*LANES;
        const uint32_t *from = B + j*LANES;
        if (vectors - j >= 4)
            for (int r = 0; r < rows; r += 4)
                product_block_bf16(to + r*ldc, ldc, A + r*lda, lda, from, ldb, words, 4, 4, keep ? keep + r : NULL);
        else if (vectors - j == 3)
            for (int r = 0; r < rows; r += 8)
                product_block_bf16(to + r*ldc, ldc, A + r*lda, lda, from, ldb, words, 8, 3, keep ? keep + r : NULL);
        else if (vectors - j == 2)
            for (int r = 0; r < rows; r += 8)
                product_block_bf16(to + r*ldc, ldc, A + r*lda, lda, from, ldb, words, 8, 2, keep ? keep + r : NULL);
        else
            for (int r = 0; r < rows; r += 8)
                product_block_bf16(to + r*ldc, ldc, A + r*lda, lda, from, ldb, words, 8, 1, keep ? keep + r : NULL);
    }
}
#else
static Product *const product_bf16;         /* there is none at this level */
#endif

/* The same by AMX, of `tiles` times 16 rows; panels of B begin panel_words apart. */
static void product_amx(const Attention *a, float *C, int ldc, const uint32_t *A, int64_t lda, const uint32_t *B,
                        int64_t panel_words, int tiles, int words, int columns, const float *keep)
{
    for (int r = 0; keep && r < tiles*AMX_ROWS; r++)
        for (int j = 0; keep[r] != 1 && j < columns; j += LANES)
            v_store(C + r*ldc + j, v_load(C + r*ldc + j, LANES)*keep[r], LANES);
    for (int j = 0; j < columns; j += AMX_COLUMNS, B += panel_words)
        amx_product(C + j, (size_t)ldc, A, tiles > 1 ? A + AMX_ROWS*lda : NULL, (size_t)lda*sizeof *A, a->at, B,
                    AMX_COLUMNS, keep ? C + j : NULL, keep ? (size_t)ldc : 0, words/AMX_STEP_WORDS, NULL, 0);
}

/* ---- packing ---- */

/* d values of one row as words, zeros to the end of the last word; widened where words are f32. */
ALWAYS_INLINE void row_words(const Attention *a, uint32_t *words, const void *row)
{
    if (a->type == a->word_type) {
        for (int w = a->d_words - 1; w < a->row_words; w++)
            words[w] = 0;
        memcpy(words, row, (size_t)a->d*dtype_size(a->type));
    } else {
        for (int i = 0; i < a->d; i++)
            words[i] = (uint32_t)((const uint16_t *)row)[i] << 16;
    }
}

/* Rows of r become columns: 8 x 8 blocks change places, then 4 x 4, 2 x 2, 1 x 1 inside them. */
ALWAYS_INLINE void transpose(VInt r[LANES])
{
    for (int s = LANES/2; s; s /= 2) {
        VInt low, high;
        for (int l = 0; l < LANES; l++) {
            low[l] = l & s ? LANES + l - s : l;
            high[l] = l & s ? LANES + l : l + s;
        }
        for (int i = 0; i < LANES; i++)
            if (!(i & s)) {
                const VInt a = r[i], b = r[i + s];
                r[i] = __builtin_shuffle(a, b, low);
                r[i + s] = __builtin_shuffle(a, b, high);
            }
    }
}

/* K[w, j] = word w of key j. Blocks of 16 words are turned in registers; the last one begins early enough to be
 * whole. */
ALWAYS_INLINE void pack_keys(const Attention *a, Work *work, const char *k)
{
    const size_t stride = (size_t)a->k_stride*dtype_size(a->type);
    const int64_t columns = a->k_columns;
    for (int64_t j = 0; j < a->Sk_padded; j += LANES) {
        uint32_t *to = work->K + j/columns*columns*a->row_words + j % columns;
        if (a->in_words && a->d_words >= LANES) {
            for (int next = 0; next < a->d_words; next += LANES) {
                const int w = next + LANES <= a->d_words ? next : a->d_words - LANES;
                VInt block[LANES];
                for (int l = 0; l < LANES; l++) {
                    block[l] = (VInt){0};
                    if (j + l < a->Sk)
                        memcpy(&block[l], k + (size_t)(j + l)*stride + (size_t)w*sizeof(uint32_t), sizeof(VInt));
                }
                transpose(block);
                for (int i = 0; i < LANES; i++)
                    memcpy(to + (w + i)*columns, &block[i], sizeof(VInt));
            }
            continue;
        }
        for (int l = 0; l < LANES; l++) {
            const bool there = j + l < a->Sk;
            if (there)
                row_words(a, work->Q, k + (size_t)(j + l)*stride);      /* no queries lie there yet */
            for (int w = 0; w < a->d_words; w++)
                to[w*columns + l] = there ? work->Q[w] : 0;
        }
    }
}

/* V[j, i] = value i of key j; or of keys 2j and 2j+1, in the lower and upper half of a word. */
ALWAYS_INLINE void pack_values(const Attention *a, Work *work, const char *v)
{
    const size_t stride = (size_t)a->v_stride*dtype_size(a->type);
    const int per_word = a->word_type == BF16 ? 2 : 1;
    const int64_t columns = a->v_columns, words_all = a->Sk_padded/per_word;
    for (int64_t j = 0; j < a->Sk_padded; j += per_word) {
        const char *first = v + (size_t)j*stride;
        for (int i = 0; i < a->d; i += LANES) {
            const int w = a->d - i < LANES ? a->d - i : LANES;
            V value = j < a->Sk ? v_load_as(first, a->type, i, w) : (V){0};
            const V next = per_word == 2 && j + 1 < a->Sk ? v_load_as(first + stride, a->type, i, w) : (V){0};
            if (per_word == 2)
                value = (V)((VBits)value >> 16 | (VBits)next);
            v_store((float *)work->V + i/columns*columns*words_all + j/per_word*columns + i % columns, value, LANES);
        }
    }
}

/* ---- softmax of one row over one tile of keys: P = exp(S scale - m'), and what it does to m and l ---- */

#ifdef __AVX512BF16__
/* 2^x = 2^n p(f), x = n + f, |f| <= 1/2, p of degree 3 by reweighted least squares: off by 7.5e-5 of it, a fiftieth of
 * a step of bf16. 0 below 2^-126. A NaN stays one. */
ALWAYS_INLINE V exp2_rough(V x)
{
    const V n = (V)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = x - n;
    V p = f*5.517162768e-02f + 2.426111432e-01f;
    p = p*f + 6.932609952e-01f;
    p = p*f + 9.999280725e-01f;
    return (V)_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-126), _CMP_NLT_UQ), (__m512)p,
                                     (__m512)n);
}

/* P (bf16) = exp(s scale - top) of the first `visible` of `keys` scores, 0 of the others, in whole pairs of vectors;
 * returns sum + all of them, lane by lane. */
ALWAYS_INLINE V exp_pairs(uint16_t *P, const float *s, float scale, float top, V sum, int visible, int keys)
{
    const float log2e = 1.44269504089f;
    for (int j = 0; j < keys; j += 2*LANES) {
        V low = {0}, high = {0};
        if (j < visible)
            low = exp2_rough(v_load(s + j, LANES)*(scale*log2e) - top*log2e);
        if (j + LANES < visible)
            high = exp2_rough(v_load(s + j + LANES, LANES)*(scale*log2e) - top*log2e);
        sum += low;
        sum += high;
        const __m512bh both = _mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
        memcpy(P + j, &both, sizeof both);
    }
    return sum;
}
#else
static V exp_pairs(uint16_t *P, const float *s, float scale, float top, V sum, int visible, int keys)
{
    (void)P, (void)s, (void)scale, (void)top, (void)visible, (void)keys;
    return sum;
}
#endif

/* s = s scale + bias */
ALWAYS_INLINE void add_bias(float *s, float scale, const float *bias, int visible)
{
    for (int j = 0; j < visible; j += LANES) {
        const int w = visible - j < LANES ? visible - j : LANES;
        const V score = v_load(s + j, w), more = v_load(bias + j, w);
        v_store(s + j, score*scale + more, w);
    }
}

/* bias: of this row and these keys, or NULL. */
ALWAYS_INLINE void softmax_row(const Attention *a, Work *work, DType word_type, const float *bias, int r, int visible,
                               int keys)
{
    float *s = work->S + r*KEYS;
    const float scale = bias ? 1 : a->scale;
    if (bias)
        add_bias(s, a->scale, bias, visible);
    const int whole = visible/LANES*LANES;
    V top = v_splat(-INFINITY);
    for (int j = 0; j < whole; j += LANES)
        top = v_max(top, v_load(s + j, LANES));
    if (whole < visible) {
        const V all = v_load(s + whole, LANES);
        V last;
        EACH_LANE(l)
            last[l] = l < visible - whole ? all[l] : -INFINITY;
        v_store(s + whole, last, LANES);
        top = v_max(top, last);
    }
    const float before = work->top[r], found = v_top(top)*scale, now = found > before ? found : before;
    const float keep = now == before ? 1 : before == -INFINITY ? 0 : v_exp(v_splat(before - now))[0];
    work->keep[r] = keep;
    work->top[r] = now;

    V sum = work->sum[r]*keep;
    if (word_type == BF16) {
        work->sum[r] = exp_pairs((uint16_t *)work->P + r*KEYS, s, scale, now, sum, visible, keys);
        return;
    }
    for (int j = 0; j < keys; j += LANES) {
        const V p = j < visible ? v_exp_below(v_load(s + j, LANES)*scale - now) : (V){0};
        sum += p;
        v_store((float *)work->P + r*KEYS + j, p, LANES);
    }
    work->sum[r] = sum;
}

ALWAYS_INLINE void attend_tile(const Attention *a, Work *work, const uint32_t *Q, int64_t q_words, int64_t first,
                               int rows)
{
    const int per_word = a->word_type == BF16 ? 2 : 1, padded = (int)round_up(rows, a->at ? AMX_ROWS : 8);
    const int64_t seen = a->causal && first + rows < a->Sk ? first + rows : a->Sk;
    for (int r = 0; r < padded; r++) {
        work->top[r] = -INFINITY;
        work->sum[r] = (V){0};
    }
    for (int64_t j = 0; j < seen; j += KEYS) {
        const int keys = a->Sk_padded - j < KEYS ? (int)(a->Sk_padded - j) : KEYS;
        if (a->at)
            product_amx(a, work->S, KEYS, Q, q_words, work->K + j*a->row_words, (int64_t)AMX_COLUMNS*a->row_words,
                        padded/AMX_ROWS, a->row_words, keys, NULL);
        else
            a->product(work->S, KEYS, Q, q_words, work->K + j, a->Sk_padded, padded, a->d_words, keys/LANES, NULL);
        for (int r = 0; r < rows; r++) {
            const int64_t last = (a->causal && first + r + 1 < a->Sk ? first + r + 1 : a->Sk) - j;
            const int visible = last < 0 ? 0 : last < keys ? (int)last : keys;
            const float *bias = a->bias ? a->bias + (work->head*a->Sq + first + r)*a->Sk + j : NULL;
            if (a->word_type == BF16)
                softmax_row(a, work, BF16, bias, r, visible, keys);
            else
                softmax_row(a, work, F32, bias, r, visible, keys);
        }
        const float *keep = j ? work->keep : NULL;
        if (a->at)
            product_amx(a, work->O, a->d_padded, work->P, KEYS/2, work->V + j/2*AMX_COLUMNS, a->Sk_padded/2*AMX_COLUMNS,
                        padded/AMX_ROWS, keys/2, a->d_padded, keep);
        else
            a->product(work->O, a->d_padded, work->P, KEYS/per_word, work->V + j/per_word*a->d_padded, a->d_padded,
                       padded, keys/per_word, a->d_padded/LANES, keep);
    }
}

/* Queries [from, to) of head h of image b. Keys and values stay packed for the next call, which often wants the
 * same. */
static void attend(const Attention *a, Work *work, int64_t b, int h, int64_t from, int64_t to)
{
    const size_t size = dtype_size(a->type);
    const int64_t image = a->kv_index ? a->kv_index[b] : b;
    if (work->image != image || work->head != h) {
        pack_keys(a, work, (const char *)a->k + size*(size_t)(image*a->Sk*a->k_stride + (int64_t)h*a->d));
        pack_values(a, work, (const char *)a->v + size*(size_t)(image*a->Sk*a->v_stride + (int64_t)h*a->d));
        work->image = image;
        work->head = h;
    }
    const int whole = a->at ? AMX_ROWS : 8;
    if (a->at)
        amx_begin();
    for (int64_t first = from; first < to; first += QUERIES) {
        const int rows = to - first < QUERIES ? (int)(to - first) : QUERIES;
        const char *q = (const char *)a->q + size*(size_t)((b*a->Sq + first)*a->q_stride + (int64_t)h*a->d);
        if (a->in_words && a->row_words == a->d_words && rows % whole == 0) {
            attend_tile(a, work, (const uint32_t *)q, a->q_stride*(int64_t)size/4, first, rows);
        } else {
            for (int r = 0; r < rows; r++)
                row_words(a, work->Q + r*a->row_words, q + (size_t)r*(size_t)a->q_stride*size);
            memset(work->Q + rows*a->row_words, 0,
                   sizeof(uint32_t)*(size_t)((round_up(rows, whole) - rows)*a->row_words));
            attend_tile(a, work, work->Q, a->row_words, first, rows);
        }
        for (int r = 0; r < rows; r++) {
            const float over = 1/v_sum(work->sum[r]);
            const int64_t at = (b*a->Sq + first + r)*a->y_stride + (int64_t)h*a->d;
            for (int i = 0; i < a->d; i += LANES)
                v_store_as(a->y, a->type, at + i, v_load(work->O + r*a->d_padded + i, LANES)*over,
                           a->d - i < LANES ? a->d - i : LANES);
        }
    }
    if (a->at)
        amx_end();
}

/* a: all that the op's caller says; the rest is filled in here. */
static void attention(Attention a, int64_t B)
{
    const bool pairs = a.type == BF16 && cpu_level >= CPU_AVX512_BF16, amx = pairs && cpu_level >= CPU_AMX;
    a.d_words = pairs ? (a.d + 1)/2 : a.d;
    a.row_words = amx ? (int)round_up(a.d_words, AMX_STEP_WORDS) : a.d_words;
    a.d_padded = (int)round_up(a.d, amx ? AMX_COLUMNS : LANES);
    a.Sk_padded = round_up(a.Sk, amx ? AMX_COLUMNS : LANES);
    a.k_columns = amx ? AMX_COLUMNS : a.Sk_padded;
    a.v_columns = amx ? AMX_COLUMNS : a.d_padded;
    a.word_type = pairs ? BF16 : F32;
    a.in_words = a.type == F32 || (pairs && (a.d | a.q_stride | a.k_stride)%2 == 0
                                   && ((uintptr_t)a.q | (uintptr_t)a.k)%sizeof(uint32_t) == 0);
    a.product = pairs ? product_bf16 : product_f32;
    const int threads = omp_get_max_threads();
    int64_t runs = 1;           /* a head's queries are cut only when there are too few heads to share evenly */
    while (B*a.heads*runs < 4*threads && a.Sq/runs >= 8*QUERIES)
        runs *= 2;
    const int64_t run = round_up((a.Sq + runs - 1)/runs, QUERIES);

    const size_t K = (size_t)(a.row_words*a.Sk_padded), V_ = (size_t)(a.Sk_padded*a.d_padded);
    const size_t Q = (size_t)round_up(QUERIES*a.row_words, LANES), P = QUERIES*KEYS, O = (size_t)(QUERIES*a.d_padded);
    const size_t each = (size_t)round_up((int64_t)(sizeof(Work) + sizeof(float)*(K + V_ + Q + 2*P + O)), 64);
    const int steps = a.row_words > KEYS/2 ? a.row_words/AMX_STEP_WORDS : KEYS/2/AMX_STEP_WORDS;
    const size_t at = amx ? (size_t)round_up(steps*(int64_t)sizeof(int32_t), 64) : 0;
    char *scratch = (char *)cpu_scratch(at + each*(size_t)threads) + at;
    for (int s = 0; amx && s < steps; s++)
        ((int32_t *)(scratch - at))[s] = s*AMX_STEP_WORDS*(int)sizeof(uint32_t);
    a.at = amx ? (const int32_t *)(scratch - at) : NULL;

#pragma omp parallel if (B*a.heads*a.Sq*a.Sk*a.d >= 4*CPU_PARALLEL)
    {
        Work *work = (Work *)(scratch + each*(size_t)omp_get_thread_num());
        work->image = work->head = -1;
        work->K = (uint32_t *)(work + 1);
        work->V = work->K + K;
        work->Q = work->V + V_;
        work->P = work->Q + Q;
        work->S = (float *)(work->P + P);
        work->O = work->S + P;
        if (a.row_words > a.d_words || a.d_padded > round_up(a.d, LANES))
            memset(work->K, 0, (K + V_)*sizeof *work->K);           /* what no packing writes */
#pragma omp for collapse(3)
        for (int h = 0; h < a.heads; h++)
            for (int64_t b = 0; b < B; b++)
                for (int64_t i = 0; i < runs; i++)
                    attend(&a, work, b, h, least(i*run, a.Sq), least((i + 1)*run, a.Sq));
    }
}

void cpu_attention(void *y, int64_t y_stride, const void *q, int64_t q_stride, const void *k, int64_t k_stride,
                   const void *v, int64_t v_stride, DType type, int64_t B, int heads, int head_dim, int64_t Sq,
                   int64_t Sk, const int32_t *kv_index, float scale, bool causal)
{
    attention((Attention){.y = y, .q = q, .k = k, .v = v, .y_stride = y_stride, .q_stride = q_stride,
                          .k_stride = k_stride, .v_stride = v_stride, .Sq = Sq, .Sk = Sk, .kv_index = kv_index,
                          .heads = heads, .d = head_dim, .type = type, .scale = scale, .causal = causal}, B);
}

void cpu_attention_biased(void *y, int64_t y_stride, const void *q, int64_t q_stride, const void *k, int64_t k_stride,
                          const void *v, int64_t v_stride, DType type, int64_t B, int heads, int head_dim, int64_t Sq,
                          int64_t Sk, const float *bias, float scale)
{
    attention((Attention){.y = y, .q = q, .k = k, .v = v, .y_stride = y_stride, .q_stride = q_stride,
                          .k_stride = k_stride, .v_stride = v_stride, .Sq = Sq, .Sk = Sk, .bias = bias,
                          .heads = heads, .d = head_dim, .type = type, .scale = scale}, B);
}
