/* SPDX-License-Identifier: MIT */
/* op_sae_encode_device.h -- a device's encoder against the CPU's: which features are chosen, and their values.
 *
 * op_sae_encode_cuda.c runs it on a GPU, op_sae_encode_simt.c on the same kernels played on the host; there `large` is
 * false.
 *
 * The choice is compared byte for byte: on small whole numbers every sum of products is exact, in f32 and in bf16, and
 * ties are many. Elsewhere: f32 sums of D products of order 1 in another order, 4e-6 sqrt(D). */
#ifndef TESTS_UNIT_OP_SAE_ENCODE_DEVICE_H
#define TESTS_UNIT_OP_SAE_ENCODE_DEVICE_H

#include "tests/unit/device.h"

/* n whole numbers in [-most, most] */
static float *whole_values(size_t n, uint32_t seed, int most)
{
    float *x = op_values(n, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = floorf((x[i]*0.5f + 0.5f)*(float)(2*most + 1)) - (float)most;
    return x;
}

static SaeEncoder *encoder_of(const Ops *ops, int D, int F, DType type)
{
    Err e = {0};
    SaeEncoder *enc = NULL;
    if (ops->sae.encoder_create(&enc, D, F, type, &e)) {
        printf("FAIL %s\n", e.text);
        exit(1);
    }
    return enc;
}

/* SPREAD: large values anywhere; BUNCHED: all in one tile of 128 features, so that candidates do not suffice; EQUAL:
 * every value the same; LOW: nearly all below 0 */
typedef enum { SPREAD, BUNCHED, EQUAL, LOW, KINDS } Kind;

/* On whole numbers: the CPU's bytes; and rows alone, the same bytes as among others. */
static int encode_exactly(int64_t N, int D, int F, int K, DType type, Kind kind, bool subset)
{
    char name[160];
    const size_t ND = (size_t)N*(size_t)D, FD = (size_t)F*(size_t)D, NK = (size_t)N*(size_t)K;
    float *x = whole_values(ND, 1, 4), *W = whole_values(FD, 2, 4), *b = whole_values((size_t)F, 3, 9),
        *b_dec = whole_values((size_t)D, 4, 2), *a = op_space(4*NK);
    int32_t *i = op_space(4*NK), *rows = NULL;
    int packed = F;
    for (int f = 0; f < F; f++)
        b[f] = kind == BUNCHED && f/128 == 1 ? b[f] + 4000 : kind == LOW ? b[f] - 100 : b[f];
    if (kind == EQUAL)
        memset(W, 0, 4*FD);
    for (int f = 0; kind == EQUAL && f < F; f++)
        b[f] = f%3 ? 2 : -0.0f;
    if (subset) {                       /* from the last down, two of three */
        rows = op_space(4*(size_t)F);
        packed = 0;
        for (int f = F - 1; f >= 0; f--)
            if (f%3)
                rows[packed++] = f;
    }
    SaeEncoder *on_cpu = encoder_of(cpu, D, F, type), *enc = encoder_of(gpu, D, F, type);
    cpu->sae.encoder_pack(on_cpu, W, b, b_dec, rows, packed);
    cpu->sae.encode(on_cpu, a, i, x, N, K);
    void *dx = to_device(x, 4*ND), *dW = to_device(W, 4*FD), *db = to_device(b, 4*(size_t)F),
        *db_dec = to_device(b_dec, 4*(size_t)D);
    float *da = device_space(4*NK);
    int32_t *di = device_space(4*NK);
    gpu->sae.encoder_pack(enc, dW, db, db_dec, rows, packed);
    gpu->sae.encode(enc, da, di, dx, N, K);
    op_name(name, "encode %ldx%d F %d K %d %s kind %d%s", (long)N, D, F, K, dtype_name(type), (int)kind,
            subset ? " of a subset" : "");
    int failed = same_bytes(name, da, a, 4*NK) + same_bytes(name, di, i, 4*NK);

    const int64_t few = N < 5 ? N : 5;
    gpu->sae.encode(enc, da, di, (float *)dx + (size_t)(N - few)*(size_t)D, few, K);
    failed += same_bytes(op_name(name, "encode/%ld rows alone", (long)few), da, a + (size_t)(N - few)*(size_t)K,
                         4*(size_t)few*(size_t)K);
    cpu->sae.encoder_free(on_cpu);
    gpu->sae.encoder_free(enc);
    gpu->free(dx); gpu->free(dW); gpu->free(db); gpu->free(db_dec); gpu->free(da); gpu->free(di);
    free(x); free(W); free(b); free(b_dec); free(a); free(i); free(rows);
    return failed;
}

/* On numbers of order 1: each value is that of its feature, falling; the CPU's values nearby; 1, 3, 7... rows at a
 * time, the same bytes. */
static int encode_nearly(int64_t N, int D, int F, int K, DType type)
{
    char name[160];
    const size_t ND = (size_t)N*(size_t)D, FD = (size_t)F*(size_t)D, NK = (size_t)N*(size_t)K;
    float *x = op_values(ND, 1), *W = op_values(FD, 2), *b = op_values((size_t)F, 3), *b_dec = op_values((size_t)D, 4),
        *a = op_space(4*NK), *want = op_space(4*NK), *cpu_a = op_space(4*NK);
    int32_t *i = op_space(4*NK), *cpu_i = op_space(4*NK);
    SaeEncoder *on_cpu = encoder_of(cpu, D, F, type), *enc = encoder_of(gpu, D, F, type);
    cpu->sae.encoder_pack(on_cpu, W, b, b_dec, NULL, F);
    cpu->sae.encode(on_cpu, cpu_a, cpu_i, x, N, K);
    void *dx = to_device(x, 4*ND), *dW = to_device(W, 4*FD), *db = to_device(b, 4*(size_t)F),
        *db_dec = to_device(b_dec, 4*(size_t)D);
    float *da = device_space(4*NK), *da_again = device_space(4*NK);
    int32_t *di = device_space(4*NK), *di_again = device_space(4*NK);
    gpu->sae.encoder_pack(enc, dW, db, db_dec, NULL, F);
    gpu->sae.encode(enc, da, di, dx, N, K);
    gpu->download(a, da, 4*NK);
    gpu->download(i, di, 4*NK);
    int falling = 1;
    #pragma omp parallel for reduction(&:falling)
    for (size_t e = 0; e < NK; e++) {
        const size_t n = e/(size_t)K;
        double h = b[i[e]];
        for (size_t d = 0; d < (size_t)D; d++) {
            float xc = x[n*(size_t)D + d] - b_dec[d], w = W[(size_t)i[e]*(size_t)D + d];
            if (type == BF16) {
                uint16_t half[2];
                dtype_from_f32(half, BF16, (float[]){xc, w}, 2);
                dtype_to_f32(&xc, half, BF16, 1);
                dtype_to_f32(&w, half + 1, BF16, 1);
            }
            h += (double)xc*w;
        }
        want[e] = fmaxf((float)h, 0);
        falling &= e%(size_t)K == 0 || a[e] <= a[e - 1];
    }
    const float tolerance = 4e-6f*sqrtf((float)D);
    op_name(name, "encode %ldx%d F %d K %d %s", (long)N, D, F, K, dtype_name(type));
    int failed = test_close(name, a, want, NK, tolerance, 1e-5f) + test_close("encode/the CPU's", a, cpu_a, NK,
                                                                              tolerance, 1e-5f)
                 + test_ok("encode/largest first", falling);
    for (int64_t n = 0, step = 1; n < N; n += step, step = step*2 + 1)
        gpu->sae.encode(enc, da_again + n*K, di_again + n*K, (float *)dx + n*D, N - n < step ? N - n : step, K);
    failed += same_on_device("encode/rows among others: values", da_again, da, 4*NK);
    failed += same_on_device("encode/rows among others: features", di_again, di, 4*NK);
    cpu->sae.encoder_free(on_cpu);
    gpu->sae.encoder_free(enc);
    gpu->free(dx); gpu->free(dW); gpu->free(db); gpu->free(db_dec);
    gpu->free(da); gpu->free(di); gpu->free(da_again); gpu->free(di_again);
    free(x); free(W); free(b); free(b_dec); free(a); free(want); free(cpu_a); free(i); free(cpu_i);
    return failed;
}

/* One row x of equal numbers against W whose rows are equal numbers w[f], or 0. */
static int encode_row(const char *name, float x, const float *w, const float *b, int F, DType type, const float *want_a,
                      const int32_t *want_i, int K)
{
    enum { D = 32 };
    char text[160];
    float row[D], zero[D] = {0}, *W = op_space(sizeof(float)*D*(size_t)F);
    for (int d = 0; d < D; d++) {
        row[d] = x;
        for (int f = 0; f < F; f++)
            W[f*D + d] = w ? w[f] : 0;
    }
    SaeEncoder *enc = encoder_of(gpu, D, F, type);
    void *dx = to_device(row, sizeof row), *dW = to_device(W, sizeof(float)*D*(size_t)F),
        *db = to_device(b, sizeof(float)*(size_t)F), *dzero = to_device(zero, sizeof zero);
    void *da = device_space(sizeof(float)*(size_t)K), *di = device_space(sizeof(int32_t)*(size_t)K);
    gpu->sae.encoder_pack(enc, dW, db, dzero, NULL, F);
    gpu->sae.encode(enc, da, di, dx, 1, K);
    const size_t bytes = 4*(size_t)K;
    int failed = same_bytes(op_name(text, "%s, %s: values", name, dtype_name(type)), da, want_a, bytes);
    failed += same_bytes(op_name(text, "%s, %s: features", name, dtype_name(type)), di, want_i, bytes);
    gpu->sae.encoder_free(enc);
    gpu->free(dx); gpu->free(dW); gpu->free(db); gpu->free(dzero); gpu->free(da); gpu->free(di);
    free(W);
    return failed;
}

static int encode_odd(DType type)
{
    enum { F = 2048 };
    float w[F] = {0}, b[F];
    for (int f = 0; f < F; f++)
        b[f] = f == 300 ? 3 : f == 301 ? INFINITY : f%2 ? NAN : -INFINITY;
    int failed = encode_row("encode/what is no number comes last", 1, NULL, b, 700, type,
                            (float[]){INFINITY, 3, 0, 0, 0}, (int32_t[]){301, 300, 0, 1, 2}, 5);
    /* the last of a tile's four candidates is the K-th: of two equal values the earlier has to have stayed */
    for (int f = 0; f < F; f++)
        b[f] = f < 5 ? (float[]){5, 2, 2, 5, 5}[f] : -1;
    failed += encode_row("encode/a tie at a tile's end", 0, NULL, b, F, type, (float[]){5, 5, 5, 2},
                         (int32_t[]){0, 3, 4, 1}, 4);
    for (int f = 0; f < F; f++)         /* the same of two neighbours */
        b[f] = f < 6 ? (float[]){5, 5, 5, -1, 2, 2}[f] : -1;
    failed += encode_row("encode/a tie of neighbours", 0, NULL, b, F, type, (float[]){5, 5, 5, 2},
                         (int32_t[]){0, 1, 2, 4}, 4);
    /* a product too small for f32 leaves -0, which is not less than 0 */
    for (int f = 0; f < F; f++)
        b[f] = -0.0f;
    w[1] = -1e-30f;
    failed += encode_row("encode/-0 is 0", 1e-30f, w, b, F, type, (float[]){0, 0, 0}, (int32_t[]){0, 1, 2}, 3);
    return failed;
}

/* All of it. large: sizes of Stable Diffusion too. */
static int encoder_against_cpu(const Ops *device, bool large)
{
    cpu = cpu_ops();
    gpu = device;
    int failed = 0;
    /* 16 tiles: K = 3 with 4 candidates a tile, 13 with 8, 40 by whole rows; F no multiple of a tile, D of nothing */
    static const int K[] = {1, 3, 4, 13, 16, 40};
    for (int t = 0; t < 2; t++) {
        const DType type = t ? BF16 : F32;
        for (int kind = 0; kind < KINDS; kind++)
            for (int k = 0; k < 6; k++)
                if (kind == SPREAD || k%2 == kind%2)
                    failed += encode_exactly(kind == SPREAD && k == 1 ? 130 : 9, 33, k%3 ? 2048 : 1999, K[k], type,
                                             (Kind)kind, false);
        failed += encode_exactly(7, 5, 1000, 2, type, SPREAD, true) + encode_exactly(7, 5, 100, 50, type, SPREAD, true);
        failed += encode_exactly(1, 1, 1, 1, type, SPREAD, false) + encode_exactly(3, 8, 64, 64, type, LOW, false);
        /* the last candidate of a tile is the last chosen; an odd number of tiles, more of D than a ring of stages */
        failed += encode_exactly(130, 33, 2048, 4, type, BUNCHED, false);
        failed += encode_exactly(140, 330, 1800, 3, type, SPREAD, false);
        failed += encode_nearly(40, 128, 2048, 16, type) + encode_nearly(37, 75, 640, 5, type);
        failed += encode_odd(type);
    }
    /* three row tiles of 128, and more of D than a ring of stages; rows of one tile as among more */
    failed += encode_exactly(260, 330, 600, 3, BF16, SPREAD, false) + encode_nearly(150, 75, 640, 5, BF16);
    failed += encode_exactly(2, 3, 4200, 2100, F32, SPREAD, false);        /* more than a list in shared memory holds */
    failed += encode_exactly(8300, 2, 512, 1, BF16, SPREAD, false);        /* two runs of rows */
    if (large) {
        failed += encode_nearly(4200, 1280, 20480, 32, BF16) + encode_nearly(300, 1280, 20480, 64, F32);
        failed += encode_exactly(4200, 320, 20480, 32, BF16, SPREAD, false)
            + encode_exactly(300, 320, 20480, 32, BF16, BUNCHED, false) + encode_exactly(300, 320, 20480, 640, BF16,
                                                                                         SPREAD, true);
    }
    return failed;
}

#endif
