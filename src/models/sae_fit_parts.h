/* SPDX-License-Identifier: MIT */
/* sae_fit_parts.h -- a fit, for sae_fit.c and sae_fit_state.c. */
#ifndef SRC_MODELS_SAE_FIT_PARTS_H
#define SRC_MODELS_SAE_FIT_PARTS_H

#include "src/models/batches.h"
#include "src/models/sae_fit.h"
#include "src/models/token_buffer.h"

struct Fit {
    FitOptions options;
    FitFn report;
    void *context;
    TokenBuffer *buffer;            /* NULL before the first token */
    Learner *learner;
    int learners;
    DType type;                     /* of the tokens */
    int D, unit;                    /* unit: tokens that stay together */
    Batches *batches;               /* from the buffer, of up to `batch` tokens; NULL before the first round */
    int64_t batch;
    int64_t seen, pass;             /* tokens pushed in this pass; passes ended */
    int64_t skip;                   /* tokens of this pass that came before the checkpoint */
    int64_t memory_pass;            /* rounds ended, once all of the input is in the buffer */
    bool in_round;                  /* of the buffer: it is shuffled, and learners are on their way through it */
    bool again;                     /* asked for another reading, which has not begun */
    bool last_round;                /* on what is left of an input that does not fit */
    bool overflowed;                /* the input does not fit the buffer */
    bool done, stopped, cut_short;
};

/* Buffer and learners for tokens of these sizes, which are known with the first record. */
int fit_begin(Fit *f, DType type, int D, int unit, Err *e);

#endif
