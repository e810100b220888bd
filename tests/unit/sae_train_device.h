/* SPDX-License-Identifier: MIT */
/* sae_train_device.h -- steps of training on a device beside the same steps on the CPU; and how often a step downloads,
 * for which it waits. sae_train_cuda.c runs it on a GPU, sae_train_simt.c on the same kernels played on the host.
 *
 * Tolerance: sums in another order, through a few steps of Adam at a rate of 1e-3, whose steps keep a weight's first
 * digits. */
#ifndef TESTS_UNIT_SAE_TRAIN_DEVICE_H
#define TESTS_UNIT_SAE_TRAIN_DEVICE_H

#include "src/models/sae_train.h"
#include "tests/unit/op_test.h"

enum { D = 32, F = 96, N = 64, STEPS = 4 };

static const Ops *uncounted;
static int waits;

static void counted(void *host, const void *device, size_t bytes)
{
    waits++;
    uncounted->download(host, device, bytes);
}

typedef struct Result {
    float W_enc[F*D], W_dec[F*D], b_enc[F], b_dec[D];
    double fvu, gradient;
    int waits;                  /* of the last step */
} Result;

static void die(const Err *e)
{
    printf("FAIL %s\n", e->text);
    exit(1);
}

static void train(Result *r, const TrainOptions *o)
{
    Err e = {0};
    Trainer *t;
    TrainStep step = {0};
    float *x = op_values(STEPS*N*D, 3);
    if (trainer_create(&t, o, &e) || trainer_start(t, x, N, &e))
        die(&e);
    for (int s = 0; s < STEPS; s++) {
        waits = 0;
        if (trainer_step(t, x + s*N*D, NULL, N, 1e-3, &step, &e))
            die(&e);
        r->waits = waits;
    }
    r->fvu = step.fvu;
    r->gradient = trainer_gradient(t);
    const Sae *s = trainer_sae(t);
    op->download(r->W_enc, s->W_enc, sizeof r->W_enc);
    op->download(r->W_dec, s->W_dec, sizeof r->W_dec);
    op->download(r->b_enc, s->b_enc, sizeof r->b_enc);
    op->download(r->b_dec, s->b_dec, sizeof r->b_dec);
    trainer_free(t);
    free(x);
}

static int compare(const char *name, TrainOptions o, const Ops *device, int most_waits)
{
    static Result want, got;
    char title[160];
    o.D = D;
    o.F = F;
    o.K = o.K ? o.K : 10;
    o.batch = N;
    o.dead = o.dead ? o.dead : 1 << 20;
    o.seed = 1;
    op = cpu_ops();
    train(&want, &o);
    op = device;
    train(&got, &o);
    int failed = test_close(op_name(title, "%s/W_enc", name), got.W_enc, want.W_enc, F*D, 2e-5f, 1e-4f)
                 + test_close("W_dec", got.W_dec, want.W_dec, F*D, 2e-5f, 1e-4f)
                 + test_close("b_enc", got.b_enc, want.b_enc, F, 2e-5f, 1e-4f)
                 + test_close("b_dec", got.b_dec, want.b_dec, D, 2e-5f, 1e-4f)
                 + test_ok("fvu", fabs(got.fvu - want.fvu) <= 1e-5*want.fvu)
                 + test_ok("gradient", fabs(got.gradient - want.gradient) <= 1e-4*want.gradient);
    return failed + test_ok(op_name(title, "%s/%d downloads a step", name, got.waits), got.waits <= most_waits);
}

static int training_beside_cpu(const Ops *on_device)
{
    uncounted = on_device;
    Ops device = *on_device;
    device.download = counted;
    int failed = compare("topk", (TrainOptions){.variant = VARIANT_TOPK, .clip = 1e3}, &device, 1);
    failed += compare("clipped", (TrainOptions){.variant = VARIANT_TOPK, .clip = 1e-3}, &device, 2);
    failed += compare("dead features", (TrainOptions){.variant = VARIANT_TOPK, .K = 2, .auxk = 1./32, .dead = N},
                      &device, 1);
    failed += compare("moments in bf16", (TrainOptions){.variant = VARIANT_TOPK, .moments = BF16, .clip = 1e3},
                      &device, 1);
    failed += compare("multi", (TrainOptions){.variant = VARIANT_TOPK, .multi = true, .K = 8}, &device, 1);
    failed += compare("matryoshka", (TrainOptions){.variant = VARIANT_MATRYOSHKA}, &device, 2);
    failed += compare("sampletopk", (TrainOptions){.variant = VARIANT_SAMPLETOPK, .sample = 12}, &device, 2);
    return failed;
}

#endif
