/* SPDX-License-Identifier: MIT */
/* unet_tape.c -- evaluations of the UNet: run, and from the third of its kind on played from a tape where the backend
 * takes them down.
 *
 * All that changes are values in memory: from step to step x and the sinusoids of t, from batch to batch the text's
 * keys and values and what it adds to the time embedding. The first evaluation of a kind makes the workspace, the
 * libraries' plans and scratch memory; the next one is taken down. */
#include <string.h>
#include "src/models/unet_parts.h"

/* The tape of a kind of evaluation; a new kind takes the place that was not asked for longest, and *known is false. */
static UNetTape *tape_for(UNet *u, const UNetKey *key, bool *known)
{
    UNetTape *oldest = &u->tape[0];
    *known = false;
    u->evaluations++;
    for (int i = 0; i < UNET_TAPES && !*known; i++) {
        UNetTape *t = &u->tape[i];
        *known = memcmp(&t->key, key, sizeof *key) == 0;
        if (*known || t->used < oldest->used)
            oldest = t;
    }
    if (!*known) {
        tape_free(oldest->tape);
        *oldest = (UNetTape){.key = *key};
    }
    oldest->used = u->evaluations;
    return oldest;
}

static void take_down(UNet *u, UNetTape *kind, float *eps, const float *x, int64_t H, int64_t W)
{
    Err quiet = {0};
    Tape *t = tape_begin();
    const int failed = t ? unet_evaluate(u, eps, x, H, W, t, &quiet) : -1;
    if (t && tape_end(t) && !failed) {
        kind->tape = t;
    } else {
        tape_free(t);
        kind->refused = true;
    }
}

int unet_eval(UNet *u, float *eps, const float *x, int64_t B, int64_t H, int64_t W, float t, Err *e)
{
    if (B != u->B)
        return err_set(e, "a batch of %lld images, but text for %lld", (long long)B, (long long)u->B);
    if (u->config.P && !u->has_added)
        return err_set(e, "text without its pooled embedding, which the model takes");
    if (unet_set_time(u, t, e))
        return -1;
    const UNetKey key = {B, H, W, u->S, u->text_rows, u->hooks.count, x, eps, u->kv, u->kv_index, u->shift_rows,
                         u->added, u->added_rows, u->work.piece[0].data};
    bool known = false;
    UNetTape *kind = tape_for(u, &key, &known);
    if (known && !kind->tape && !kind->refused)
        take_down(u, kind, eps, x, H, W);
    if (kind->tape)
        return tape_play(kind->tape, &u->hooks, e);
    return unet_evaluate(u, eps, x, H, W, NULL, e) ? -1 : workspace_settle(&u->work, e);
}

void unet_free_tapes(UNet *u)
{
    for (int i = 0; i < UNET_TAPES; i++)
        tape_free(u->tape[i].tape);
}
