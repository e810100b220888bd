/* SPDX-License-Identifier: MIT */
/* sae_train_labels.c -- the supervised terms: feature f < C stands for label f, which a token's picture has or not.
 *
 *     assign      assign/N sum_n sum_f<C softplus(-h) where the label is there, softplus(h) where it is not
 *     decorrelate decorrelate/C sum_{f,g<C, f != g} (W_dec[f] . W_dec[g])^2
 *
 *   h (N,C) of the labels' features, whether they are among the largest or not   W_dec in unit rows
 *
 * The idea of SAEmnesia (arXiv 2509.21379): one feature for each concept, by -log sigmoid of its activation where the
 * concept is present, and concepts held apart. Its code is not public; here h is pushed down where the label is absent
 * too (without that a feature fires for its neighbours), and the labels' features have to reconstruct alone as well, as
 * an inner level of matryoshka's. The input is scaled, so that the weights mean the same for every model.
 *
 * C is some tens: the terms are taken on the host, and their gradients of W_enc by the backend's gemm. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/sae_trainer.h"

struct Supervision {
    float *h, *W, *dW;              /* (B,C), (C,D), (C,D) host */
    float *device_h, *device_W;     /* (B,C), (C,D) */
};

int trainer_need_labels(Trainer *t, Err *e)
{
    const size_t C = (size_t)t->options.labels, BC = (size_t)t->options.batch*C, CD = C*(size_t)t->options.D;
    if (C > (size_t)t->options.F)
        return err_set(e, "%zu labels need a feature each, there are %d", C, t->options.F);
    Supervision *s = t->supervision = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, "out of memory");
    s->h = malloc(sizeof(float)*BC);
    s->W = malloc(sizeof(float)*CD);
    s->dW = malloc(sizeof(float)*CD);
    s->device_h = trainer_memory(t, sizeof(float)*BC, e);
    s->device_W = s->device_h ? trainer_memory(t, sizeof(float)*CD, e) : NULL;
    return s->h && s->W && s->dW && s->device_W ? 0 : err_set(e, "out of memory for %zu labels", C);
}

void trainer_free_labels(Trainer *t)
{
    if (!t->supervision)
        return;
    free(t->supervision->h);
    free(t->supervision->W);
    free(t->supervision->dW);
    free(t->supervision);
}

/* log(1 + exp(x)) and its slope */
static double softplus(double x, double *slope)
{
    const double e = exp(-fabs(x));
    *slope = x > 0 ? 1/(1 + e) : e/(1 + e);
    return log1p(e) + (x > 0 ? x : 0);
}

/* h becomes its gradient, times factor; returns the loss. */
static double assign(float *h, const float *b_enc, const uint8_t *label, int64_t N, int C, double factor)
{
    double loss = 0, slope;
    for (int64_t j = 0; j < N*C; j++) {
        const double sign = label[j] ? -1 : 1;
        loss += softplus(sign*((double)h[j] + (double)b_enc[j % C]), &slope);
        h[j] = (float)(factor*sign*slope);
    }
    return loss/(double)N;
}

/* dW = factor times the gradient; returns the loss. */
static double decorrelate(float *dW, const float *W, int C, int D, double factor)
{
    double loss = 0;
    memset(dW, 0, sizeof *dW*(size_t)C*(size_t)D);
    for (size_t f = 0; f < (size_t)C; f++)
        for (size_t g = 0; g < f; g++) {
            const float *W_f = W + f*(size_t)D, *W_g = W + g*(size_t)D;
            float *dW_f = dW + f*(size_t)D, *dW_g = dW + g*(size_t)D;
            double dot = 0;
            for (int d = 0; d < D; d++)
                dot += (double)W_f[d]*(double)W_g[d];
            loss += 2*dot*dot/C;
            const float c = (float)(factor*4*dot/C);
            for (int d = 0; d < D; d++) {
                dW_f[d] += c*W_g[d];
                dW_g[d] += c*W_f[d];
            }
        }
    return loss;
}

double trainer_add_labels(Trainer *t, const uint8_t *label, int64_t N)
{
    const TrainOptions *o = &t->options;
    const int C = o->labels, D = o->D;
    Supervision *s = t->supervision;
    float *b_enc = s->dW;                       /* C <= C*D values, needed before dW */
    trainer_read(t);
    const double unit = trainer_spread(t)/2;    /* gradients are kept without 2/V */
    op->sae.gemm(s->device_h, false, t->c, false, t->sae->W_enc, true, N, C, D);
    op->download(s->h, s->device_h, sizeof(float)*(size_t)N*(size_t)C);
    op->download(b_enc, t->sae->b_enc, sizeof(float)*(size_t)C);
    double loss = o->assign*assign(s->h, b_enc, label, N, C, unit*o->assign/(double)N);
    op->upload(s->device_h, s->h, sizeof(float)*(size_t)N*(size_t)C);
    op->sae.gemm(t->param[W_ENC].gradient, true, s->device_h, true, t->c, false, C, D, N);
    op->sae.column_sum(t->through_h, 1, NULL, s->device_h, N, C);
    op->download(s->W, t->sae->W_dec, sizeof(float)*(size_t)C*(size_t)D);
    loss += o->decorrelate*decorrelate(s->dW, s->W, C, D, unit*o->decorrelate);
    op->upload(s->device_W, s->dW, sizeof(float)*(size_t)C*(size_t)D);
    op->add(t->param[W_DEC].gradient, s->device_W, (int64_t)C*D);
    return loss;
}
