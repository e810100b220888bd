/* SPDX-License-Identifier: MIT */
/* sae_train_topk.c -- variants that keep the largest features: topk, batchtopk, sampletopk, matryoshka.
 *
 *     a, i = the largest of h      x' = a W_dec + b_dec      g = x' - x
 *     dW_dec[f] = sum a g      g_a = g . W_dec[i]      dW_enc[f] = sum g_a c      db_enc[f] = sum g_a
 *                                                                      (sums over n, j with i[n,j] = f)
 *   x, c, g (B,D)   a, g_a, i (B,K)
 *
 * The largest of a batch are chosen among each token's K largest, with K above the mean that is kept. That is exact
 * when no token keeps all of its K; where one does, K is doubled and the batch encoded again.
 *
 * Matryoshka: level l has the features below level[l], and its own x'_l; with G_l = sum over m >= l of (x'_m - x), a
 * feature that enters at level l has g = G_l. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/sae_trainer.h"

enum { LEAST, WEIGHT, ROOM, STATES };           /* of the threshold's mean; K */
static const double FORGET = 0.01;              /* SAELens's topk_threshold_lr */

typedef struct TopK {
    Codes codes;
    float *kept, *g_kept;                       /* (B,K) part of codes.a, and its dL/da */
    double *found, *read;                       /* least value kept of each group, rows that are full; read: host */
    float *level[MAX_LEVELS];                   /* (B,D); with multi the first is dL/dx' of all 4K */
    double state[STATES];
} TopK;

static double *state(Trainer *t)
{
    return ((TopK *)t->own)->state;
}

static int need_room(Trainer *t, int K, Err *e)
{
    TopK *own = t->own;
    own->state[ROOM] = K;
    if (trainer_need_codes(t, &own->codes, K, e))
        return -1;
    if (t->options.levels == 0 && !t->options.multi)
        return 0;
    const size_t bytes = sizeof(float)*(size_t)t->options.batch*(size_t)K;
    return (own->kept = trainer_memory(t, bytes, e)) && (own->g_kept = trainer_memory(t, bytes, e)) ? 0 : -1;
}

static int four_times(const TrainOptions *o)
{
    return o->K > o->F/4 ? o->F : 4*o->K;
}

static int create(Trainer *t, Err *e)
{
    TrainOptions *o = &t->options;
    TopK *own = t->own = calloc(1, sizeof *own);
    if (!own)
        return err_set(e, "out of memory");
    for (int l = 0; l < (o->multi ? 1 : o->levels); l++)
        if (!(own->level[l] = trainer_memory(t, sizeof(float)*(size_t)o->batch*(size_t)o->D, e)))
            return -1;
    const size_t bytes = sizeof(double)*((size_t)o->batch + 2);
    if (!(own->found = trainer_memory(t, bytes, e)) || !(own->read = malloc(bytes)))
        return err_set(e, "out of memory");
    if (op->sae.encoder_create(&t->encoder, o->D, o->F, o->type, e))
        return -1;
    return need_room(t, o->variant != VARIANT_TOPK || o->multi ? four_times(o) : o->K, e);
}

static void release(Trainer *t)
{
    free(((TopK *)t->own)->read);
    free(t->own);
}

static int resume(Trainer *t, Err *e)
{
    const TopK *own = t->own;
    const double K = own->state[ROOM];
    const int least = own->codes.K, most = t->options.variant == VARIANT_TOPK ? least : t->options.F;
    if (!(K >= least && K <= most && K == floor(K)))
        return err_set(e, "checkpoint: up to %g features a token, expected %d to %d", K, least, most);
    return K > least ? need_room(t, (int)K, e) : 0;
}

/* Of the N tokens' features the largest N*K stay, in groups of `group` tokens. Gives the least that stayed, and whether
 * all of some token's K did. Waits for the device once. */
static float keep_largest(Trainer *t, int64_t N, int64_t group, bool *full)
{
    TopK *own = t->own;
    const int K = own->codes.K;
    const int64_t whole = N/group, rest = N%group, groups = whole + (rest > 0);
    float least = 0;
    op->sae.keep_largest(own->found, own->codes.a, group*K, group*t->options.K, whole);
    if (rest)
        op->sae.keep_largest(own->found + whole, own->codes.a + whole*group*K, rest*K, rest*t->options.K, 1);
    op->sae.full_rows(own->found + groups, own->codes.a, N, K);
    op->download(own->read, own->found, sizeof *own->read*(size_t)(groups + 1));
    for (int64_t g = 0; g < groups; g++) {
        const float of_group = (float)own->read[g];
        if (least == 0 || (of_group > 0 && of_group < least))
            least = of_group;
    }
    *full = own->read[groups] > 0;
    return least;
}

static int choose_over_batch(Trainer *t, int64_t N, Err *e)
{
    TopK *own = t->own;
    const int64_t group = t->options.variant == VARIANT_SAMPLETOPK && t->options.sample ? t->options.sample : N;
    for (;;) {
        op->sae.encode(t->encoder, own->codes.a, own->codes.i, t->x, N, own->codes.K);
        bool full;
        const float least = keep_largest(t, N, group, &full);
        if (own->codes.K < t->options.F && full) {
            if (need_room(t, own->codes.K > t->options.F/2 ? t->options.F : 2*own->codes.K, e))
                return -1;
            continue;
        }
        if (least > 0) {
            own->state[LEAST] += FORGET*((double)least - own->state[LEAST]);
            own->state[WEIGHT] += FORGET*(1 - own->state[WEIGHT]);
        }
        return 0;
    }
}

/* By a team: of the features that each rank found, the largest of all. */
static void reconstruct_together(Trainer *t, int64_t N)
{
    Codes *c = &((TopK *)t->own)->codes;
    const int D = t->options.D;
    const float *W_dec = t->sae->W_dec;
    trainer_keep(t, c->a, NULL, N, c->K);
    op->sae.decode(t->y, c->a, c->i, W_dec, trainer_leads(t) ? t->sae->b_dec : NULL, N, D, c->K);
    trainer_sum_floats(t, t->y, N*D);
    op->sae.difference(t->g, &t->sums[SQUARE], t->y, t->x, N*D);
    op->sae.code_grad(c->g_a, t->g, c->a, c->i, W_dec, N, D, c->K);
}

/* One level: all features. */
static void add_whole(Trainer *t, int64_t N)
{
    Codes *c = &((TopK *)t->own)->codes;
    const int D = t->options.D;
    if (t->options.team)
        reconstruct_together(t, N);
    else
        op->sae.reconstruct(t->g, c->g_a, &t->sums[SQUARE], c->a, c->i, t->sae->W_dec, t->sae->b_dec, t->x, N, D,
                            c->K);
    trainer_add_part(t, 1, c, t->g, N);
    if (trainer_leads(t))                       /* the sum over ranks is still to come */
        op->sae.column_sum(t->param[B_DEC].gradient, 1, NULL, t->g, N, D);
    op->sae.count(t->counts, c->a, c->i, N, c->K);
}

/* The first K, and a term of all 4K at an eighth. */
static void add_multi(Trainer *t, int64_t N)
{
    TopK *own = t->own;
    Codes *c = &own->codes, first = *c;
    const int D = t->options.D;
    const Sae *s = t->sae;
    first.a = own->kept;
    first.g_a = own->g_kept;
    op->sae.head(first.a, c->a, N, c->K, t->options.K);
    op->sae.reconstruct(t->g, first.g_a, &t->sums[SQUARE], first.a, c->i, s->W_dec, s->b_dec, t->x, N, D, c->K);
    trainer_add_part(t, 1, &first, t->g, N);
    op->sae.reconstruct(own->level[0], c->g_a, &t->sums[OTHER], c->a, c->i, s->W_dec, s->b_dec, t->x, N, D, c->K);
    trainer_add_part(t, 1/8.f, c, own->level[0], N);
    op->sae.column_sum(t->param[B_DEC].gradient, 1, NULL, t->g, N, D);
    op->sae.column_sum(t->param[B_DEC].gradient, 1/8.f, NULL, own->level[0], N, D);
    op->sae.count(t->counts, first.a, c->i, N, c->K);
}

static void add_levels(Trainer *t, int64_t N)
{
    TopK *own = t->own;
    Codes *c = &own->codes;
    const TrainOptions *o = &t->options;
    const int D = o->D;
    const Sae *s = t->sae;
    for (int l = 0; l < o->levels; l++) {
        op->sae.select(own->kept, c->a, c->i, l ? o->level[l - 1] : 0, o->level[l], N*c->K);
        op->sae.decode(own->level[l], own->kept, c->i, s->W_dec, l ? NULL : s->b_dec, N, D, c->K);
        if (l)
            op->add(own->level[l], own->level[l - 1], N*D);
    }
    for (int l = 0; l < o->levels; l++)         /* the last is of all features */
        op->sae.difference(own->level[l], &t->sums[l == o->levels - 1 ? SQUARE : OTHER], own->level[l], t->x, N*D);
    op->copy(t->g, own->level[o->levels - 1], sizeof(float)*(size_t)N*(size_t)D);
    op->sae.invert(c->start, c->order, c->i, N, o->F, c->K);
    for (int l = o->levels - 1; l >= 0; l--) {
        const int from = l ? o->level[l - 1] : 0;
        if (l < o->levels - 1)
            op->add(own->level[l], own->level[l + 1], N*D);
        op->sae.select(own->kept, c->a, c->i, from, o->level[l], N*c->K);
        if (l == o->levels - 1)
            op->sae.code_grad(c->g_a, own->level[l], own->kept, c->i, s->W_dec, N, D, c->K);
        else {
            op->sae.code_grad(own->g_kept, own->level[l], own->kept, c->i, s->W_dec, N, D, c->K);
            op->add(c->g_a, own->g_kept, N*c->K);
        }
        t->part[t->parts++] = (CodePart){c->a, c->g_a, own->level[l], c->start, c->order, 1, c->K, from, o->level[l]};
    }
    op->sae.column_sum(t->param[B_DEC].gradient, 1, NULL, own->level[0], N, D);
    op->sae.count(t->counts, c->a, c->i, N, c->K);
}

static int pass(Trainer *t, int64_t N, Err *e)
{
    TopK *own = t->own;
    const Sae *s = t->sae;
    op->sae.encoder_pack(t->encoder, t->packed ? NULL : s->W_enc, s->b_enc, s->b_dec, NULL, t->options.F);
    if (t->options.variant == VARIANT_TOPK)
        op->sae.encode(t->encoder, own->codes.a, own->codes.i, t->x, N, own->codes.K);
    else if (choose_over_batch(t, N, e))
        return -1;
    (t->options.levels ? add_levels : t->options.multi ? add_multi : add_whole)(t, N);
    return 0;
}

/* The threshold: the mean of each batch's least value kept, the last 100 counting most. */
static int gate(Trainer *t, Sae *s, Err *e)
{
    const TopK *own = t->own;
    const double threshold = own->state[WEIGHT] > 0 ? own->state[LEAST]/own->state[WEIGHT] : 0;
    float *host = malloc(sizeof *host*(size_t)s->F);
    if (!host || sae_need_gate(s, &s->threshold, e)) {
        free(host);
        return err_set(e, "out of memory");
    }
    for (int f = 0; f < s->F; f++)
        host[f] = (float)threshold;
    op->upload(s->threshold, host, sizeof *host*(size_t)s->F);
    free(host);
    s->K = own->codes.K;
    return 0;
}

const SaeVariantOps topk_family[VARIANTS] = {
    [VARIANT_TOPK] = {"topk", false, false, true, create, release, NULL, pass, NULL, STATES, state, resume},
    [VARIANT_BATCHTOPK] = {"batchtopk", false, false, true, create, release, NULL, pass, gate, STATES, state, resume},
    [VARIANT_SAMPLETOPK] = {"sampletopk", false, false, true, create, release, NULL, pass, gate, STATES, state, resume},
    [VARIANT_MATRYOSHKA] = {"matryoshka", false, false, true, create, release, NULL, pass, gate, STATES, state, resume},
};
