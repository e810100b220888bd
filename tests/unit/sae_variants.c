/* SPDX-License-Identifier: MIT */
/* sae_variants.c -- losses and gradients of every variant against SAELens's and sparsify's own code.
 *
 * tests/golden-more/sae_variants/make.py made the weights, the batch, and what they find there, and says where ours
 * differs.
 * Ours are those of |x - x'|^2/V and the rest; theirs of the mean over tokens: V/N times as much. W_dec's gradients are
 * compared without what lies along its rows.
 *
 * Tolerance: f32 sums of some hundred products of order 1, in another order. */
#include "src/models/sae_trainer.h"
#include "tests/unit/golden.h"

enum { N = 48, D = 8, F = 24, K = 4 };
static const double SPARSITY = 0.4, WIDTH = 0.5, AUXK = 0.25;

static const float *values(const Weights *w, const char *variant, const char *name)
{
    char full[100];
    snprintf(full, sizeof full, "%s%s%s", variant, *variant ? "." : "", name);
    return tensor(w, full)->data;
}

static Trainer *make_trainer(const Weights *w, const TrainOptions *o)
{
    const float *x = values(w, "", "x");
    Trainer *t;
    die_if(trainer_create(&t, o, &err) || trainer_start(t, x, N, &err));
    for (int p = 0; p < t->params; p++) {
        const Param *q = &t->param[p];
        op->upload(q->value, values(w, "", q->name), sizeof(float)*(size_t)q->rows*(size_t)q->D);
    }
    if (o->dead) {
        t->tokens = 1000;
        for (int f = 0; f < F; f++)
            t->fired[f] = (float)f < *values(w, "", "dead") ? 1000 : 0;
    }
    return t;
}

static void take_off_along_rows(float *g, const float *W)
{
    for (int f = 0; f < F; f++) {
        double along = 0;
        for (int d = 0; d < D; d++)
            along += (double)g[f*D + d]*(double)W[f*D + d];
        for (int d = 0; d < D; d++)
            g[f*D + d] -= (float)(along*(double)W[f*D + d]);
    }
}

static int check(const Weights *w, const char *name, TrainOptions o)
{
    char title[100];
    float got[F*D];
    Gradients g;
    TrainStep step;
    o.D = D;
    o.F = F;
    o.K = K;
    o.batch = N;
    o.seed = 1;
    Trainer *t = make_trainer(w, &o);
    die_if(trainer_gradients(t, values(w, "", "x"), NULL, N, &g, &step, &err));
    const double measure = trainer_spread(t)/N;             /* ours to theirs */
    int failed = 0;
    for (int p = 0; p < t->params; p++) {
        const Param *q = &t->param[p];
        const size_t n = (size_t)q->rows*(size_t)q->D;
        op->download(got, q->gradient, sizeof *got*n);
        for (size_t j = 0; j < n; j++)
            got[j] *= (float)(g.factor*measure);
        if (p == W_DEC)
            take_off_along_rows(got, values(w, "", "W_dec"));
        snprintf(title, sizeof title, "%s/%s", name, q->name);
        failed += test_close(title, got, values(w, name, q->name), n, 2e-5f, 1e-4f);
    }
    snprintf(title, sizeof title, "%s/square", name);
    failed += test_close(title, &(float){(float)(step.fvu*measure)}, values(w, name, "square"), 1, 0, 1e-5f);
    const float l0 = (float)((double)trainer_mark_fired(t, N)/N);
    snprintf(title, sizeof title, "%s/l0", name);
    failed += test_close(title, &l0, values(w, name, "l0"), 1, 1e-5f, 0);
    trainer_free(t);
    return failed;
}

int main(void)
{
    Weights *w;
    die_if(backend_pick("cpu", 1, &err)
           || weights_open(&w, test_path("golden-more/sae_variants/expected.safetensors"), &err));
    const int failed = check(w, "topk", (TrainOptions){.variant = VARIANT_TOPK})
        + check(w, "topk-dead", (TrainOptions){.variant = VARIANT_TOPK, .auxk = AUXK, .dead = 500})
        + check(w, "multi", (TrainOptions){.variant = VARIANT_TOPK, .multi = true})
        + check(w, "multi-dead", (TrainOptions){.variant = VARIANT_TOPK, .multi = true, .auxk = AUXK, .dead = 500})
        + check(w, "batchtopk", (TrainOptions){.variant = VARIANT_BATCHTOPK})
        + check(w, "matryoshka", (TrainOptions){.variant = VARIANT_MATRYOSHKA, .levels = 2, .level = {6, 12}})
        + check(w, "jumprelu", (TrainOptions){.variant = VARIANT_JUMPRELU, .sparsity = SPARSITY, .width = WIDTH})
        + check(w, "jumprelu-dead", (TrainOptions){.variant = VARIANT_JUMPRELU, .sparsity = SPARSITY, .width = WIDTH,
                                                   .auxk = AUXK, .dead = 500})
        + check(w, "gated", (TrainOptions){.variant = VARIANT_GATED, .sparsity = SPARSITY})
        + check(w, "relu", (TrainOptions){.variant = VARIANT_RELU, .sparsity = SPARSITY});
    weights_close(w);
    return failed != 0;
}
