/* SPDX-License-Identifier: MIT */
/* sae_train.c -- one training step of an autoencoder, in the backend's ops: what all variants share. What it is made of
 * before that: sae_trainer.c.
 *
 *     c = x - b_dec      x' and dL/dh by the variant      g = x' - x      V = |x - mean|^2
 *     db_dec = sum_n g - (sum_n dL/dh) W_enc                                             all times 2/V
 *
 *   x, c, g (B,D)   h (B,F)
 *
 * Gradients are kept without the factor 2/V, which joins the clipping in Adam's scale. Then W_dec's gradient loses its
 * part along each row, and the rows are made unit again (sparsify's order: clip, project, step, normalise). */
#include <math.h>
#include "src/models/sae_trainer.h"
#include "src/models/splitmix.h"

static const float BETA1 = 0.9f, BETA2 = 0.999f, EPS = 1e-8f;

void trainer_add_part(Trainer *t, float c, const Codes *codes, const float *g, int64_t N)
{
    op->sae.invert(codes->start, codes->order, codes->i, N, t->options.F, codes->K);
    t->part[t->parts++] = (CodePart){codes->a, codes->g_a, g, codes->start, codes->order, c, codes->K, 0, t->options.F};
}

static void take_batch(Trainer *t, const float *x, int64_t N)
{
    const size_t n = (size_t)N*(size_t)t->options.D;
    const float scale = (float)t->scale;
    for (size_t j = 0; t->scaled && j < n; j++)
        t->scaled[j] = scale*x[j];
    /* what is queued since the last step read its sums has no part in x */
    op->upload_early(t->x, t->scaled ? t->scaled : x, sizeof *x*n);
    op->sae.center(t->c, t->x, t->sae->b_dec, N, t->options.D);
    op->sae.moments(t->mean, &t->sums[SPREAD], t->x, N, t->options.D);
}

double trainer_spread(const Trainer *t)
{
    return fmax(t->read[SPREAD], 1e-30);
}

static bool is_finite(Trainer *t, const float *x, int64_t n)
{
    double square;
    op->sae.sum_squares(&t->sums[OTHER], x, n);
    trainer_sum_doubles(t, &t->sums[OTHER], 1);
    op->download(&square, &t->sums[OTHER], sizeof square);
    return isfinite(square);
}

/* Names what is no number: a weight, else the reconstruction, else a gradient. */
static int not_a_number(Trainer *t, int64_t N, Err *e)
{
    const char *what = NULL, *of = "";
    for (int p = 0; p < t->params && !what; p++)
        if (!is_finite(t, t->param[p].value, t->param[p].rows*t->param[p].D))
            what = t->param[p].name;
    if (!what && !is_finite(t, t->g, N*t->options.D))
        what = "the reconstruction";
    for (int p = 0; p < t->params && !what; p++)
        if (!is_finite(t, t->param[p].gradient, t->param[p].rows*t->param[p].D)) {
            what = t->param[p].name;
            of = "the gradient of ";
        }
    return err_set(e, "step %lld, after %lld tokens: %s%s is not a number any more; try a lower --lr",
                   (long long)t->steps + 1, (long long)t->tokens, of, what ? what : "the gradient's norm");
}

/* Squares of the gradients of params [from, to), to be read. */
static void square_gradients(Trainer *t, int from, int to)
{
    for (int p = from; p < to; p++)
        op->sae.sum_squares(&t->sums[GRADIENT + p], t->param[p].gradient, t->param[p].rows*t->param[p].D);
}

/* W_enc's and W_dec's gradients need not be in memory, if only they are short enough. */
static bool by_rows(const Trainer *t)
{
    return t->variant->lists && !t->supervision;
}

/* Up to where only the parts of W_enc's and W_dec's gradients are left to be added, and all sums are read: the one time
 * that a step waits for the device. t->squares: of the other gradients. */
static int forward(Trainer *t, const float *x, const uint8_t *label, int64_t N, TrainStep *step, Err *e)
{
    const int D = t->options.D, F = t->options.F;
    op->clear(t->counts, sizeof *t->counts*(size_t)F);
    t->parts = 0;
    take_batch(t, x, N);
    if (t->variant->pass(t, N, e))
        return -1;
    const int dead = trainer_list_dead(t);
    const bool taught = dead && t->options.auxk > 0;
    if (taught && trainer_add_dead(t, N, dead, e))
        return -1;
    const double supervised = t->supervision ? trainer_add_labels(t, label, N) : 0;
    for (int b = 0; b < 2; b++)
        op->clear(t->bound[b], sizeof(float)*(size_t)F);
    op->sae.row_lengths(t->x_length, t->c, N, D);
    for (int p = 0; p < t->parts; p++) {
        op->sae.row_lengths(t->g_length, t->part[p].g, N, D);
        op->sae.code_sums(t->through_h, t->bound[0], t->bound[1], &t->part[p], t->g_length, t->x_length);
    }
    op->sae.column_sum(t->param[B_DEC].gradient, -1, t->through_h, t->sae->W_enc, F, D);
    trainer_sum_floats(t, t->param[B_DEC].gradient, D);
    square_gradients(t, B_ENC, t->params);
    trainer_sum_doubles(t, &t->sums[GRADIENT + B_ENC], 1);
    if (by_rows(t) && t->options.clip > 0) {
        for (int b = 0; b < 2; b++)
            op->sae.sum_squares(&t->sums[BOUND + b], t->bound[b], F);
        trainer_sum_doubles(t, &t->sums[BOUND], 2);
    }
    trainer_read(t);
    t->squares = 0;
    for (int p = B_ENC; p < t->params; p++)
        t->squares += t->read[GRADIENT + p];
    t->rows_apart = false;
    const double V = trainer_spread(t);
    *step = (TrainStep){.fvu = t->read[SQUARE]/V, .aux = taught ? t->read[AUX]/V : 0, .sparsity = t->sparsity,
                        .supervised = supervised, .dead = dead};
    return isfinite(t->read[SQUARE]) ? 0 : not_a_number(t, N, e);
}

/* Adds the parts to W_enc's and W_dec's gradients. */
static int backward(Trainer *t, int64_t N, Gradients *out, Err *e)
{
    for (int p = 0; p < t->parts; p++)
        op->sae.row_grads(t->param[W_DEC].gradient, t->param[W_ENC].gradient, &t->part[p], t->c, t->options.D);
    square_gradients(t, 0, B_ENC);
    trainer_sum_doubles(t, &t->sums[GRADIENT], B_ENC);
    trainer_read(t);
    for (int p = 0; p < B_ENC; p++)
        t->squares += t->read[GRADIENT + p];
    *out = (Gradients){t->param[W_ENC].gradient, t->param[W_DEC].gradient, t->param[B_ENC].gradient,
                       t->param[B_DEC].gradient, {t->param[MORE].gradient, t->param[MORE + 1].gradient},
                       2/trainer_spread(t), trainer_gradient(t)};
    return isfinite(out->norm) ? 0 : not_a_number(t, N, e);
}

int trainer_gradients(Trainer *t, const float *x, const uint8_t *label, int64_t N, Gradients *out, TrainStep *step,
                      Err *e)
{
    return forward(t, x, label, N, step, e) || backward(t, N, out, e) ? -1 : 0;
}

double trainer_gradient(const Trainer *t)
{
    double rows = 0;
    if (t->rows_apart)
        op->download(&rows, &t->sums[ROWS], sizeof rows);
    return 2/trainer_spread(t)*sqrt(t->squares + rows);
}

/* Adam on the weights from the first on; scale: of the gradients as kept. */
static AdamStep adam_step(const Trainer *t, double rate, double scale)
{
    const double n = (double)t->steps;
    return (AdamStep){.rate = (float)rate, .scale = (float)scale, .beta1 = BETA1, .beta2 = BETA2, .eps = EPS,
                      .unbias1 = (float)(1/(1 - pow((double)BETA1, n))),
                      .unbias2 = (float)(1/(1 - pow((double)BETA2, n)))};
}

/* Of a weight in this step. */
static AdamState adam_state(const Trainer *t, const Param *w)
{
    const uint64_t step = (uint64_t)t->steps*PARAMS + (uint64_t)(w - t->param);
    return (AdamState){w->value, w->m, w->v, w->pairs, (uint32_t)splitmix(step), (int64_t)t->first_feature*w->D};
}

static void adam(Trainer *t, int first, AdamStep s)
{
    for (Param *w = &t->param[first]; w < &t->param[t->params]; w++) {
        const AdamState state = adam_state(t, w);
        s.unit_rows = w->unit_rows;
        op->sae.adam(&state, w->gradient, w->rows, w->D, &s);
    }
}

/* No row's gradient is longer than its bound, so nothing will be clipped. False too when a bound is no number. */
static bool needs_no_clipping(const Trainer *t)
{
    double squares = t->squares;
    if (t->options.clip == 0)
        return true;
    for (int b = 0; b < 2; b++)
        squares += t->read[BOUND + b];
    return 2/trainer_spread(t)*sqrt(squares) <= t->options.clip;
}

/* W_enc and W_dec along gradients that are never in memory: those of the parts, all there are where features are kept
 * as lists. */
static void update_rows(Trainer *t, double rate)
{
    t->steps++;
    const AdamState W_dec = adam_state(t, &t->param[W_DEC]), W_enc = adam_state(t, &t->param[W_ENC]);
    const AdamStep s = adam_step(t, rate, 2/trainer_spread(t));
    op->sae.row_update(&t->sums[ROWS], &W_dec, &W_enc, t->part, t->parts, t->c, t->options.F, t->options.D, &s,
                       t->encoder);
    trainer_sum_doubles(t, &t->sums[ROWS], 1);
    adam(t, B_ENC, s);
    t->rows_apart = true;
    t->packed = true;
}

int trainer_step(Trainer *t, const float *x, const uint8_t *label, int64_t N, double rate, TrainStep *step, Err *e)
{
    x = trainer_order_step(t, x, N, rate);
    if (forward(t, x, label, N, step, e))
        return -1;
    if (by_rows(t) && needs_no_clipping(t))
        update_rows(t, rate);
    else {
        Gradients g;
        if (backward(t, N, &g, e))
            return -1;
        const double clip = t->options.clip > 0 && g.norm > t->options.clip ? t->options.clip/g.norm : 1;
        t->steps++;
        adam(t, 0, adam_step(t, rate, g.factor*clip));
        t->packed = false;
    }
    step->l0 = (double)trainer_mark_fired(t, N)/(double)N;
    return 0;
}
