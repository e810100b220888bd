/* SPDX-License-Identifier: MIT */
/* sae_trainer.c -- what a trainer is made of: its variant, settled options, memory, first weights. Its steps:
 * sae_train.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/geometric_median.h"
#include "src/models/noise.h"
#include "src/models/sae_trainer.h"

/* ---- variants and options ---- */

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
    if (o->labels > o->F)
        return err_set(e, "%d labels need a feature each, and there are %d", o->labels, o->F);
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
    if (!(p->gradient = trainer_memory(t, bytes, e)))
        return -1;
    if (t->options.moments == BF16 && p->rows > 1)
        return (p->pairs = trainer_memory(t, bytes, e)) ? 0 : -1;
    return (p->m = trainer_memory(t, bytes, e)) && (p->v = trainer_memory(t, bytes, e)) ? 0 : -1;
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

/* Of t->sums with the counts behind them. */
static size_t measured_bytes(const Trainer *t)
{
    return sizeof(double)*SUMS + sizeof(int32_t)*(size_t)t->options.F;
}

void trainer_read(Trainer *t)
{
    op->download(t->read, t->sums, measured_bytes(t));
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
    if (!t->fired || !t->read || !t->dead)
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

int trainer_set_scale(Trainer *t, double scale, Err *e)
{
    t->scale = scale;
    if (scale != 1 && !t->scaled)
        t->scaled = op->alloc_host(sizeof(float)*(size_t)t->options.batch*(size_t)t->options.D);
    return scale == 1 || t->scaled ? 0 : err_set(e, "out of memory for training on %d values", t->options.D);
}

/* Root mean square of what the values of each of D are away from their mean. */
static double deviation(const float *x, int64_t N, size_t D)
{
    double square = 0;
    for (size_t d = 0; d < D; d++) {
        double sum = 0;
        for (int64_t n = 0; n < N; n++)
            sum += (double)x[(size_t)n*D + d];
        for (int64_t n = 0; n < N; n++)
            square += pow((double)x[(size_t)n*D + d] - sum/(double)N, 2);
    }
    return sqrt(square/((double)N*(double)D));
}

/* To a mean square length of D; where the variant needs no scale, small values alone are scaled, by a power of two: a
 * step of Adam is as large for b_dec whatever it is in, and drowned values of a thousandth. */
static double input_scale(const Trainer *t, const float *x, int64_t N)
{
    const double small = 1.0/64, least = 0x1p-100;
    const size_t D = (size_t)t->options.D;
    if (t->variant->scales || t->options.labels > 0)
        return sqrt((double)D/fmax(trainer_square_length(x, N*(int64_t)D)/(double)N, 1e-30));
    const double off = deviation(x, N, D);
    return off > least && off < small ? ldexp(1, -1 - ilogb(off)) : 1;
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
    if (trainer_set_scale(t, input_scale(t, x, N), e)) {
        free(host);
        return -1;
    }
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
