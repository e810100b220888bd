/* SPDX-License-Identifier: MIT */
/* op_sae.c -- the autoencoder's ops, but for updates (op_sae_update.c): a case by hand, plain loops in double, same
 * bytes for any number of rows, threads and instruction set.
 *
 * Tolerance: sums of at most a few hundred products of order 1, in f32. */
#include <float.h>
#include "tests/unit/op_test.h"

static int by_hand(void)
{
    /* x - b_dec = (1, 2), features (1,0) (0,1) (-1,0) (0,2): h = (1, 2, -1, 4) */
    const float W[] = {1, 0, 0, 1, -1, 0, 0, 2}, zero[4] = {0}, b_dec[] = {2, 1}, x[] = {3, 3};
    SaeEncoder *enc = op_encoder(op, 2, 4, F32, W, zero, b_dec);
    float a[4], y[2];
    int32_t i[4];
    op->sae.encode(enc, a, i, x, 1, 4);
    int failed = test_same("sae/hand values, below 0 is 0", a, (float[]){4, 2, 1, 0}, sizeof a);
    failed += test_same("sae/hand features", i, (int32_t[]){3, 1, 0, 2}, sizeof i);
    op->sae.encoder_pack(enc, W, zero, b_dec, (int32_t[]){2, 0, 1}, 3);
    op->sae.encode(enc, a, i, x, 1, 2);
    failed += test_same("sae/hand features of a subset", i, (int32_t[]){1, 0}, sizeof(int32_t[2]));
    op->sae.encoder_free(enc);

    const float W_dec[] = {1, 0, 0, 1, 0.6f, 0.8f};
    const int32_t two[] = {2, 0};
    op->sae.decode(y, (float[]){5, 2}, two, W_dec, (float[]){1, 1}, 1, 2, 2);
    failed += test_close("sae/hand decode", y, (float[]){6, 5}, 2, 1e-6f, 0);
    SaeTurns turns = {.turn = (SaeTurn[]){{2, 0, 4, -1, 0}, {0, 0, 4, -1, 0}, {1, 1, 0, 0, 7}},
                      .place = (int32_t[]){1, 2, 0}, .count = 3, .sets = 1};
    op->sae.steer(y, (float[]){1, 2}, (float[]){5, 2}, two, &turns, W_dec, 1, 2, 2);
    failed += test_close("sae/hand steer: (1, 2) + (-5 - 5)(0.6, 0.8)", y, (float[]){-5, -6}, 2, 1e-6f, 0);
    turns.share = (float[]){0, 0.5f};
    turns.shares = 2;
    turns.first = 1;
    op->sae.steer(y, (float[]){1, 2}, (float[]){5, 2}, two, &turns, W_dec, 1, 2, 2);
    failed += test_close("sae/hand steer, half of it", y, (float[]){-2, -2}, 2, 1e-6f, 0);
    turns.share = NULL;
    turns.turn = (SaeTurn[]){{2, 0, 9, -1, 0}, {0, 0, 9, -1, 0}, {1, 0, -1, 1, 7}};
    const float odd[] = {-0.0f, 1e-40f};
    op->sae.steer(y, odd, (float[]){5, 2}, two, &turns, W_dec, 1, 2, 2);
    failed += test_same("sae/steer without a change is bit for bit", y, odd, sizeof odd);
    turns.all = true;
    op->sae.steer(y, (float[]){1, 2}, (float[]){5, 2}, two, &turns, W_dec, 1, 2, 2);
    failed += test_close("sae/hand steer of a feature that is not kept: (1, 2) + 7(0, 1)", y, (float[]){1, 9}, 2, 1e-6f,
                         0);
    return failed;
}

/* 80 features along the axes, each turned to 7 in every row: 70, beyond the first 64, is kept and so gets the rest. */
static int steer_many_by_hand(void)
{
    enum { MANY = 80, KEPT = 70 };
    static float W_dec[MANY*MANY];
    float x[MANY], y[MANY], want[MANY];
    SaeTurn turn[MANY];
    int32_t place[MANY];
    for (int f = 0; f < MANY; f++) {
        W_dec[f*MANY + f] = 1;
        turn[f] = (SaeTurn){f, 0, -INFINITY, 0, 7};
        place[f] = f;
        x[f] = (float)f;
        want[f] = (float)f + (f == KEPT ? 7 - 5 : 7);
    }
    const SaeTurns turns = {.turn = turn, .place = place, .count = MANY, .sets = 1, .all = true};
    op->sae.steer(y, x, (float[]){5}, (int32_t[]){KEPT}, &turns, W_dec, 1, MANY, 1);
    return test_close("sae/hand steer of 80 features, 70 is kept", y, want, MANY, 1e-6f, 0);
}

/* Two rows of three ranks' lists: 4 are kept of (5 3 3 | 4 3 | 3 2 0), which ties decide, and of
 * (1 0 0 | 9 8 | 7 6 5). */
static int of_all_by_hand(void)
{
    static const float all[3][6] = {{5, 3, 3, 1, 0, 0}, {4, 3, 9, 8}, {3, 2, 0, 7, 6, 5}};
    static const float want[3][6] = {{5, 3, 3, 0, 0, 0}, {4, 0, 9, 8}, {0, 0, 0, 7, 6, 0}};
    static const int K[] = {3, 2, 3};
    int failed = 0;
    for (int r = 0; r < 3; r++) {
        float a[6];
        memcpy(a, all[r], sizeof a);
        op->sae.keep_of_all(a, all[0], 6, K, r, 3, 2, 4);
        failed += test_same("sae/largest of all ranks' lists", a, want[r], sizeof(float)*2*(size_t)K[r]);
    }
    return failed;
}

/* The K largest by sorting places: value, then place. */
static const float *sorted_row;
static int by_value(const void *a, const void *b)
{
    const int i = *(const int *)a, j = *(const int *)b;
    return sorted_row[i] != sorted_row[j] ? (sorted_row[i] < sorted_row[j] ? 1 : -1) : i - j;
}

/* With W the identity h is x, so any row can be given to topk. kind: 0 random, 1 of few values (ties), 2 all equal,
 * 3 nearly all below 0, 4 rising */
static int topk(int F, int K, int kind)
{
    enum { N = 17 };
    char name[160];
    float *x = op_values((size_t)N*F, 7), *W = op_space(sizeof(float)*(size_t)F*F), *zero = op_space(sizeof(float)*F);
    float *a = op_space(sizeof(float)*N*K), *want = op_space(sizeof(float)*N*K);
    int32_t *i = op_space(sizeof(int32_t)*N*K), *want_i = op_space(sizeof(int32_t)*N*K);
    int *place = op_space(sizeof(int)*F);
    for (int f = 0; f < F; f++)
        W[(size_t)f*F + f] = 1;
    for (int j = 0; j < N*F; j++)
        x[j] = kind == 0 ? x[j] : kind == 1 ? roundf(x[j]*4) : kind == 2 ? 0.5f : kind == 3 ? x[j] - 0.999f
            : (float)(j % F);
    for (int n = 0; n < N; n++) {
        for (int f = 0; f < F; f++)
            place[f] = f;
        sorted_row = x + (size_t)n*F;
        qsort(place, (size_t)F, sizeof *place, by_value);
        for (int j = 0; j < K; j++) {
            want_i[n*K + j] = place[j];
            want[n*K + j] = fmaxf(sorted_row[place[j]], 0);
        }
    }
    SaeEncoder *enc = op_encoder(op, F, F, F32, W, zero, zero);
    op->sae.encode(enc, a, i, x, N, K);
    int failed = test_same(op_name(name, "topk/values F %d K %d kind %d", F, K, kind), a, want, sizeof(float)*N*K);
    failed += test_same(op_name(name, "topk/features F %d K %d kind %d", F, K, kind), i, want_i, sizeof(int32_t)*N*K);
    op->sae.encoder_free(enc);
    free(x); free(W); free(zero); free(a); free(want); free(i); free(want_i); free(place);
    return failed;
}

/* what is not a number is not chosen before one, and nothing is read or written out of bounds */
static int odd_rows(void)
{
    enum { F = 40, K = 30 };
    float W[F] = {0}, b[F], zero = 0, x = 0, a[K];
    int32_t i[K];
    int inside = 1, numbers = 1;
    for (int f = 0; f < F; f++)
        b[f] = f % 2 ? NAN : f == 4 ? -INFINITY : (float)f;
    SaeEncoder *enc = op_encoder(op, 1, F, F32, W, b, &zero);
    op->sae.encode(enc, a, i, &x, 1, K);
    for (int j = 0; j < K; j++) {
        inside &= i[j] >= 0 && i[j] < F;
        numbers &= j >= 19 || i[j] == 38 - 2*(j + (j > 16));
    }
    op->sae.encoder_free(enc);
    return test_ok("topk/NaN: features in range", inside) + test_ok("topk/NaN: numbers first", numbers);
}

static int encode_random(int D, int F, int K, DType type)
{
    enum { N = 150 };
    char name[160];
    float *x = op_values((size_t)N*D, 1), *W = op_values((size_t)F*D, 2), *b = op_values((size_t)F, 3),
        *b_dec = op_values((size_t)D, 4);
    float *a = op_space(sizeof(float)*N*K), *again = op_space(sizeof(float)*N*K), *want = op_space(sizeof(float)*N*K);
    int32_t *i = op_space(sizeof(int32_t)*N*K), *again_i = op_space(sizeof(int32_t)*N*K);
    SaeEncoder *enc = op_encoder(op, D, F, type, W, b, b_dec);
    op->sae.encode(enc, a, i, x, N, K);
    int falling = 1;
    for (int n = 0; n < N; n++)
        for (int j = 0; j < K; j++) {
            double h = b[i[n*K + j]];
            for (int d = 0; d < D; d++) {
                float xc = x[n*D + d] - b_dec[d], w = W[(size_t)i[n*K + j]*D + d];
                if (type == BF16) {
                    uint16_t half[2];
                    dtype_from_f32(half, BF16, (float[]){xc, w}, 2);
                    dtype_to_f32(&xc, half, BF16, 1);
                    dtype_to_f32(&w, half + 1, BF16, 1);
                }
                h += (double)xc*w;
            }
            want[n*K + j] = fmaxf((float)h, 0);
            falling &= j == 0 || a[n*K + j] <= a[n*K + j - 1];
        }
    int failed = test_close(op_name(name, "encode/%s D %d F %d K %d", dtype_name(type), D, F, K), a, want, (size_t)N*K,
                            2e-5f, 1e-5f);
    failed += test_ok("encode/largest first", falling);

    const CpuLevel level = cpu_level;
    const int threads = omp_get_max_threads();
    omp_set_num_threads(3);
    for (int n = 0, step = 1; n < N; n += step, step = step*2 + 1)          /* 1, 3, 7, ... rows at a time */
        op->sae.encode(enc, again + n*K, again_i + n*K, x + (size_t)n*D, N - n < step ? N - n : step, K);
    failed += test_same("encode/any rows and threads: values", again, a, sizeof(float)*N*K);
    failed += test_same("encode/any rows and threads: features", again_i, i, sizeof(int32_t)*N*K);
    op->sae.encoder_free(enc);
    if (type == F32 && level >= CPU_AVX512) {       /* one chain of multiply-adds on either */
        cpu_choose(CPU_AVX2, false);
        enc = op_encoder(op, D, F, type, W, b, b_dec);
        op->sae.encode(enc, again, again_i, x, N, K);
        failed += test_same("encode/AVX2 is AVX-512", again, a, sizeof(float)*N*K);
        op->sae.encoder_free(enc);
    }
    cpu_choose(CPU_ANY, false);
    enc = op_encoder(op, D, F, type, W, b, b_dec);
    op->sae.encode(enc, again, again_i, x, N, K);
    failed += test_close("encode/plain x86-64", again, a, (size_t)N*K, 4e-5f, 1e-5f);
    op->sae.encoder_free(enc);
    cpu_choose(level, false);
    omp_set_num_threads(threads);
    free(x); free(W); free(b); free(b_dec); free(a); free(again); free(want); free(i); free(again_i);
    return failed;
}

/* What was added to a row is no longer than its bound, and for some row nearly as long. */
static int within_bound(const float *after, const float *before, const float *bound, int F, int D)
{
    double nearest = 0;
    for (int f = 0; f < F; f++) {
        double square = 0;
        for (int d = 0; d < D; d++)
            square += pow((double)after[f*D + d] - before[f*D + d], 2);
        if (sqrt(square) > bound[f]*1.00001 + 1e-6)
            return 0;
        nearest = fmax(nearest, bound[f] > 0 ? sqrt(square)/bound[f] : 0);
    }
    return nearest > 0.1;
}

static int lists(void)
{
    float a[] = {5, 3, 1, 2, 3, 0}, b[6];               /* two rows of three */
    const int32_t i[] = {0, 1, 2, 1, 2, 0};
    op->sae.head(b, a, 2, 3, 1);
    int failed = test_same("lists/head", b, (float[]){5, 0, 0, 2, 0, 0}, sizeof b);
    op->sae.select(b, a, i, 1, 2, 6);
    failed += test_same("lists/select", b, (float[]){0, 3, 0, 2, 0, 0}, sizeof b);
    double got[2];
    op->sae.full_rows(got, a, 2, 3);
    failed += test_ok("lists/full rows", got[0] == 1);
    memcpy(b, a, sizeof b);
    op->sae.keep_largest(got, b, 6, 2, 1);
    failed += test_ok("lists/largest, ties to the first", got[0] == 3);
    failed += test_same("lists/largest", b, (float[]){5, 3, 0, 0, 0, 0}, sizeof b);
    memcpy(b, a, sizeof b);
    op->sae.keep_largest(got, b, 6, 9, 1);
    failed += test_ok("lists/more than there are", got[0] == 1);
    failed += test_same("lists/all stay", b, a, sizeof b);
    op->sae.keep_largest(got, b, 3, 1, 2);
    failed += test_ok("lists/two groups", got[0] == 5 && got[1] == 3);
    failed += test_same("lists/largest of each", b, (float[]){5, 0, 0, 0, 3, 0}, sizeof b);
    const float threshold[] = {1, 2, 3}, scale[] = {2, 1, 0.5f}, offset[] = {0, -9, 1};
    memcpy(b, a, sizeof b);
    op->sae.gate(b, i, threshold, NULL, NULL, 6);
    failed += test_same("lists/threshold comes back, 0 stays", b, (float[]){6, 5, 4, 4, 6, 0}, sizeof b);
    memcpy(b, a, sizeof b);
    op->sae.gate(b, i, NULL, scale, offset, 6);
    failed += test_same("lists/magnitude, at least 0", b, (float[]){10, 0, 1.5f, 0, 2.5f, 0}, sizeof b);
    return failed;
}

static int gradients(int N, int D, int F, int K)
{
    float *x = op_values((size_t)N*D, 1), *g = op_values((size_t)N*D, 2), *W = op_values((size_t)F*D, 3),
        *a = op_values((size_t)N*K, 4);
    float *g_a = op_space(sizeof(float)*N*K), *want_g = op_space(sizeof(float)*N*K);
    float *dec = op_values((size_t)F*D, 5), *enc = op_values((size_t)F*D, 6), *b = op_values((size_t)F, 7);
    float *want_dec = op_space(sizeof(float)*F*D), *want_enc = op_space(sizeof(float)*F*D),
        *want_b = op_space(sizeof(float)*F);
    int32_t *i = op_space(sizeof(int32_t)*N*K), *start = op_space(sizeof(int32_t)*(F + 1)),
        *order = op_space(sizeof(int32_t)*N*K);
    int32_t *count = op_space(sizeof(int32_t)*F), *want_count = op_space(sizeof(int32_t)*F);
    memcpy(want_dec, dec, sizeof(float)*F*D);
    memcpy(want_enc, enc, sizeof(float)*F*D);
    memcpy(want_b, b, sizeof(float)*F);
    for (int e = 0; e < N*K; e++) {
        i[e] = (int32_t)((uint32_t)e*2654435761u % (uint32_t)(F/2));
        a[e] = a[e] > 0 ? a[e] : 0;
        want_count[i[e]] += a[e] > 0;
    }
    for (int n = 0; n < N; n++)
        for (int j = 0; j < K; j++) {
            double dot = 0;
            for (int d = 0; d < D && a[n*K + j] > 0; d++)
                dot += (double)g[n*D + d]*W[i[n*K + j]*D + d];
            want_g[n*K + j] = (float)dot;
            want_b[i[n*K + j]] += 0.5f*(float)dot;
            for (int d = 0; d < D; d++) {
                want_dec[i[n*K + j]*D + d] += 0.5f*a[n*K + j]*g[n*D + d];
                want_enc[i[n*K + j]*D + d] += 0.5f*(float)dot*x[n*D + d];
            }
        }
    op->sae.code_grad(g_a, g, a, i, W, N, D, K);
    op->sae.invert(start, order, i, N, F, K);
    const CodePart part = {a, g_a, g, start, order, 0.5f, K, 0, F};
    float *x_length = op_space(sizeof(float)*N), *g_length = op_space(sizeof(float)*N);
    float *bound = op_space(sizeof(float)*F), *bound_enc = op_space(sizeof(float)*F);
    float *before = op_space(sizeof(float)*F*D);
    memcpy(before, dec, sizeof(float)*F*D);
    op->sae.row_lengths(x_length, x, N, D);
    op->sae.row_lengths(g_length, g, N, D);
    op->sae.code_sums(b, bound, bound_enc, &part, g_length, x_length);
    op->sae.row_grads(dec, enc, &part, x, D);
    op->sae.count(count, a, i, N, K);
    int failed = test_close("grad/codes", g_a, want_g, (size_t)N*K, 1e-5f, 1e-5f)
                 + test_close("grad/W_dec", dec, want_dec, (size_t)F*D, 1e-4f, 1e-5f)
                 + test_close("grad/W_enc", enc, want_enc, (size_t)F*D, 1e-4f, 1e-5f)
                 + test_close("grad/b_enc", b, want_b, (size_t)F, 1e-4f, 1e-5f)
                 + test_same("grad/count", count, want_count, sizeof(int32_t)*F)
                 + test_ok("grad/bound", within_bound(dec, before, bound, F, D));
    free(x_length); free(g_length); free(bound); free(bound_enc); free(before);
    free(x); free(g); free(W); free(a); free(g_a); free(want_g); free(dec);
    free(enc); free(b); free(want_dec); free(want_enc); free(want_b);
    free(i); free(start); free(order); free(count); free(want_count);
    return failed;
}

static int sums(int64_t N, int D)
{
    float *x = op_values((size_t)(N*D), 1), *y = op_values((size_t)(N*D), 2), *g = op_space(sizeof(float)*N*D),
        *w = op_values((size_t)N, 3);
    float *mean = op_space(sizeof(float)*D), *column = op_space(sizeof(float)*D), *want = op_space(sizeof(float)*D);
    double spread = 0, square = 0;
    for (int d = 0; d < D; d++) {
        double sum = 0, weighted = 0;
        for (int64_t n = 0; n < N; n++) {
            sum += (double)x[n*D + d];
            weighted += (double)w[n]*x[n*D + d];
        }
        for (int64_t n = 0; n < N; n++) {
            spread += pow(x[n*D + d] - sum/(double)N, 2);
            square += pow((double)y[n*D + d] - x[n*D + d], 2);
        }
        mean[d] = (float)(sum/(double)N);
        want[d] = (float)(-2*weighted);
    }
    float *got = op_space(sizeof(float)*D);
    double s, q, again[2];
    op->sae.moments(got, &s, x, N, D);
    op->sae.difference(g, &q, y, x, N*D);
    op->sae.column_sum(column, -2, w, x, N, D);
    int failed = test_close("sums/mean", got, mean, (size_t)D, 1e-6f, 1e-5f)
                 + test_close("sums/weighted columns", column, want, (size_t)D, 1e-4f, 1e-5f)
                 + test_ok("sums/spread", fabs(s - spread) <= 1e-5*spread)
                 + test_ok("sums/difference", fabs(q - square) <= 1e-5*square);
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    op->sae.moments(got, &again[0], x, N, D);
    op->sae.difference(g, &again[1], y, x, N*D);
    failed += test_ok("sums/one thread, same double", again[0] == s && again[1] == q);
    omp_set_num_threads(threads);
    free(x); free(y); free(g); free(w); free(mean); free(column); free(want); free(got);
    return failed;
}

int main(void)
{
    Err e = {0};
    if (backend_pick("cpu", 2, &e))
        return test_ok(e.text, 0);
    int failed = by_hand() + steer_many_by_hand() + of_all_by_hand() + odd_rows() + sums(1, 5) + sums(1000, 130)
        + gradients(50, 128, 40, 8) + gradients(33, 21, 24, 5) + lists();
    static const int sizes[][2] = {{2048, 16}, {2048, 1}, {2048, 32}, {33, 7}, {64, 64}, {96, 5}, {700, 300},
                                   {1000, 129}};
    for (int s = 0; s < 8; s++)
        for (int kind = 0; kind < 5; kind++)
            failed += topk(sizes[s][0], sizes[s][1], kind);
    for (int t = 0; t < 2; t++) {
        const DType type = t ? BF16 : F32;
        failed += encode_random(128, 2048, 16, type) + encode_random(37, 75, 5, type)
            + encode_random(320, 640, 32, type);
    }
    return failed != 0;
}
