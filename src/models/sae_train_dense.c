/* SPDX-License-Identifier: MIT */
/* sae_train_dense.c -- variants that bound no token's number of features: jumprelu, gated, relu.
 *
 *     h = c W_enc^T, c = x - b_dec      z by the variant from h      x' = z W_dec + b_dec      g = x' - x
 *     dW_dec = z^T g      g_h from g W_dec^T, by the variant      dW_enc = g_h^T c      dL/dh = sum_n g_h
 *
 *     jumprelu  z = h + b_enc where that exceeds threshold (at least 0)            + l L0
 *     relu      z = relu(h + b_enc)                                                + l |z|_1
 *     gated     z = relu(exp(r_mag) h + b_mag) where gate = h + b_enc > 0          + l |p|_1 + |x - x'_gate|^2
 *               p = relu(gate), x'_gate = p W_dec + b_dec with W_dec and b_dec held fixed
 *
 *   c, g, x' (B,D)   h, z, p, g_h (B,F)   threshold, r_mag, b_mag (F)
 *
 * All a token, beside |x - x'|^2, with x scaled to a mean square length of D and W_dec in unit rows; l is t->sparsity,
 * in SAELens's measure. The ops get l/2, as gradients are kept without their factor 2/V.
 *
 * JumpReLU: Rajamanoharan et al. 2024 (arXiv 2407.14435), with the threshold itself as parameter and projected to 0 or
 * more, as SAELens does. Gated: Rajamanoharan et al. 2024 (arXiv 2404.16014), section 3.2: what the gate alone
 * reconstructs teaches the gate and not the decoder (SAELens 6 lets it teach both).
 *
 * l is found where it is not given. jumprelu: by the quadratic penalty of Gemma Scope 2, here on the batch's mean L0,
 * 6 D (L0/K - 1)^2, so l = 12 D/K (L0/K - 1): it draws thresholds down too, where too few features are kept. At the end
 * of a fit of 1000 steps (D 128, F 2048, K 16) FVU was 0.081 at an L0 of 16.3; by an l that follows L0, as below, 0.105
 * at 11.7, as thresholds come down slowly by themselves; topk 0.082 at 16. gated, relu: log l follows log(L0/K),
 * smoothed. A weight below 0 would let features grow without end. */
#include <math.h>
#include <stdlib.h>
#include "src/models/sae_trainer.h"

enum { LOG_SPARSITY, OFF, MOST, STATES };       /* of the controller; most features of a token */

static const double WIDTH = 0.05;               /* of the window: SAELens's jumprelu_bandwidth */
static const float THRESHOLD = 0.01f;           /* SAELens's jumprelu_init_threshold */
static const double FORGET = 0.1, FOLLOW = 0.02, LEAD = 0.5;

typedef struct Dense {
    float *h, *z, *p;               /* (B,F); p: gated */
    double state[STATES];
} Dense;

static double *state(Trainer *t)
{
    return ((Dense *)t->own)->state;
}

static int create(Trainer *t, Err *e)
{
    TrainOptions *o = &t->options;
    const size_t bytes = sizeof(float)*(size_t)o->batch*(size_t)o->F;
    Dense *own = t->own = calloc(1, sizeof *own);
    if (!own)
        return err_set(e, "out of memory");
    if (o->width == 0)
        o->width = WIDTH;
    own->state[LOG_SPARSITY] = log(0.01*sqrt((double)o->D/o->K));
    if (!(own->h = trainer_memory(t, bytes, e)) || !(own->z = trainer_memory(t, bytes, e)))
        return -1;
    if (o->variant == VARIANT_JUMPRELU)
        return trainer_need_param(t, "threshold", o->F, THRESHOLD, e);
    if (o->variant == VARIANT_RELU)
        return 0;
    if (!(own->p = trainer_memory(t, bytes, e)) || trainer_need_param(t, "r_mag", o->F, 0, e)
        || trainer_need_param(t, "b_mag", o->F, 0, e))
        return -1;
    t->through_h = trainer_memory(t, sizeof(float)*(size_t)o->F, e);        /* b_enc's gradient is the gate's */
    return t->through_h ? 0 : -1;
}

static void release(Trainer *t)
{
    free(t->own);
}

static int resume(Trainer *t, Err *e)
{
    const double most = state(t)[MOST];
    return most >= 0 && most <= t->options.F ? 0
        : err_set(e, "checkpoint: %g features of a token, expected 0 to %d", most, t->options.F);
}

/* At first half of all features are kept: with W_enc = 2D/F W_dec their sum is about x. */
static int start(Trainer *t, Err *e)
{
    const size_t n = (size_t)t->options.F*(size_t)t->options.D;
    const float scale = (float)fmin(1, 2.0*t->options.D/t->options.F);
    float *host = malloc(sizeof *host*n);
    if (!host)
        return err_set(e, "out of memory");
    op->download(host, t->sae->W_enc, sizeof *host*n);
    for (size_t j = 0; j < n; j++)
        host[j] *= scale;
    op->upload(t->sae->W_enc, host, sizeof *host*n);
    free(host);
    return 0;
}

static float *threshold_of(Trainer *t)
{
    return t->options.variant == VARIANT_JUMPRELU ? t->param[MORE].value : NULL;
}

/* ---- one step ---- */

static void find_sparsity(Trainer *t, double l0)
{
    double *s = state(t);
    const double K = t->options.K;
    if (t->options.sparsity > 0)
        return;
    if (t->options.variant == VARIANT_JUMPRELU) {
        t->sparsity = 12*t->options.D/K*(l0/K - 1);
        return;
    }
    const double off = fmax(-1, fmin(1, log(fmax(l0, 1e-3)/K)));
    s[OFF] += FORGET*(off - s[OFF]);
    s[LOG_SPARSITY] += FOLLOW*s[OFF];
    t->sparsity = exp(s[LOG_SPARSITY] + LEAD*s[OFF]);
}

static void count_kept(Trainer *t, int64_t N)
{
    Dense *own = t->own;
    const int F = t->options.F;
    int64_t kept = 0;
    op->sae.count_dense(t->counts, own->z, N, F);
    op->download(t->count, t->counts, sizeof *t->count*(size_t)F);
    for (int f = 0; f < F; f++)
        kept += t->count[f];
    own->state[MOST] = op->sae.row_most(own->p ? own->p : own->z, N, F);
    find_sparsity(t, (double)kept/(double)N);
}

/* t->g = z W_dec + b_dec - x */
static void reconstruct(Trainer *t, const float *z, int64_t N)
{
    op->sae.gemm(t->y, false, z, false, t->sae->W_dec, false, N, t->options.D, t->options.F);
    op->sae.difference(t->g, &t->sums[SQUARE], t->y, t->c, N*t->options.D);
}

/* g_z = t->g W_dec^T, in z's place */
static void back_to_features(Trainer *t, float *z, int64_t N)
{
    op->sae.gemm(z, false, t->g, false, t->sae->W_dec, true, N, t->options.F, t->options.D);
}

/* Own z becomes dL/dz, after W_dec and b_dec have their part. */
static void reconstruct_and_back(Trainer *t, int64_t N)
{
    Dense *own = t->own;
    reconstruct(t, own->z, N);
    op->sae.gemm(t->param[W_DEC].gradient, true, own->z, true, t->g, false, t->options.F, t->options.D, N);
    op->sae.column_sum(t->param[B_DEC].gradient, 1, NULL, t->g, N, t->options.D);
    back_to_features(t, own->z, N);
}

static void pass_jump(Trainer *t, int64_t N)
{
    Dense *own = t->own;
    const int F = t->options.F;
    float *threshold = threshold_of(t);
    if (threshold)
        op->activate(threshold, F32, threshold, F, ACT_RELU);
    op->sae.jump(own->z, own->h, t->sae->b_enc, threshold, N, F);
    count_kept(t, N);
    reconstruct_and_back(t, N);
    op->sae.jump_grad(own->z, threshold ? t->param[MORE].gradient : NULL, own->h, threshold, (float)(t->sparsity/2),
                      (float)t->options.width, N, F);
}

static void pass_gated(Trainer *t, int64_t N)
{
    Dense *own = t->own;
    const int F = t->options.F;
    const float *b_gate = t->sae->b_enc, *r_mag = t->param[MORE].value, *b_mag = t->param[MORE + 1].value;
    op->sae.gated(own->z, own->p, own->h, b_gate, r_mag, b_mag, N, F);
    count_kept(t, N);
    reconstruct(t, own->p, N);
    back_to_features(t, own->p, N);
    reconstruct_and_back(t, N);
    op->sae.gated_grad(own->z, own->p, t->param[B_ENC].gradient, t->param[MORE].gradient, t->param[MORE + 1].gradient,
                       own->h, b_gate, r_mag, b_mag, (float)(t->sparsity/2), N, F);
    op->clear(t->through_h, sizeof *t->through_h*(size_t)F);       /* no gradient, and so not set to 0 by Adam */
}

static int pass(Trainer *t, int64_t N, Err *e)
{
    Dense *own = t->own;
    const int D = t->options.D, F = t->options.F;
    (void)e;
    op->sae.gemm(own->h, false, t->c, false, t->sae->W_enc, true, N, F, D);
    if (t->options.variant == VARIANT_GATED)
        pass_gated(t, N);
    else
        pass_jump(t, N);
    const float *g_h = own->z;
    op->sae.gemm(t->param[W_ENC].gradient, true, g_h, true, t->c, false, F, D, N);
    op->sae.column_sum(t->through_h, 1, NULL, g_h, N, F);
    return 0;
}

/* ---- gate ---- */

/* Of h_gate = h + b_gate: a = exp(r_mag) h + b_mag = scale h_gate + offset */
static int gated_parts(Trainer *t, Sae *s, Err *e)
{
    const size_t F = (size_t)s->F, bytes = sizeof(float)*F;
    float *host = malloc(3*bytes), *b_gate = host, *scale = host + F, *offset = host + 2*F;
    if (!host || sae_need_gate(s, &s->scale, e) || sae_need_gate(s, &s->offset, e)) {
        free(host);
        return err_set(e, "out of memory");
    }
    op->download(b_gate, s->b_enc, bytes);
    op->download(scale, t->param[MORE].value, bytes);
    op->download(offset, t->param[MORE + 1].value, bytes);
    for (size_t f = 0; f < F; f++) {
        scale[f] = expf(scale[f]);
        offset[f] -= scale[f]*b_gate[f];
    }
    op->upload(s->scale, scale, bytes);
    op->upload(s->offset, offset, bytes);
    free(host);
    return 0;
}

/* The most that a token may keep is twice what one of the last batch did. */
static int gate(Trainer *t, Sae *s, Err *e)
{
    const int most = (2*(int)state(t)[MOST] + 7)/8*8;
    s->K = most > s->F ? s->F : most > s->K ? most : s->K;
    if (t->options.variant == VARIANT_GATED)
        return gated_parts(t, s, e);
    if (!threshold_of(t))
        return 0;
    if (sae_need_gate(s, &s->threshold, e))
        return -1;
    op->activate(s->threshold, F32, threshold_of(t), s->F, ACT_RELU);
    return 0;
}

const SaeVariantOps dense_family[VARIANTS] = {
    [VARIANT_JUMPRELU] = {"jumprelu", true, false, false, create, release, start, pass, gate, STATES, state, resume},
    [VARIANT_GATED] = {"gated", true, true, false, create, release, start, pass, gate, STATES, state, resume},
    [VARIANT_RELU] = {"relu", true, false, false, create, release, start, pass, gate, STATES, state, resume},
};
