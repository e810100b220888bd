/* SPDX-License-Identifier: MIT */
/* sae_train.c -- one training step of an autoencoder, in the backend's ops: what all variants share.
 *
 *     c = x - b_dec      x' and dL/dh by the variant      g = x' - x      V = |x - mean|^2
 *     db_dec = sum_n g - (sum_n dL/dh) W_enc                                             all times 2/V
 *
 *   x, c, g (B,D)   h (B,F)
 *
 * Gradients are kept without the factor 2/V, which joins the clipping in Adam's scale. Then W_dec's gradient loses its
 * part along each row, and the rows are made unit again (sparsify's order: clip, project, step, normalise). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/geometric_median.h"
#include "src/models/noise.h"
#include "src/models/sae_trainer.h"

static const float BETA1 = 0.9f, BETA2 = 0.999f, EPS = 1e-8f;

static const SaeVariantOps *variant_ops(SaeVariant v)
{
    return topk_family[v].name ? &topk_family[v] : &dense_family[v];
}

const char *sae_variant_name(SaeVariant v)
{
    return variant_ops(v)->name;
}

int sae_variant_find(SaeVariant *v, const char *name)
{
    for (int i = 0; i < VARIANTS; i++)
        if (strcmp(sae_variant_name((SaeVariant)i), name) == 0) {
            *v = (SaeVariant)i;
            return 0;
        }
    return -1;
}

int train_options_settle(TrainOptions *o, Err *e)
{
    if (o->labels > 0 && o->levels == 0)
        o->level[o->levels++] = o->labels;
    else if (o->variant != VARIANT_MATRYOSHKA)
        return 0;
    if (o->levels == 0)
        for (int part = 16; part > 1; part /= 2)
            if (o->F/part > 0)
                o->level[o->levels++] = o->F/part;
    if (o->levels && o->level[o->levels - 1] > o->F)
        return err_set(e, "a level of %d features of %d cannot be", o->level[o->levels - 1], o->F);
    if (!o->levels || o->level[o->levels - 1] < o->F)
        o->level[o->levels++] = o->F;
    return 0;
}

/* ---- memory ---- */

void *trainer_memory(Trainer *t, size_t bytes, Err *e)
{
    void **more = realloc(t->memory, sizeof *more*(size_t)(t->memories + 1));
    void *p = more ? op->alloc(bytes, e) : NULL;
    t->memory = more ? more : t->memory;
    if (!more)
        err_set(e, "out of memory");
    if (p)
        t->memory[t->memories++] = p;
    return p;
}

int trainer_need_codes(Trainer *t, Codes *codes, int K, Err *e)
{
    const int64_t n = (int64_t)t->options.batch*K;
    if (n > INT32_MAX)
        return err_set(e, "a batch of %d tokens with up to %d features each is too large", t->options.batch, K);
    const size_t bytes = sizeof(float)*(size_t)n;
    codes->K = K;
    return (codes->a = trainer_memory(t, bytes, e)) && (codes->g_a = trainer_memory(t, bytes, e))
        && (codes->i = trainer_memory(t, bytes, e)) && (codes->order = trainer_memory(t, bytes, e))
        && (codes->start = trainer_memory(t, sizeof(int32_t)*((size_t)t->options.F + 1), e)) ? 0 : -1;
}

static int need_moments(Trainer *t, Param *p, Err *e)
{
    const size_t bytes = sizeof(float)*(size_t)p->rows*(size_t)p->D;
    return (p->gradient = trainer_memory(t, bytes, e)) && (p->m = trainer_memory(t, bytes, e))
        && (p->v = trainer_memory(t, bytes, e)) ? 0 : -1;
}

int trainer_need_param(Trainer *t, const char *name, int n, float first, Err *e)
{
    const size_t bytes = sizeof(float)*(size_t)n;
    Param *p = &t->param[t->params++];
    *p = (Param){.name = name, .rows = 1, .D = n, .by_feature = true, .first = first};
    float *host = malloc(bytes);
    for (int f = 0; host && f < n; f++)
        host[f] = first;
    if (!host || !(p->value = trainer_memory(t, bytes, e))) {
        free(host);
        return err_set(e, "out of memory");
    }
    op->upload(p->value, host, bytes);
    free(host);
    return need_moments(t, p, e);
}

static bool scales(const Trainer *t)
{
    return t->variant->scales || t->options.labels > 0;
}

/* Of t->sums with the counts behind them. */
static size_t measured_bytes(const Trainer *t)
{
    return sizeof(double)*SUMS + sizeof(int32_t)*(size_t)t->options.F;
}

static int take_memory(Trainer *t, Err *e)
{
    const int D = t->options.D, F = t->options.F;
    const size_t B = sizeof(float)*(size_t)t->options.batch, BD = B*(size_t)D;
    const Param four[] = {
        {.name = "W_enc", .value = t->sae->W_enc, .rows = F, .D = D, .by_feature = true},
        {.name = "W_dec", .value = t->sae->W_dec, .rows = F, .D = D, .unit_rows = true,
         .by_feature = true},
        {.name = "b_enc", .value = t->sae->b_enc, .rows = 1, .D = F, .by_feature = true},
        {.name = "b_dec", .value = t->sae->b_dec, .rows = 1, .D = D},
    };
    for (t->params = 0; t->params < MORE; t->params++) {
        t->param[t->params] = four[t->params];
        if (need_moments(t, &t->param[t->params], e))
            return -1;
    }
    t->through_h = t->param[B_ENC].gradient;
    if (!(t->x = trainer_memory(t, BD, e)) || !(t->c = trainer_memory(t, BD, e)) || !(t->g = trainer_memory(t, BD, e))
        || !(t->y = trainer_memory(t, BD, e)) || !(t->mean = trainer_memory(t, sizeof(float)*(size_t)D, e))
        || !(t->g_length = trainer_memory(t, B, e)) || !(t->x_length = trainer_memory(t, B, e))
        || !(t->bound[0] = trainer_memory(t, sizeof(float)*(size_t)F, e))
        || !(t->bound[1] = trainer_memory(t, sizeof(float)*(size_t)F, e))
        || !(t->sums = trainer_memory(t, measured_bytes(t), e)))
        return -1;
    t->counts = (int32_t *)(t->sums + SUMS);
    t->fired = calloc((size_t)F, sizeof *t->fired);
    t->read = op->alloc_host(measured_bytes(t));
    t->dead = calloc((size_t)F, sizeof *t->dead);
    t->scaled = scales(t) ? op->alloc_host(BD) : NULL;
    if (!t->fired || !t->read || !t->dead || (scales(t) && !t->scaled))
        return err_set(e, "out of memory for training %d features", F);
    t->count = (int32_t *)(t->read + SUMS);
    return 0;
}

void trainer_free(Trainer *t)
{
    if (!t)
        return;
    if (t->own)
        t->variant->free(t);
    trainer_free_labels(t);
    for (int p = 0; p < t->memories; p++)
        op->free(t->memory[p]);
    free(t->memory);
    op->sae.encoder_free(t->encoder);
    op->sae.encoder_free(t->dead_encoder);
    sae_free(t->sae);
    free(t->fired);
    op->free_host(t->read);
    free(t->dead);
    op->free_host(t->scaled);
    free(t);
}

int trainer_create(Trainer **out, const TrainOptions *options, Err *e)
{
    *out = NULL;
    Trainer *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, "out of memory");
    t->options = *options;
    t->variant = variant_ops(options->variant);
    t->scale = 1;
    t->sparsity = options->sparsity;
    t->K_aux = options->k_aux ? options->k_aux : options->D < 128 ? (options->D + 1)/2 : 64;
    if (t->K_aux > options->F)
        t->K_aux = options->F;
    if (t->variant->no_dead_term)
        t->options.auxk = 0;
    if (train_options_settle(&t->options, e) || trainer_take_shard(t, e)
        || sae_create(&t->sae, options->D, t->options.F, options->K, e) || take_memory(t, e)
        || trainer_need_exchange(t, e) || t->variant->create(t, e)
        || (t->options.labels > 0 && trainer_need_labels(t, e))) {
        trainer_free(t);
        return -1;
    }
    *out = t;
    return 0;
}

Sae *trainer_sae(Trainer *t)
{
    return t->sae;
}

int64_t trainer_tokens(const Trainer *t)
{
    return t->tokens;
}

/* ---- start ---- */

double trainer_square_length(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t j = 0; j < n; j++)
        sum += (double)x[j]*(double)x[j];
    return sum;
}

int trainer_start(Trainer *t, const float *x, int64_t N, Err *e)
{
    const size_t D = (size_t)t->options.D, F = (size_t)t->all_features, own = sizeof(float)*(size_t)t->options.F*D;
    trainer_order(t, ORDER_START);
    float *host = malloc(sizeof(float)*(F + 1)*D);
    if (!host || (trainer_leads(t) && geometric_median(host + F*D, x, N, t->options.D))) {
        free(host);
        return err_set(e, "out of memory");
    }
    if (scales(t))
        t->scale = sqrt((double)D/fmax(trainer_square_length(x, N*(int64_t)D)/(double)N, 1e-30));
    for (size_t d = 0; d < D; d++)
        host[F*D + d] = (float)(host[F*D + d]*t->scale);
    trainer_tell(t, host + F*D, sizeof(float)*D);
    noise_torch(host, F*D, t->options.seed);
    for (size_t f = 0; f < F; f++) {
        const double square = trainer_square_length(host + f*D, (int64_t)D);
        for (size_t d = 0; d < D; d++)
            host[f*D + d] = (float)(host[f*D + d]/sqrt(square));
    }
    op->upload(t->sae->W_dec, host + (size_t)t->first_feature*D, own);
    op->upload(t->sae->W_enc, host + (size_t)t->first_feature*D, own);
    op->upload(t->sae->b_dec, host + F*D, sizeof(float)*D);
    free(host);
    return t->variant->start ? t->variant->start(t, e) : 0;
}

/* ---- one step ---- */

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

void trainer_read(Trainer *t)
{
    op->download(t->read, t->sums, measured_bytes(t));
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
    for (int b = 0; by_rows(t) && t->options.clip > 0 && b < 2; b++)
        op->sae.sum_squares(&t->sums[BOUND + b], t->bound[b], F);
    trainer_sum_doubles(t, &t->sums[BOUND], 2);
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

static void adam(Trainer *t, int first, AdamStep s)
{
    for (int p = first; p < t->params; p++) {
        s.unit_rows = t->param[p].unit_rows;
        op->sae.adam(t->param[p].value, t->param[p].m, t->param[p].v, t->param[p].gradient, t->param[p].rows,
                     t->param[p].D, &s);
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
    const Param *dec = &t->param[W_DEC], *enc = &t->param[W_ENC];
    const AdamState W_dec = {dec->value, dec->m, dec->v}, W_enc = {enc->value, enc->m, enc->v};
    t->steps++;
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
