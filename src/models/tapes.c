/* SPDX-License-Identifier: MIT */
/* tapes.c -- tapes of the few kinds of evaluations that a network is asked for by turns. */
#include <string.h>
#include "src/models/tapes.h"

/* The tape of a kind of evaluation; a new kind takes the place that was not asked for longest, and *known is false. */
static struct TapeKind *tape_for(Tapes *all, const TapeKey *key, bool *known)
{
    struct TapeKind *oldest = &all->kind[0];
    *known = false;
    all->evaluations++;
    for (int i = 0; i < TAPES && !*known; i++) {
        struct TapeKind *k = &all->kind[i];
        *known = memcmp(&k->key, key, sizeof *key) == 0;
        if (*known || k->used < oldest->used)
            oldest = k;
    }
    if (!*known) {
        tape_free(oldest->tape);
        *oldest = (struct TapeKind){.key = *key};
    }
    oldest->used = all->evaluations;
    return oldest;
}

static void take_down(struct TapeKind *kind, EvaluateFn evaluate, void *context)
{
    Err quiet = {0};
    Tape *t = tape_begin();
    const int failed = t ? evaluate(context, t, &quiet) : -1;
    if (t && tape_end(t) && !failed) {
        kind->tape = t;
    } else {
        tape_free(t);
        kind->refused = true;
    }
}

int tapes_run(Tapes *all, TapeKey key, EvaluateFn evaluate, void *context, const Hooks *hooks, Workspace *work, Err *e)
{
    bool known = false;
    key.memory[sizeof key.memory/sizeof *key.memory - 1] = work->piece[0].data;
    struct TapeKind *kind = tape_for(all, &key, &known);
    if (known && !kind->tape && !kind->refused)
        take_down(kind, evaluate, context);
    if (kind->tape)
        return tape_play(kind->tape, hooks, e);
    return evaluate(context, NULL, e) ? -1 : workspace_settle(work, e);
}

void tapes_free(Tapes *all)
{
    for (int i = 0; i < TAPES; i++)
        tape_free(all->kind[i].tape);
}
