/* SPDX-License-Identifier: MIT */
/* sae_resume.c -- a trainer stored, restored into another, and trained on is the one that was never stored, and so it
 * is where nothing is trained after that; for every variant, with both kinds of moments. Small values are learned from
 * as others are. Figures that cannot be are refused. */
#include "src/models/sae_trainer.h"
#include "tests/unit/golden.h"
#include "tests/unit/stream_test.h"

enum { N = 32, D = 6, F = 24, STEPS = 4 };

static float x[STEPS + 1][N*D];

static void make_batches(void)
{
    uint32_t seed = 1;
    for (int b = 0; b <= STEPS; b++)
        for (int j = 0; j < N*D; j++) {
            seed = seed*1664525u + 1013904223u;
            x[b][j] = (float)((int32_t)seed >> 8)*0x1p-23f*(j < D ? 9 : 1);     /* the first token is a strong one */
        }
}

static Trainer *make_trainer(SaeVariant v, int K, DType moments)
{
    const TrainOptions o = {.variant = v, .D = D, .F = F, .K = K, .batch = N, .sample = N/2, .auxk = 1, .dead = 2*N,
                            .clip = 1, .seed = 3, .moments = moments};
    Trainer *t;
    die_if(trainer_create(&t, &o, &err));
    return t;
}

static void step(Trainer *t, int batch)
{
    TrainStep s;
    die_if(trainer_step(t, x[batch], NULL, N, 0.01, &s, &err));
}

static Trainer *train(SaeVariant v, int K, DType moments)
{
    Trainer *t = make_trainer(v, K, moments);
    die_if(trainer_start(t, x[0], N, &err));
    for (int b = 0; b < STEPS; b++)
        step(t, b);
    return t;
}

static void store(Trainer *t, const char *path)
{
    Checkpoint *c;
    die_if(checkpoint_create(&c, &err) || trainer_store(t, c, "t", &err) || checkpoint_write(c, path, &err));
    checkpoint_free(c);
}

static int restore(Trainer *t, const char *path, Err *e)
{
    Checkpoint *c;
    die_if(checkpoint_open(&c, path, &err));
    const int failed = trainer_restore(t, c, "t", e);
    checkpoint_free(c);
    return failed;
}

/* Whether both would be saved as the same folder. */
static int same(const char *name, const char *when, Trainer *a, Trainer *b)
{
    char title[100];
    float one[F*D], other[F*D];
    Sae *s[2];
    die_if(trainer_export(a, &s[0], &err) || trainer_export(b, &s[1], &err));
    const float *const of[2][6] = {
        {s[0]->W_enc, s[0]->W_dec, s[0]->b_enc, s[0]->threshold, s[0]->scale, s[0]->offset},
        {s[1]->W_enc, s[1]->W_dec, s[1]->b_enc, s[1]->threshold, s[1]->scale, s[1]->offset}};
    int failed = 0;
    for (int p = 0; p < 6; p++) {
        const size_t bytes = sizeof(float)*(size_t)F*(p < 2 ? D : 1);
        if (!of[0][p] && !of[1][p])
            continue;
        op->download(one, of[0][p], bytes);
        op->download(other, of[1][p], bytes);
        snprintf(title, sizeof title, "%s/%s/tensor %d", name, when, p);
        failed += test_same(title, one, other, bytes);
    }
    snprintf(title, sizeof title, "%s/%s/most kept", name, when);
    failed += test_same(title, &s[0]->K, &s[1]->K, sizeof s[0]->K);
    sae_free(s[0]);
    sae_free(s[1]);
    return failed;
}

static int resumes(SaeVariant v, int K, DType moments)
{
    const char *name = sae_variant_name(v), *path = scratch("trainer");
    Trainer *t = train(v, K, moments), *again = make_trainer(v, K, moments);
    store(t, path);
    die_if(restore(again, path, &err));
    test_note("%s: sparsity %g", name, t->sparsity);
    int failed = same(name, "at once", t, again);
    step(t, STEPS);
    step(again, STEPS);
    failed += same(name, "a step later", t, again);
    trainer_free(t);
    trainer_free(again);
    return failed;
}

static void scale_batches(float by)
{
    for (int b = 0; b <= STEPS; b++)
        for (int j = 0; j < N*D; j++)
            x[b][j] *= by;
}

/* n values, and the others times `times`. */
static int is_part(const char *name, const char *of, const float *values, const float *others, int n, float times)
{
    char title[100];
    float one[F*D], other[F*D];
    op->download(one, values, sizeof(float)*(size_t)n);
    op->download(other, others, sizeof(float)*(size_t)n);
    for (int j = 0; j < n; j++)
        other[j] *= times;
    snprintf(title, sizeof title, "%s/small values/%s", name, of);
    return test_same(title, other, one, sizeof(float)*(size_t)n);
}

/* Values of a deviation far below 1 are learned from as those of one near 1: of these times 2^-12 the rows are the
 * same and the biases 2^-12 of theirs, and a checkpoint keeps that. */
static int learns_small(SaeVariant v)
{
    const char *name = sae_variant_name(v), *path = scratch("trainer");
    Trainer *small, *again = make_trainer(v, 1, F32);
    Sae *s[2];
    scale_batches(0.5f);
    Trainer *t = train(v, 1, F32);
    step(t, STEPS);
    scale_batches(0x1p-12f);
    small = train(v, 1, F32);
    store(small, path);
    die_if(restore(again, path, &err));
    step(again, STEPS);
    scale_batches(0x1p13f);
    die_if(trainer_export(t, &s[0], &err) || trainer_export(again, &s[1], &err));
    const int failed = is_part(name, "W_enc", s[0]->W_enc, s[1]->W_enc, F*D, 1)
                       + is_part(name, "W_dec", s[0]->W_dec, s[1]->W_dec, F*D, 1)
                       + is_part(name, "b_enc", s[0]->b_enc, s[1]->b_enc, F, 4096)
                       + is_part(name, "b_dec", s[0]->b_dec, s[1]->b_dec, D, 4096);
    trainer_free(t);
    trainer_free(small);
    trainer_free(again);
    sae_free(s[0]);
    sae_free(s[1]);
    return failed;
}

/* What a checkpoint's scalar `place` of the variant may not be. */
static int refuses(SaeVariant v, int place, double value, const char *words)
{
    char title[100];
    const char *path = scratch("trainer");
    Trainer *t = train(v, 2, F32), *again = make_trainer(v, 2, F32);
    Err e = {0};
    t->variant->state(t)[place] = value;
    store(t, path);
    const int failed = restore(again, path, &e);
    snprintf(title, sizeof title, "%s: state %d = %g is refused", sae_variant_name(v), place, value);
    trainer_free(t);
    trainer_free(again);
    return test_ok(title, failed && strstr(e.text, words));
}

int main(void)
{
    int failed = 0;
    die_if(backend_pick("cpu", 1, &err));
    make_batches();
    for (int v = 0; v < VARIANTS; v++)
        failed += learns_small((SaeVariant)v);
    for (int v = 0; v < VARIANTS; v++)
        failed += resumes((SaeVariant)v, 1, F32) + resumes((SaeVariant)v, 1, BF16);
    failed += resumes(VARIANT_JUMPRELU, F, F32);    /* more than are kept: its sparsity is below 0 */
    failed += refuses(VARIANT_BATCHTOPK, 2, 1e300, "expected 8 to 24");
    failed += refuses(VARIANT_BATCHTOPK, 2, 8.5, "expected 8 to 24");
    failed += refuses(VARIANT_BATCHTOPK, 2, 0, "expected 8 to 24");
    failed += refuses(VARIANT_TOPK, 2, 16, "expected 2 to 2");
    failed += refuses(VARIANT_RELU, 2, -1e300, "expected 0 to 24");
    scratch_clear();
    return failed != 0;
}
