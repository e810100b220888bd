/* SPDX-License-Identifier: MIT */
/* sae_device_speed.c -- the autoencoder's ops at a training step's shapes on a GPU: microseconds, and TFLOP/s or GB/s.
 *
 *     sae_device_speed [BACKEND [TOKENS [D [F [K]]]]]      default: cuda, 4096, 1280, 20480, 32
 *
 * The last line is whole training steps of topk, each with a new upload of its batch from the host; flop are the
 * encoder's product's.
 *
 * Each op runs until 0.05 s have passed, after a first call that prepares it; the median of five such runs is shown.
 * Products count 2 flop a multiply-add; bytes are what must be read and written once, gathered rows each time. Values
 * are even in [-1, 1), so large features lie anywhere: real activations may send more rows through the encoder twice.
 * Exits 77 where there is no such backend. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "kernels/op.h"
#include "src/models/sae_train.h"

static int64_t N = 4096;
static int D = 1280, F = 20480, K = 32;
static float *x, *y, *g, *a, *s, *g_a, *b_enc, *b_dec, *W[2], *m[2], *v[2], *dW[2], *h, *z;
static uint32_t *pairs[2];
static double *sum;
static int32_t *i, *start, *order;
static SaeEncoder *f32, *bf16;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9*(double)t.tv_nsec;
}

static void *space(int64_t bytes)
{
    Err e = {0};
    void *p = op->alloc((size_t)bytes, &e);
    if (!p) {
        fprintf(stderr, "sae_device_speed: %s\n", e.text);
        exit(1);
    }
    return p;
}

/* n values in [-scale, scale) */
static float *filled(int64_t n, float scale)
{
    static uint32_t state = 12345;
    float *host = malloc((size_t)n*sizeof *host), *p = space(n*(int64_t)sizeof *host);
    if (!host) {
        fprintf(stderr, "sae_device_speed: no memory\n");
        exit(1);
    }
    for (int64_t j = 0; j < n; j++) {
        state = state*1664525u + 1013904223u;
        host[j] = (float)((int32_t)state >> 8)*0x1p-23f*scale;
    }
    op->upload(p, host, (size_t)n*sizeof *host);
    free(host);
    return p;
}

static SaeEncoder *encoder(DType type)
{
    Err e = {0};
    SaeEncoder *enc;
    if (op->sae.encoder_create(&enc, D, F, type, &e)) {
        fprintf(stderr, "sae_device_speed: %s\n", e.text);
        exit(1);
    }
    op->sae.encoder_pack(enc, W[1], b_enc, b_dec, NULL, F);
    return enc;
}

/* ---- one function a line of the report ---- */

static const AdamStep step = {.rate = 1e-6f, .scale = 1, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .unbias1 = 1,
                              .unbias2 = 1};

static CodePart part(void)
{
    return (CodePart){a, g_a, g, start, order, 1, K, 0, F};
}

static void encode_f32(void) { op->sae.encode(f32, a, i, x, N, K); }
static void encode_bf16(void) { op->sae.encode(bf16, a, i, x, N, K); }
static void pack_bf16(void) { op->sae.encoder_pack(bf16, W[1], b_enc, b_dec, NULL, F); }
static void decode(void) { op->sae.decode(y, a, i, W[0], b_dec, N, D, K); }
/* All features, by as much again. */
static SaeTurns all_turned(void)
{
    SaeTurn *turn = malloc((size_t)F*sizeof *turn);
    int32_t *same = malloc((size_t)F*sizeof *same), *place = space(4*(int64_t)F);
    SaeTurn *device = space((int64_t)F*(int64_t)sizeof *turn);
    if (!turn || !same) {
        fprintf(stderr, "sae_device_speed: no memory\n");
        exit(1);
    }
    for (int f = 0; f < F; f++) {
        turn[f] = (SaeTurn){.feature = f, .factor = 2};
        same[f] = f;
    }
    op->upload(device, turn, (size_t)F*sizeof *turn);
    op->upload(place, same, (size_t)F*sizeof *same);
    free(turn);
    free(same);
    return (SaeTurns){.turn = device, .place = place, .count = F, .sets = 1};
}

static SaeTurns turns;
static void steer(void) { op->sae.steer(y, x, a, i, &turns, W[0], N, D, K); }
static void code_grad(void) { op->sae.code_grad(g_a, g, a, i, W[0], N, D, K); }
static void reconstruct(void) { op->sae.reconstruct(g, g_a, sum, a, i, W[0], b_dec, x, N, D, K); }
static void invert(void) { op->sae.invert(start, order, i, N, F, K); }
static void count(void) { op->sae.count(order, a, i, N, K); }
static void difference(void) { op->sae.difference(g, sum, y, x, N*D); }
static void moments(void) { op->sae.moments(b_dec, sum, x, N, D); }
static void column_sum(void) { op->sae.column_sum(b_dec, 1, NULL, x, N, D); }
static void keep_largest(void) { op->sae.keep_largest(sum, s, N*K, N*K/2, 1); }
static void gemm(void) { op->sae.gemm(h, false, x, false, W[1], true, N, F, D); }
static void jump(void) { op->sae.jump(z, h, b_enc, b_enc, N, F); }

static void row_grads(void)
{
    const CodePart p = part();
    op->sae.row_grads(dW[0], dW[1], &p, x, D);
}

static void adam_unit(void)
{
    AdamStep unit = step;
    unit.unit_rows = true;
    const AdamState W_dec = {.p = W[0], .m = m[0], .v = v[0]};
    op->sae.adam(&W_dec, dW[0], F, D, &unit);
}

static void update(SaeEncoder *enc, bool in_pairs)
{
    const CodePart p = part();
    AdamState w[2];
    for (int k = 0; k < 2; k++)
        w[k] = in_pairs ? (AdamState){.p = W[k], .pairs = pairs[k]} : (AdamState){.p = W[k], .m = m[k], .v = v[k]};
    op->sae.row_update(sum, &w[0], &w[1], &p, 1, x, F, D, &step, enc);
}

static void row_update(void) { update(NULL, false); }
static void row_update_pack(void) { update(bf16, false); }
static void row_update_pairs(void) { update(bf16, true); }

static Trainer *trainer;
static float *batch;

static void make_trainer(DType moments)
{
    Err e = {0};
    const TrainOptions o = {.D = D, .F = F, .K = K, .batch = (int)N, .type = op->best, .moments = moments,
                            .auxk = 1/32., .dead = 1 << 30};
    if (!(batch = op->alloc_host(sizeof *batch*(size_t)N*(size_t)D)) || trainer_create(&trainer, &o, &e)) {
        fprintf(stderr, "sae_device_speed: %s\n", e.text);
        exit(1);
    }
    op->download(batch, x, sizeof *batch*(size_t)N*(size_t)D);
    if (trainer_start(trainer, batch, N < 512 ? N : 512, &e)) {
        fprintf(stderr, "sae_device_speed: %s\n", e.text);
        exit(1);
    }
}

static void free_trainer(void)
{
    trainer_free(trainer);
    op->free_host(batch);
}

static void train(void)
{
    Err e = {0};
    TrainStep measured;
    if (trainer_step(trainer, batch, NULL, N, 1e-5, &measured, &e)) {
        fprintf(stderr, "sae_device_speed: %s\n", e.text);
        exit(1);
    }
}

static void measure(const char *name, void (*run)(void), double flop, double bytes)
{
    double seconds[5];
    char last;
    run();
    op->download(&last, x, 1);
    for (int r = 0; r < 5; r++) {
        int times = 0;
        const double from = now();
        do {
            for (int t = 0; t < 4; t++, times++)
                run();
            op->download(&last, x, 1);
        } while (now() - from < 0.05);
        seconds[r] = (now() - from)/times;
        for (int j = r; j > 0 && seconds[j] < seconds[j - 1]; j--) {
            const double other = seconds[j];
            seconds[j] = seconds[j - 1];
            seconds[j - 1] = other;
        }
    }
    printf("%-40s %10.1f us  %8.1f %s\n", name, 1e6*seconds[2], (flop > 0 ? flop/1e12 : bytes/1e9)/seconds[2],
           flop > 0 ? "TFLOP/s" : "GB/s");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    Err e = {0};
    if (backend_pick(argc > 1 ? argv[1] : "cuda", 0, &e)) {
        printf("%s\n", e.text);
        return 77;
    }
    N = argc > 2 ? atoi(argv[2]) : N;
    D = argc > 3 ? atoi(argv[3]) : D;
    F = argc > 4 ? atoi(argv[4]) : F;
    K = argc > 5 ? atoi(argv[5]) : K;
    const int64_t ND = N*D, FD = (int64_t)F*D, NK = N*K, NF = N*F;
    printf("%s, %ld tokens, D %d, F %d, K %d\n", op->name, (long)N, D, F, K);
    x = filled(ND, 1); y = filled(ND, 1); g = filled(ND, 1); s = filled(NK, 1); b_enc = filled(F, 0.01f);
    b_dec = filled(D, 0.01f);
    for (int w = 0; w < 2; w++) {
        W[w] = filled(FD, 0.05f);
        m[w] = filled(FD, 1e-4f);
        v[w] = space(4*FD);
        pairs[w] = space(4*FD);
        dW[w] = space(4*FD);
    }
    a = space(4*NK); g_a = space(4*NK); i = space(4*NK); order = space(4*(NK > F ? NK : F));
    start = space(4*((int64_t)F + 1));
    sum = space(sizeof *sum);
    turns = all_turned();
    f32 = encoder(F32);
    const double n = (double)N, product = 2*n*D*F, gathered = 4*n*D*K, rows = 4*n*D, weights = 4.0*F*D;
    measure("encode f32", encode_f32, product, 0);
    if (op->best == BF16) {
        bf16 = encoder(BF16);
        measure("encode bf16", encode_bf16, product, 0);
        measure("pack bf16", pack_bf16, 0, 1.5*weights);
    }
    measure("decode", decode, 0, gathered + rows);
    measure("steer", steer, 0, gathered + 2*rows);
    measure("code_grad", code_grad, 0, gathered + rows);
    measure("reconstruct", reconstruct, 0, gathered + 2*rows);
    measure("count", count, 0, 8.0*n*K);
    measure("invert", invert, 0, 16.0*n*K);
    measure("row_grads", row_grads, 0, 2*gathered + 4*weights);
    measure("adam, unit rows", adam_unit, 0, 8*weights);
    measure("row_update", row_update, 0, 2*gathered + 12*weights);
    if (bf16)
        measure("row_update, packed bf16", row_update_pack, 0, 2*gathered + 12.5*weights);
    if (bf16)
        measure("row_update, packed bf16, bf16 moments", row_update_pairs, 0, 2*gathered + 8.5*weights);
    measure("difference", difference, 0, 3*rows);
    measure("moments", moments, 0, 2*rows);
    measure("column_sum", column_sum, 0, rows);
    measure("keep_largest", keep_largest, 0, 8.0*n*K);
    h = space(4*NF);
    z = space(4*NF);
    if (op->sae.gemm)
        measure("gemm f32", gemm, product, 0);
    if (op->sae.jump)
        measure("jump", jump, 0, 12.0*n*F);
    op->sae.encoder_free(f32);
    op->sae.encoder_free(bf16);
    op->free(h);
    op->free(z);
    make_trainer(F32);
    measure("training step, topk", train, product, 0);
    free_trainer();
    make_trainer(BF16);
    measure("training step, topk, bf16 moments", train, product, 0);
    free_trainer();
    return 0;
}
