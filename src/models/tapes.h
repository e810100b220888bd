/* SPDX-License-Identifier: MIT */
/* tapes.h -- evaluations of a network: run, and from the third of their kind on played from a tape where the backend
 * takes them down.
 *
 * All that changes between two of a kind are values in memory: from step to step x and the sinusoids of t, from batch
 * to batch what was made of the texts. The first evaluation of a kind makes the workspace, the libraries' plans and
 * scratch memory; the next one is taken down. */
#ifndef SRC_MODELS_TAPES_H
#define SRC_MODELS_TAPES_H

#include "src/models/tape.h"
#include "src/models/workspace.h"

/* What an evaluation's ops are given, but for the weights. Zeros where there is no more. */
typedef struct TapeKey {
    int64_t size[7];
    const void *memory[9];          /* the last is the workspace, filled in here */
} TapeKey;

enum { TAPES = 4 };

typedef struct Tapes {              /* all zero: none yet */
    struct TapeKind {
        TapeKey key;
        Tape *tape;                 /* NULL: not yet */
        bool refused;               /* it cannot be taken down */
        int64_t used;               /* the evaluation that asked for it last */
    } kind[TAPES];
    int64_t evaluations;
} Tapes;

/* One evaluation. With a tape ops and hooks are taken down, not run. Returns 0, or -1 with e set. */
typedef int (*EvaluateFn)(void *context, Tape *tape, Err *e);

/* Runs or plays the evaluation that key says, in the workspace, which is empty before and after. Returns 0, or -1 with
 * e set, by a hook or for want of memory. */
int tapes_run(Tapes *t, TapeKey key, EvaluateFn evaluate, void *context, const Hooks *hooks, Workspace *work, Err *e);
void tapes_free(Tapes *t);          /* before the memory that they play on */

#endif
