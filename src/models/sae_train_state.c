/* SPDX-License-Identifier: MIT */
/* sae_train_state.c -- a trainer's state: to a checkpoint and back, and as an autoencoder to be saved.
 *
 * An input scaled by s is folded into an exported autoencoder that keeps unit rows: features, biases and gate are
 * divided by s, W_enc and W_dec stay, since h and all that is kept of it grow with the input.
 *
 *     a W_dec + b_dec ~ s x   =>   (a/s) W_dec + b_dec/s ~ x      h/s = (x - b_dec/s) W_enc^T + b_enc/s */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/sae_trainer.h"

static int divide(float *device, int n, double s, Err *e)
{
    if (!device || s == 1)
        return 0;
    float *host = malloc(sizeof *host*(size_t)n);
    if (!host)
        return err_set(e, "out of memory");
    op->download(host, device, sizeof *host*(size_t)n);
    for (int j = 0; j < n; j++)
        host[j] = (float)(host[j]/s);
    op->upload(device, host, sizeof *host*(size_t)n);
    free(host);
    return 0;
}

/* b_dec, and the features' weights, a team's by way of the host. */
static int export_weights(Trainer *t, Sae *s, Err *e)
{
    float *const to[] = {s ? s->W_enc : NULL, s ? s->W_dec : NULL, s ? s->b_enc : NULL, s ? s->b_dec : NULL};
    const size_t F = (size_t)t->all_features, D = (size_t)t->options.D;
    float *host = t->options.team && s ? malloc(sizeof(float)*F*D) : NULL;
    if (t->options.team && s && !host)
        return err_set(e, "out of memory for the weights of all features");
    for (int p = 0; p < MORE; p++) {
        const Param *w = &t->param[p];
        const size_t of_feature = sizeof(float)*(w->rows > 1 ? D : 1);
        if (t->options.team && w->by_feature)
            trainer_pass_rows(t, host, w->value, of_feature, true, true);
        if (s && t->options.team && w->by_feature)
            op->upload(to[p], host, of_feature*F);
        else if (s)
            op->copy(to[p], w->value, sizeof(float)*(size_t)w->rows*(size_t)w->D);
    }
    free(host);
    return 0;
}

int trainer_export(Trainer *t, Sae **out, Err *e)
{
    Sae *s = NULL;
    *out = NULL;
    trainer_order(t, ORDER_EXPORT);
    if (!trainer_leads(t))
        return export_weights(t, NULL, e);
    if (sae_create(&s, t->options.D, t->all_features, t->options.K, e))
        return -1;
    if (export_weights(t, s, e) || (t->variant->gate && t->variant->gate(t, s, e))
        || divide(s->b_enc, s->F, t->scale, e) || divide(s->b_dec, s->D, t->scale, e)
        || divide(s->threshold, s->F, t->scale, e) || divide(s->offset, s->F, t->scale, e)) {
        sae_free(s);
        return -1;
    }
    *out = s;
    return 0;
}

/* ---- checkpoint ---- */

enum { NAME = 64, PIECES = 3*PARAMS + 4 };

typedef struct Piece {
    char name[NAME];
    DType type;
    void *values;
    size_t n;
    bool device, by_feature;        /* by_feature: a team's is of all ranks' features */
} Piece;

typedef struct Scalars { int64_t counts[2]; double figures[2]; } Scalars;

/* All that a checkpoint holds of a trainer. Returns how many pieces. */
static int list_state(Trainer *t, Scalars *scalars, Piece piece[PIECES])
{
    int n = 0;
    for (int p = 0; p < t->params; p++) {
        const Param *w = &t->param[p];
        void *const values[] = {w->value, w->m, w->v, w->pairs};
        static const char *const before[] = {"", "m.", "v.", "moments."};
        for (int v = 0; v < 4; v++) {
            if (!values[v])
                continue;
            piece[n] = (Piece){"", v == 3 ? I32 : F32, values[v], (size_t)w->rows*(size_t)w->D, true, w->by_feature};
            snprintf(piece[n++].name, NAME, "%s%s", before[v], w->name);
        }
    }
    piece[n++] = (Piece){"fired", I64, t->fired, (size_t)t->options.F, false, true};
    piece[n++] = (Piece){"counts", I64, scalars->counts, 2, false, false};
    piece[n++] = (Piece){"figures", F64, scalars->figures, 2, false, false};
    piece[n++] = (Piece){"variant", F64, t->variant->state(t), (size_t)t->variant->states, false, false};
    return n;
}

/* A piece's values of all features, and bytes of one of them. */
static size_t whole_count(const Trainer *t, const Piece *p)
{
    return p->by_feature ? p->n/(size_t)t->options.F*(size_t)t->all_features : p->n;
}

static size_t feature_bytes(const Trainer *t, const Piece *p)
{
    return p->n/(size_t)t->options.F*dtype_size(p->type);
}

static int put(Trainer *t, Checkpoint *c, const char *part, const Piece *p, Err *e)
{
    if (!t->options.team || !p->by_feature)
        return c ? checkpoint_put(c, part, p->name, p->type, p->values, p->n, p->device, e) : 0;
    const size_t n = whole_count(t, p);
    void *all = c ? malloc(n*dtype_size(p->type)) : NULL;
    if (c && !all)
        return err_set(e, "out of memory for %s of all features", p->name);
    trainer_pass_rows(t, all, p->values, feature_bytes(t, p), p->device, true);
    const int failed = c && checkpoint_put(c, part, p->name, p->type, all, n, false, e);
    free(all);
    return failed ? -1 : 0;
}

static int get(Trainer *t, Checkpoint *c, const char *part, const Piece *p, Err *e)
{
    if (!t->options.team)
        return checkpoint_get(c, part, p->name, p->type, p->values, p->n, p->device, e);
    const size_t n = whole_count(t, p), bytes = n*dtype_size(p->type);
    void *all = c || !p->by_feature ? malloc(bytes) : NULL;
    int failed = all || (!c && p->by_feature) ? 0 : err_set(e, "out of memory for %s of all features", p->name);
    if (!failed && c)
        failed = checkpoint_get(c, part, p->name, p->type, all, n, false, e);
    if (!failed && p->by_feature)
        trainer_pass_rows(t, all, p->values, feature_bytes(t, p), p->device, false);
    else if (!failed) {
        trainer_tell(t, all, bytes);
        if (p->device)
            op->upload(p->values, all, bytes);
        else
            memcpy(p->values, all, bytes);
    }
    free(all);
    return failed ? -1 : 0;
}

int trainer_store(Trainer *t, Checkpoint *c, const char *part, Err *e)
{
    Scalars s = {{t->tokens, t->steps}, {t->scale, t->sparsity}};
    Piece piece[PIECES];
    trainer_order(t, ORDER_STORE);
    const int pieces = list_state(t, &s, piece);
    for (int p = 0; p < pieces; p++)
        if (put(t, c, part, &piece[p], e))
            return -1;
    return 0;
}

int trainer_restore(Trainer *t, Checkpoint *c, const char *part, Err *e)
{
    Scalars s = {0};
    Piece piece[PIECES];
    trainer_order(t, ORDER_RESTORE);
    const int pieces = list_state(t, &s, piece);
    for (int p = 0; p < pieces; p++)
        if (get(t, c, part, &piece[p], e))
            return -1;
    const char *of = part ? part : "";          /* a team's other ranks are not told */
    if (s.counts[0] < 0 || s.counts[0] > MOST_TOKENS || s.counts[1] < 0 || s.counts[1] > MOST_TOKENS
        || !(s.figures[0] > 0) || isinf(s.figures[0]) || (s.figures[1] < 0 && t->options.variant != VARIANT_JUMPRELU))
        return err_set(e, "checkpoint: %s: counts or figures that cannot be", of);
    for (int f = 0; f < t->options.F; f++)
        if (t->fired[f] < 0 || t->fired[f] > s.counts[0])
            return err_set(e, "checkpoint: %s: fired: value %d is %lld, expected 0 to %lld", of, f,
                           (long long)t->fired[f], (long long)s.counts[0]);
    t->tokens = s.counts[0];
    t->steps = s.counts[1];
    t->sparsity = s.figures[1];
    if (trainer_set_scale(t, s.figures[0], e))
        return -1;
    return t->variant->resume(t, e);
}
