/* SPDX-License-Identifier: MIT */
/* sae_train.c -- one training step of a top-k autoencoder, in the backend's ops.
 *
 *     c = x - b_dec      a, i = encode(x)      x' = a W_dec + b_dec      g = x' - x      V = |x - mean|^2
 *     dW_dec[f] = sum a g      g_a = g . W_dec[i]      dW_enc[f] = sum g_a c      db_enc[f] = sum g_a
 *                                                                      (sums over n, j with i[n,j] = f)
 *     db_dec = sum_n g - db_enc W_enc                                             all times 2/V
 *
 *   x, c, g (B,D)   a, g_a, i (B,K); the same with (B,k_aux) for dead features, whose g is e_aux - e, e = -g
 *
 * Gradients are kept without the factor 2/V, which joins the clipping in Adam's scale. Then W_dec's gradient loses its
 * part along each row, and the rows are made unit again (sparsify's order: clip, project, step, normalise). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/geometric_median.h"
#include "src/models/noise.h"
#include "src/models/sae_train.h"

static const float BETA1 = 0.9f, BETA2 = 0.999f, EPS = 1e-8f;

struct Trainer {
    TrainOptions options;
    Sae *sae;
    SaeEncoder *encoder, *dead_encoder;
    int64_t tokens, steps;
    int K_most;                         /* candidates a token: K, or 4K of which the batch keeps the largest */
    double least, least_weight;         /* running mean of the least value kept, and what it is to be divided by */
    float *host;                        /* (B,K_most), for choosing */
    int K_aux;                          /* most dead features taken a token */
    int64_t *fired;                     /* [F] tokens seen when the feature last fired */
    int32_t *count, *dead;              /* [F] host: firings in this batch; dead features */
    float *x, *c, *g, *y;               /* device (B,D): batch, centered, gradient, reconstruction */
    float *a, *g_a, *aux, *g_aux;       /* (B,K), (B,K_aux) */
    int32_t *i, *i_aux, *order, *start, *counts;
    float *mean;                        /* (D) */
    float *dW_enc, *dW_dec, *db_enc, *db_dec;
    float *m[4], *v[4];                 /* Adam's moments of W_enc, W_dec, b_enc, b_dec */
};

/* ---- memory ---- */

typedef struct Place { void *field; size_t bytes; } Place;      /* field: address of the pointer */

static int take_memory(Trainer *t, Err *e)
{
    const size_t D = (size_t)t->options.D, F = (size_t)t->options.F;
    const size_t B = (size_t)t->options.batch, K = (size_t)t->K_most;
    const size_t A = (size_t)t->K_aux, most = A > K ? A : K, f = sizeof(float);
    const Place place[] = {
        {&t->x, f*B*D}, {&t->c, f*B*D}, {&t->g, f*B*D}, {&t->y, f*B*D}, {&t->mean, f*D},
        {&t->a, f*B*K}, {&t->g_a, f*B*K}, {&t->aux, f*B*A}, {&t->g_aux, f*B*A},
        {&t->i, f*B*K}, {&t->i_aux, f*B*A}, {&t->order, f*B*most}, {&t->start, f*(F + 1)}, {&t->counts, f*F},
        {&t->dW_enc, f*F*D}, {&t->dW_dec, f*F*D}, {&t->db_enc, f*F}, {&t->db_dec, f*D},
        {&t->m[0], f*F*D}, {&t->m[1], f*F*D}, {&t->m[2], f*F}, {&t->m[3], f*D},
        {&t->v[0], f*F*D}, {&t->v[1], f*F*D}, {&t->v[2], f*F}, {&t->v[3], f*D},
    };
    for (size_t p = 0; p < sizeof place/sizeof *place; p++) {
        void *memory = op->alloc(place[p].bytes, e);
        if (!memory)
            return -1;
        memcpy(place[p].field, &memory, sizeof memory);
    }
    t->host = t->options.batch_topk ? malloc(f*B*K) : calloc(1, 1);
    t->fired = calloc(F, sizeof *t->fired);
    t->count = calloc(F, sizeof *t->count);
    t->dead = calloc(F, sizeof *t->dead);
    return t->host && t->fired && t->count && t->dead ? 0 : err_set(e, "out of memory for training %zu features", F);
}

void trainer_free(Trainer *t)
{
    if (!t)
        return;
    void *device[] = {
        t->x, t->c, t->g, t->y, t->mean, t->a, t->g_a, t->aux, t->g_aux, t->i, t->i_aux, t->order, t->start, t->counts,
        t->dW_enc, t->dW_dec, t->db_enc, t->db_dec,
        t->m[0], t->m[1], t->m[2], t->m[3], t->v[0], t->v[1], t->v[2], t->v[3],
    };
    for (size_t p = 0; p < sizeof device/sizeof *device; p++)
        if (device[p])
            op->free(device[p]);
    op->sae.encoder_free(t->encoder);
    op->sae.encoder_free(t->dead_encoder);
    sae_free(t->sae);
    free(t->host);
    free(t->fired);
    free(t->count);
    free(t->dead);
    free(t);
}

int trainer_create(Trainer **out, const TrainOptions *options, Err *e)
{
    *out = NULL;
    Trainer *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, "out of memory");
    t->options = *options;
    t->K_aux = options->k_aux ? options->k_aux : (options->D + 1)/2;
    if (t->K_aux > options->F)
        t->K_aux = options->F;
    t->K_most = !options->batch_topk ? options->K : options->K > options->F/4 ? options->F : 4*options->K;
    if ((int64_t)options->batch*(t->K_most > t->K_aux ? t->K_most : t->K_aux) > INT32_MAX) {
        free(t);
        return err_set(e, "a batch of %d tokens is too large", options->batch);
    }
    if (sae_create(&t->sae, options->D, options->F, options->K, e) || take_memory(t, e)
        || op->sae.encoder_create(&t->encoder, options->D, options->F, options->type, e)) {
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

int trainer_start(Trainer *t, const float *x, int64_t N, Err *e)
{
    const size_t D = (size_t)t->options.D, F = (size_t)t->options.F;
    float *host = malloc(sizeof(float)*(F + 1)*D);
    if (!host || geometric_median(host + F*D, x, N, t->options.D)) {
        free(host);
        return err_set(e, "out of memory");
    }
    noise_torch(host, F*D, t->options.seed);
    for (size_t f = 0; f < F; f++) {
        double square = 0;
        for (size_t d = 0; d < D; d++)
            square += (double)host[f*D + d]*(double)host[f*D + d];
        for (size_t d = 0; d < D; d++)
            host[f*D + d] = (float)(host[f*D + d]/sqrt(square));
    }
    op->upload(t->sae->W_dec, host, sizeof(float)*F*D);
    op->upload(t->sae->W_enc, host, sizeof(float)*F*D);
    op->upload(t->sae->b_dec, host + F*D, sizeof(float)*D);
    free(host);
    return 0;
}

/* ---- one step ---- */

static uint32_t bits_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

/* The `wanted`-th largest of n values, none negative: their bits are of the same order; 16 at a time. */
static uint32_t find_least(const float *a, int64_t n, int64_t wanted)
{
    static int64_t bin[1 << 16];
    uint32_t high = 0;
    for (int part = 0; part < 2; part++) {
        memset(bin, 0, sizeof bin);
        for (int64_t j = 0; j < n; j++) {
            const uint32_t u = bits_of(a[j]);
            if (part == 0 || u >> 16 == high)
                bin[part == 0 ? u >> 16 : u & 0xffff]++;
        }
        uint32_t b = 0xffff;
        for (; b > 0 && bin[b] < wanted; b--)
            wanted -= bin[b];
        high = part == 0 ? b : high << 16 | b;
    }
    return high;
}

/* BatchTopK: of the candidates (N,K_most) the N*K largest stay, ties in order; the others become 0. */
static void keep_largest(Trainer *t, int64_t N)
{
    const int64_t n = N*t->K_most, wanted = N*t->options.K;
    int64_t above = 0;
    float least = 0;
    op->download(t->host, t->a, sizeof(float)*(size_t)n);
    const uint32_t bound = find_least(t->host, n, wanted);
    for (int64_t j = 0; j < n; j++)
        above += bits_of(t->host[j]) > bound;
    for (int64_t j = 0; j < n; j++) {
        const uint32_t u = bits_of(t->host[j]);
        if (u < bound || (u == bound && above++ >= wanted))
            t->host[j] = 0;
        else if (t->host[j] > 0 && (least == 0 || t->host[j] < least))
            least = t->host[j];
    }
    op->upload(t->a, t->host, sizeof(float)*(size_t)n);
    if (least == 0)
        return;
    t->least += 0.01*((double)least - t->least);
    t->least_weight += 0.01*(1 - t->least_weight);
    t->sae->threshold = (float)(t->least/t->least_weight);
    t->sae->K = t->K_most;
}

static int list_dead(Trainer *t)
{
    int n = 0;
    for (int f = 0; f < t->options.F; f++)
        if (t->tokens - t->fired[f] > t->options.dead)
            t->dead[n++] = f;
    return n;
}

/* Gradients of one set of kept features, added to those of the weights with factor c. */
static void add_gradients(Trainer *t, float c, const float *a, float *g_a, const int32_t *i, const float *g, int64_t N,
                          int K)
{
    const int D = t->options.D, F = t->options.F;
    op->sae.code_grad(g_a, g, a, i, t->sae->W_dec, N, D, K);
    op->sae.invert(t->start, t->order, i, N, F, K);
    op->sae.row_grads(t->dW_dec, t->dW_enc, t->db_enc, c, a, g_a, g, t->c, t->start, t->order, F, D, K);
}

/* The dead features' term: they learn what the living left over. g holds x' - x = -e; y becomes e_aux - e. */
static int add_dead(Trainer *t, int64_t N, int dead, double *square, Err *e)
{
    const int D = t->options.D, K = dead < t->K_aux ? dead : t->K_aux;
    if (!t->dead_encoder && op->sae.encoder_create(&t->dead_encoder, D, t->options.F, t->options.type, e))
        return -1;
    op->sae.encoder_pack(t->dead_encoder, t->sae->W_enc, t->sae->b_enc, t->sae->b_dec, t->dead, dead);
    op->sae.encode(t->dead_encoder, t->aux, t->i_aux, t->x, N, K);
    op->sae.decode(t->y, t->aux, t->i_aux, t->sae->W_dec, NULL, N, D, K);
    op->add(t->y, t->g, N*D);
    *square = op->sae.sum_squares(t->y, N*D);
    const double share = dead < t->K_aux ? (double)dead/t->K_aux : 1;
    add_gradients(t, (float)(t->options.auxk*share), t->aux, t->g_aux, t->i_aux, t->y, N, K);
    return 0;
}

/* Adam on the four weights; factor: of the gradients as kept. */
static void update(Trainer *t, double rate, double factor, double norm)
{
    const TrainOptions *o = &t->options;
    const double clip = o->clip > 0 && norm > o->clip ? o->clip/norm : 1;
    const double n = (double)++t->steps;
    AdamStep s = {.rate = (float)rate, .scale = (float)(factor*clip), .beta1 = BETA1, .beta2 = BETA2, .eps = EPS,
                  .unbias1 = (float)(1/(1 - pow((double)BETA1, n))), .unbias2 = (float)(1/(1 - pow((double)BETA2, n)))};
    op->sae.adam(t->sae->W_enc, t->m[0], t->v[0], t->dW_enc, o->F, o->D, &s);
    op->sae.adam(t->sae->b_enc, t->m[2], t->v[2], t->db_enc, 1, o->F, &s);
    op->sae.adam(t->sae->b_dec, t->m[3], t->v[3], t->db_dec, 1, o->D, &s);
    s.unit_rows = true;
    op->sae.adam(t->sae->W_dec, t->m[1], t->v[1], t->dW_dec, o->F, o->D, &s);
}

static int64_t mark_fired(Trainer *t, int64_t N)
{
    const size_t F = (size_t)t->options.F;
    int64_t total = 0;
    memset(t->count, 0, sizeof *t->count*F);
    op->upload(t->counts, t->count, sizeof *t->count*F);
    op->sae.count(t->counts, t->a, t->i, N, t->K_most);
    op->download(t->count, t->counts, sizeof *t->count*F);
    t->tokens += N;
    for (size_t f = 0; f < F; f++) {
        total += t->count[f];
        if (t->count[f])
            t->fired[f] = t->tokens;
    }
    return total;
}

int trainer_gradients(Trainer *t, const float *x, int64_t N, Gradients *out, TrainStep *step, Err *e)
{
    const int D = t->options.D, F = t->options.F, K = t->K_most;
    const int64_t FD = (int64_t)F*D;
    const Sae *s = t->sae;
    double aux = 0;
    op->upload(t->x, x, sizeof(float)*(size_t)N*(size_t)D);
    op->sae.encoder_pack(t->encoder, s->W_enc, s->b_enc, s->b_dec, NULL, F);
    op->sae.encode(t->encoder, t->a, t->i, t->x, N, K);
    if (t->options.batch_topk)
        keep_largest(t, N);
    op->sae.decode(t->y, t->a, t->i, s->W_dec, s->b_dec, N, D, K);
    op->sae.center(t->c, t->x, s->b_dec, N, D);
    const double spread = fmax(op->sae.moments(t->mean, t->x, N, D), 1e-30);
    const double square = op->sae.difference(t->g, t->y, t->x, N*D);

    add_gradients(t, 1, t->a, t->g_a, t->i, t->g, N, K);
    const int dead = t->options.auxk > 0 ? list_dead(t) : 0;
    if (dead && add_dead(t, N, dead, &aux, e))
        return -1;
    op->sae.column_sum(t->db_dec, 1, NULL, t->g, N, D);
    op->sae.column_sum(t->db_dec, -1, t->db_enc, s->W_enc, F, D);       /* b_dec enters h with a minus */

    const double factor = 2/spread;
    const double norm = factor*sqrt(op->sae.sum_squares(t->dW_enc, FD) + op->sae.sum_squares(t->dW_dec, FD)
                                    + op->sae.sum_squares(t->db_enc, F) + op->sae.sum_squares(t->db_dec, D));
    if (!isfinite(square) || !isfinite(norm))
        return err_set(e, "after %lld tokens the loss is not a number any more; try a lower --lr",
                       (long long)t->tokens);
    *out = (Gradients){t->dW_enc, t->dW_dec, t->db_enc, t->db_dec, factor, norm};
    *step = (TrainStep){.fvu = square/spread, .aux = aux/spread, .gradient = norm, .dead = dead};
    return 0;
}

int trainer_step(Trainer *t, const float *x, int64_t N, double rate, TrainStep *step, Err *e)
{
    Gradients g;
    if (trainer_gradients(t, x, N, &g, step, e))
        return -1;
    update(t, rate, g.factor, g.norm);
    step->l0 = (double)mark_fired(t, N)/(double)N;
    return 0;
}

/* ---- checkpoint ---- */

enum { KEPT = 12 };

typedef struct Kept { const char *name; float *values; size_t n; } Kept;

static void list_kept(Kept kept[KEPT], const Trainer *t)
{
    static const char *const names[KEPT] = {"W_enc", "W_dec", "b_enc", "b_dec", "m.W_enc", "m.W_dec", "m.b_enc",
                                            "m.b_dec", "v.W_enc", "v.W_dec", "v.b_enc", "v.b_dec"};
    const size_t D = (size_t)t->options.D, F = (size_t)t->options.F, n[] = {F*D, F*D, F, D};
    float *const weight[] = {t->sae->W_enc, t->sae->W_dec, t->sae->b_enc, t->sae->b_dec};
    for (int p = 0; p < KEPT; p++)
        kept[p] = (Kept){names[p], p < 4 ? weight[p] : p < 8 ? t->m[p - 4] : t->v[p - 8], n[p % 4]};
}

int trainer_store(const Trainer *t, Checkpoint *c, const char *part, Err *e)
{
    Kept kept[KEPT];
    const int64_t counts[] = {t->tokens, t->steps};
    const double least[] = {t->least, t->least_weight};
    list_kept(kept, t);
    for (int p = 0; p < KEPT; p++)
        if (checkpoint_put(c, part, kept[p].name, F32, kept[p].values, kept[p].n, true, e))
            return -1;
    return checkpoint_put(c, part, "fired", I64, t->fired, (size_t)t->options.F, false, e)
        || checkpoint_put(c, part, "least", F64, least, 2, false, e)
        || checkpoint_put(c, part, "counts", I64, counts, 2, false, e);
}

int trainer_restore(Trainer *t, Checkpoint *c, const char *part, Err *e)
{
    Kept kept[KEPT];
    int64_t counts[2];
    double least[2];
    list_kept(kept, t);
    for (int p = 0; p < KEPT; p++)
        if (checkpoint_get(c, part, kept[p].name, F32, kept[p].values, kept[p].n, true, e))
            return -1;
    if (checkpoint_get(c, part, "fired", I64, t->fired, (size_t)t->options.F, false, e)
        || checkpoint_get(c, part, "least", F64, least, 2, false, e)
        || checkpoint_get(c, part, "counts", I64, counts, 2, false, e))
        return -1;
    t->tokens = counts[0];
    t->steps = counts[1];
    t->least = least[0];
    t->least_weight = least[1];
    if (t->least_weight > 0) {
        t->sae->threshold = (float)(t->least/t->least_weight);
        t->sae->K = t->K_most;
    }
    return 0;
}
