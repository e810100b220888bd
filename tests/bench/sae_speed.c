/* SPDX-License-Identifier: MIT */
/* sae_speed.c -- tokens per second of encoding and of training, and the encoder's product as a share of what the
 * machine multiplies.
 *
 *     build/bench/sae_speed [threads]      on one thread processor time is measured, else time on the wall */
#include <math.h>
#include "kernels/op.h"
#include "src/models/sae_train.h"
#include "tests/bench/peak.h"

typedef struct Shape { int D, F, K, batch, times; } Shape;

static void die_if(int failed, const Err *e)
{
    if (failed) {
        fprintf(stderr, "%s\n", e->text);
        exit(1);
    }
}

static void measure(const Shape *s, DType type, double peak)
{
    Err e = {0};
    const size_t N = (size_t)s->batch, values = N*(size_t)s->D;
    const TrainOptions o = {.D = s->D, .F = s->F, .K = s->K, .batch = s->batch, .type = type, .auxk = 1/32.,
                            .dead = 1 << 30, .clip = 1};
    Trainer *t;
    TrainStep step;
    float *x = malloc(sizeof(float)*values), *on_device = op->alloc(sizeof(float)*values, &e);
    float *a = op->alloc(sizeof(float)*N*(size_t)s->K, &e);
    int32_t *i = op->alloc(sizeof(int32_t)*N*(size_t)s->K, &e);
    die_if(!x || !on_device || !a || !i, &e);
    uint32_t state = 1;
    for (size_t j = 0; j < values; j++) {
        state = state*1664525u + 1013904223u;
        x[j] = (float)((int32_t)state >> 8)*0x1p-23f;
    }
    op->upload(on_device, x, sizeof(float)*values);
    die_if(trainer_create(&t, &o, &e) || trainer_start(t, x, 64, &e)
           || trainer_step(t, x, NULL, s->batch, 1e-3, &step, &e), &e);
    double encode = 1e9, train = 1e9, pack = 1e9;
    for (int r = 0; r < s->times; r++) {
        double start = bench_seconds();
        die_if(trainer_step(t, x, NULL, s->batch, 1e-3, &step, &e), &e);
        train = fmin(train, bench_seconds() - start);
        start = bench_seconds();
        die_if(sae_prepare(trainer_sae(t), type, &e), &e);
        if (r > 0)
            pack = fmin(pack, bench_seconds() - start);
        start = bench_seconds();
        sae_encode(trainer_sae(t), a, i, on_device, s->batch);
        encode = fmin(encode, bench_seconds() - start);
    }
    const double flop = 2.0*s->D*s->F*(double)N;
    printf("D %d\tF %d\tK %d\tbatch %d\t%s\t", s->D, s->F, s->K, s->batch, dtype_name(type));
    printf("encode %.0f tokens/s, %.0f %% of the peak\ttrain %.0f tokens/s, %.0f %% of it\tpack %.2f ms\n",
           (double)N/encode, 100*flop/encode/peak, (double)N/train, 100*flop/train/peak, pack*1e3);
    fflush(stdout);
    trainer_free(t);
    free(x);
    op->free(on_device);
    op->free(a);
    op->free(i);
}

int main(int argc, char **argv)
{
    static const Shape shapes[] = {{128, 2048, 16, 1024, 100}, {128, 2048, 16, 4096, 40}, {1280, 20480, 32, 4096, 3}};
    Err e = {0};
    die_if(backend_pick("cpu", argc > 1 ? atoi(argv[1]) : 0, &e), &e);
    const double f32 = peak_gemm(F32), bf16 = peak_gemm(BF16);
    printf("threads %d\tpeak f32 %.0f, bf16 %.0f GFLOP/s\n", omp_get_max_threads(), f32*1e-9, bf16*1e-9);
    for (int s = 0; s < 3; s++) {
        measure(&shapes[s], F32, f32);
        if (op->best == BF16)
            measure(&shapes[s], BF16, bf16);
    }
    return 0;
}
