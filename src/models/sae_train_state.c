/* SPDX-License-Identifier: MIT */
/* sae_train_state.c -- a trainer's state: to a checkpoint and back, and as an autoencoder to be saved.
 *
 * An input scaled by s is folded into an exported autoencoder that keeps unit rows: features, biases and gate are
 * divided by s, W_enc and W_dec stay, since h and all that is kept of it grow with the input.
 *
 *     a W_dec + b_dec ~ s x   =>   (a/s) W_dec + b_dec/s ~ x      h/s = (x - b_dec/s) W_enc^T + b_enc/s */
#include <stdlib.h>
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

int trainer_export(Trainer *t, Sae **out, Err *e)
{
    Sae *s;
    *out = NULL;
    if (sae_create(&s, t->options.D, t->options.F, t->options.K, e))
        return -1;
    float *const to[] = {s->W_enc, s->W_dec, s->b_enc, s->b_dec};
    for (int p = 0; p < MORE; p++)
        op->copy(to[p], t->param[p].value, sizeof(float)*(size_t)t->param[p].rows*(size_t)t->param[p].D);
    if ((t->variant->gate && t->variant->gate(t, s, e)) || divide(s->b_enc, s->F, t->scale, e)
        || divide(s->b_dec, s->D, t->scale, e) || divide(s->threshold, s->F, t->scale, e)
        || divide(s->offset, s->F, t->scale, e)) {
        sae_free(s);
        return -1;
    }
    *out = s;
    return 0;
}

/* ---- checkpoint ---- */

enum { NAME = 64 };

static const char *named(char name[NAME], const char *before, const Param *p)
{
    snprintf(name, NAME, "%s%s", before, p->name);
    return name;
}

int trainer_store(const Trainer *t, Checkpoint *c, const char *part, Err *e)
{
    const int64_t counts[] = {t->tokens, t->steps};
    const double figures[] = {t->scale, t->sparsity};
    char name[NAME];
    for (int p = 0; p < t->params; p++) {
        const Param *w = &t->param[p];
        const size_t n = (size_t)w->rows*(size_t)w->D;
        if (checkpoint_put(c, part, w->name, F32, w->value, n, true, e)
            || checkpoint_put(c, part, named(name, "m.", w), F32, w->m, n, true, e)
            || checkpoint_put(c, part, named(name, "v.", w), F32, w->v, n, true, e))
            return -1;
    }
    return checkpoint_put(c, part, "fired", I64, t->fired, (size_t)t->options.F, false, e)
        || checkpoint_put(c, part, "counts", I64, counts, 2, false, e)
        || checkpoint_put(c, part, "figures", F64, figures, 2, false, e)
        || checkpoint_put(c, part, "variant", F64, t->variant->state((Trainer *)t), (size_t)t->variant->states, false, e);
}

int trainer_restore(Trainer *t, Checkpoint *c, const char *part, Err *e)
{
    int64_t counts[2];
    double figures[2];
    char name[NAME];
    for (int p = 0; p < t->params; p++) {
        const Param *w = &t->param[p];
        const size_t n = (size_t)w->rows*(size_t)w->D;
        if (checkpoint_get(c, part, w->name, F32, w->value, n, true, e)
            || checkpoint_get(c, part, named(name, "m.", w), F32, w->m, n, true, e)
            || checkpoint_get(c, part, named(name, "v.", w), F32, w->v, n, true, e))
            return -1;
    }
    if (checkpoint_get(c, part, "fired", I64, t->fired, (size_t)t->options.F, false, e)
        || checkpoint_get(c, part, "counts", I64, counts, 2, false, e)
        || checkpoint_get(c, part, "figures", F64, figures, 2, false, e)
        || checkpoint_get(c, part, "variant", F64, t->variant->state(t), (size_t)t->variant->states, false, e))
        return -1;
    t->tokens = counts[0];
    t->steps = counts[1];
    t->scale = figures[0];
    t->sparsity = figures[1];
    return 0;
}
