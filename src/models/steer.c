/* SPDX-License-Identifier: MIT */
/* steer.c -- steering activations through an autoencoder; formulas in steer.h.
 *
 * Rows are taken in blocks: encoded, then turned and the change decoded at once, all on the device, which nobody waits
 * for unless a gate has to be judged. Rows that keep their values are not touched. */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/model.h"
#include "src/models/steer_choose.h"
#include "src/models/workspace.h"

enum { BLOCK_ROWS = 4096, BLOCK_CODES = 1 << 20 };

/* Device memory: what turns points to; (rows,D) of a block for compat_saeuron. */
enum { ROOM_TURN, ROOM_PLACE, ROOM_SHARE, ROOM_RECON, ROOM_STEERED, ROOMS };

struct Steering {
    SteerSpec spec;
    Sae *sae;
    const Ranks *ranks;
    Choice choice;
    bool active;
    SaeTurns turns;                 /* of the step; sets and share of the rows in work */
    const float *mask;              /* [tokens], NULL: none */
    int64_t tokens;
    double *sum;                    /* [F] of a picture's kept values, by place in choice */
    char **labels;                  /* copies that spec points to */
    int32_t *feature;
    float *value;

    struct { void *p; size_t bytes; } room[ROOMS];
    SaeTurn *turn;                  /* [F] of the step, host */
    SaeCodes codes;                 /* of a block */
};

static int copy_spec(Steering *s, const SteerSpec *spec, Err *e)
{
    s->spec = *spec;
    s->labels = calloc(spec->label_count + 1, sizeof *s->labels);
    s->feature = malloc(sizeof *s->feature * (spec->feature_count + 1));
    s->value = malloc(sizeof *s->value * (spec->feature_count + 1));
    if (!s->labels || !s->feature || !s->value)
        return err_set(e, "out of memory");
    for (int i = 0; i < spec->label_count; i++)
        if (!(s->labels[i] = strdup(spec->labels[i])))
            return err_set(e, "out of memory");
    for (int i = 0; i < spec->feature_count; i++) {
        s->feature[i] = spec->feature[i];
        s->value[i] = spec->value[i];
    }
    s->spec.labels = (const char *const *)s->labels;
    s->spec.feature = s->feature;
    s->spec.value = s->value;
    return 0;
}

static int check_spec(const Steering *s, Err *e)
{
    const SteerSpec *spec = &s->spec;
    const Sae *sae = s->sae;
    for (int i = 0; i < spec->feature_count; i++)
        if (spec->feature[i] < 0 || spec->feature[i] >= sae->F)
            return err_set(e, "feature %d: the autoencoder %s has features 0 to %d", spec->feature[i], sae->id,
                           sae->F - 1);
    if (spec->top <= 0 && !(spec->percentile >= 0 && spec->percentile <= 100))
        return err_misuse(e, "--percentile %g does not lie between 0 and 100", spec->percentile);
    if (spec->mode == STEER_ONLY && spec->compat_saeuron)
        return err_misuse(e, "--mode only leaves nothing of what --compat saeuron adds");
    if (!(spec->gate >= 0))
        return err_misuse(e, "--gate %g is below 0", spec->gate);
    if (!spec->label_count)
        return 0;
    if (spec->label_count > STEER_LABELS)
        return err_set(e, "%d labels are steered at once, at most %d can be", spec->label_count, STEER_LABELS);
    if (!s->ranks)
        return err_set(e, "%s '%s' is steered by its ranks, and there are none", spec->kind, spec->labels[0]);
    if (*ranks_sae(s->ranks) && *sae->id && !folder_same(ranks_sae(s->ranks), sae->id))
        return err_set(e, "%s: these ranks were made with the autoencoder %s, this one is %s", ranks_path(s->ranks),
                       ranks_sae(s->ranks), sae->id);
    if (ranks_features(s->ranks) != sae->F)
        return err_set(e, "%s: ranks of %d features, the autoencoder has %d", ranks_path(s->ranks),
                       ranks_features(s->ranks), sae->F);
    for (int i = 0; i < spec->label_count; i++)
        if (!ranks_find(s->ranks, spec->kind, spec->labels[i], 0)) {
            char *known = ranks_labels(s->ranks, spec->kind);
            err_set(e, "%s: no %s '%s'; there are: %s", ranks_path(s->ranks), spec->kind, spec->labels[i],
                    known && *known ? known : "none of that kind");
            free(known);
            return -1;
        }
    return 0;
}

int steering_create(Steering **out, const SteerSpec *spec, Sae *sae, const Ranks *ranks, Err *e)
{
    *out = NULL;
    Steering *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, "out of memory");
    s->sae = sae;
    s->ranks = ranks;
    s->sum = malloc(sizeof *s->sum * sae->F);
    s->turn = malloc(sizeof *s->turn * sae->F);
    if (!s->sum || !s->turn || copy_spec(s, spec, e) || check_spec(s, e) || choice_create(&s->choice, sae->F, e)) {
        err_set(e, "out of memory");
        steering_free(s);
        return -1;
    }
    *out = s;
    return 0;
}

void steering_free(Steering *s)
{
    if (!s)
        return;
    for (int r = 0; r < ROOMS; r++)
        if (s->room[r].p)
            op->free(s->room[r].p);
    free(s->turn);
    sae_codes_free(&s->codes);
    choice_free(&s->choice);
    for (int i = 0; s->labels && i < s->spec.label_count; i++)
        free(s->labels[i]);
    free(s->labels);
    free(s->feature);
    free(s->value);
    free(s->sum);
    free(s);
}

/* NULL with e set when there is none. */
static void *need(Steering *s, int room, size_t bytes, Err *e)
{
    return device_grow(&s->room[room].p, &s->room[room].bytes, bytes ? bytes : 1, e) ? NULL : s->room[room].p;
}

/* A copy on the device. */
static const void *put(Steering *s, int room, const void *host, size_t bytes, Err *e)
{
    void *p = need(s, room, bytes, e);
    if (p)
        op->upload(p, host, bytes);
    return p;
}

/* The features chosen at this step, as the device turns them. */
static int put_turns(Steering *s, Err *e)
{
    const Choice *c = &s->choice;
    for (int j = 0; j < c->count; j++)
        s->turn[j] = steer_turn(s->spec.mode, &c->item[j]);
    s->turns = (SaeTurns){.count = c->count, .all = s->spec.mode == STEER_SET || s->spec.mode == STEER_ADD
                                                    || s->spec.mode == STEER_ONLY};
    return (s->turns.turn = put(s, ROOM_TURN, s->turn, (size_t)c->count * sizeof *s->turn, e))
        && (s->turns.place = put(s, ROOM_PLACE, c->slot, sizeof *c->slot * s->sae->F, e)) ? 0 : -1;
}

int steering_set_step(Steering *s, int t, Err *e)
{
    s->active = false;
    if (choice_make(&s->choice, &s->spec, s->ranks, t, e))
        return -1;
    s->active = s->choice.count > 0 || (s->spec.compat_saeuron && t_range_has(s->spec.when, t));
    return s->active && put_turns(s, e) ? -1 : s->active;
}

void steering_mask(Steering *s, const float *mask, int64_t tokens)
{
    s->mask = mask;
    s->tokens = tokens;
}

static int apply_block(Steering *s, float *x, int64_t rows, Err *e)
{
    const Sae *sae = s->sae;
    const int D = sae->D, K = sae->K;
    const size_t whole = sizeof(float) * rows * D;
    if (sae_codes_grow(&s->codes, (size_t)rows * K, e))
        return -1;
    float *const a = s->codes.a;
    int32_t *const i = s->codes.i;
    if (s->spec.mode == STEER_ONLY) {       /* b_dec, turned as if feature 0 were kept, with nothing of it */
        op->clear(a, sizeof *a * rows * K);
        op->clear(i, sizeof *i * rows * K);
        sae_decode(sae, x, a, i, rows);
        op->sae.steer(x, x, a, i, &s->turns, sae->W_dec, rows, D, 1);
        return 0;
    }
    sae_encode(s->sae, a, i, x, rows);
    if (sae_check_device_codes(sae, a, rows, e))
        return -1;
    if (!s->spec.compat_saeuron) {
        op->sae.steer(x, x, a, i, &s->turns, sae->W_dec, rows, D, K);
        return 0;
    }
    float *const recon = need(s, ROOM_RECON, whole, e), *const steered = recon ? need(s, ROOM_STEERED, whole, e) : NULL;
    if (!steered)
        return -1;
    sae_decode(sae, recon, a, i, rows);
    op->sae.steer(steered, recon, a, i, &s->turns, sae->W_dec, rows, D, K);
    op->subtract(x, recon, x, rows * D);
    op->add(x, steered, rows * D);
    return 0;
}

static int64_t block_rows(const Steering *s)
{
    const int64_t most = BLOCK_CODES / s->sae->K;
    return most < 1 ? 1 : most < BLOCK_ROWS ? most : BLOCK_ROWS;
}

int steering_apply_labels(Steering *s, uint64_t labels, float *x, int64_t N, Err *e)
{
    const int64_t block = block_rows(s);
    if (!s->active || (!labels && s->spec.label_count && !s->spec.feature_count))
        return 0;
    s->turns.sets = labels | (uint64_t)1 << STEER_LABELS;
    s->turns.share = NULL;
    s->turns.shares = s->tokens;
    if (s->mask && !(s->turns.share = put(s, ROOM_SHARE, s->mask, sizeof *s->mask * s->tokens, e)))
        return -1;
    for (s->turns.first = 0; s->turns.first < N; s->turns.first += block) {
        const int64_t n = s->turns.first;
        if (apply_block(s, x + n * s->sae->D, N - n < block ? N - n : block, e))
            return -1;
    }
    return 0;
}

int steering_apply(Steering *s, float *x, int64_t N, Err *e)
{
    return steering_apply_labels(s, ~(uint64_t)0, x, N, e);
}

bool steering_gated(const Steering *s)
{
    return s->spec.gate > 0 && s->spec.label_count > 0;
}

bool steering_always(const Steering *s)
{
    return !steering_gated(s) || s->spec.feature_count > 0;
}

static void add_codes(Steering *s, const float *a, const int32_t *i, int values)
{
    for (int k = 0; k < values; k++)
        if (s->choice.slot[i[k]] >= 0)
            s->sum[s->choice.slot[i[k]]] += a[k];
}

/* shown |= labels whose features, summed over the kept values of a picture's tokens, pass the gate */
static void open_gates(const Steering *s, int64_t tokens, uint64_t *shown)
{
    for (int l = 0; l < s->spec.label_count; l++) {
        double found = 0, wanted = 0;
        for (int j = 0; j < s->choice.count; j++) {
            const Chosen *x = &s->choice.item[j];
            if (x->label != l)
                continue;
            found += s->sum[j] / (double)tokens;
            wanted += x->mean_rest + s->spec.gate * (x->mean - x->mean_rest);
        }
        if (found > wanted)
            *shown |= (uint64_t)1 << l;
    }
}

/* The codes of rows `first` on of all pictures, which follow those before. */
static void gate_rows(Steering *s, const float *a, const int32_t *i, int64_t first, int64_t rows, int64_t tokens,
                      uint64_t *shown)
{
    const int K = s->sae->K;
    for (int64_t n = first; n < first + rows; n++, a += K, i += K) {
        if (n % tokens == 0)
            memset(s->sum, 0, sizeof *s->sum * s->choice.count);
        add_codes(s, a, i, K);
        if (n % tokens == tokens - 1)
            open_gates(s, tokens, &shown[n / tokens]);
    }
}

void steering_gate_codes(Steering *s, const float *a, const int32_t *i, int64_t pictures, int64_t tokens,
                         uint64_t *shown)
{
    if (s->active)
        gate_rows(s, a, i, 0, pictures * tokens, tokens, shown);
}

/* Whether every picture shows every label. */
static bool all_shown(const Steering *s, const uint64_t *shown, int64_t pictures)
{
    const uint64_t all = ((uint64_t)1 << s->spec.label_count) - 1;
    int64_t p = 0;
    while (p < pictures && (shown[p] & all) == all)
        p++;
    return p == pictures;
}

int steering_gate(Steering *s, const float *x, int64_t pictures, int64_t tokens, uint64_t *shown, Err *e)
{
    const int64_t N = pictures * tokens, block = block_rows(s);
    if (!s->active || all_shown(s, shown, pictures))
        return 0;
    for (int64_t n = 0; n < N; n += block) {
        const int64_t rows = N - n < block ? N - n : block;
        if (sae_codes_read(s->sae, &s->codes, x + n * s->sae->D, rows, e))
            return -1;
        gate_rows(s, s->codes.host_a, s->codes.host_i, n, rows, tokens, shown);
    }
    return 0;
}

int steering_features(const Steering *s, int32_t *feature, int max)
{
    for (int j = 0; j < s->choice.count && j < max; j++)
        feature[j] = s->choice.item[j].feature;
    return s->choice.count;
}
