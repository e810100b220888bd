/* SPDX-License-Identifier: MIT */
/* sae_fit.h -- fits autoencoders to a stream of tokens that may be larger than memory: one, or several side by side.
 *
 * Tokens are pushed as they come. While they fit the buffer nothing happens; when it is full, a random half or
 * somewhat less is trained on and makes room (so tokens of many pictures and timesteps meet in a batch), to the last
 * token. At the end of the input, either all of
 * it is in the buffer, and as many passes as asked for are made from memory; or the caller reads it again, or what is
 * left is trained on and that was it.
 *
 * Several learners share the buffer and its order, each with batches of its own size: each ends in the weights that it
 * would have alone.
 *
 * With a gate, one thread pushes while another trains: the same tokens meet in the same batches. All but fit_push
 * belongs to the thread that trains; fit_input_ended waits for no one, the reader must have left. */
#ifndef SRC_MODELS_SAE_FIT_H
#define SRC_MODELS_SAE_FIT_H

#include <stdbool.h>
#include "src/models/fit_gate.h"
#include "src/models/labels.h"
#include "src/models/sae_learner.h"

typedef struct FitOptions {
    const LearnerOptions *learner;  /* copied */
    int learners;
    int64_t tokens;                 /* to train on; 0: epochs decides */
    int64_t epochs;                 /* passes over the input */
    int64_t buffer;                 /* tokens; 0: 2^20 or 512 MB, whichever is less */
    bool pictures;                  /* mix whole records, not tokens */
    Labels *labels;                 /* to tie features to, or NULL; the caller's. A record's tag is of these */
    uint64_t seed;                  /* of the order */
    FitGate *gate;                  /* the caller's; NULL: fit_push trains when the buffer is full */
} FitOptions;

/* After every step of a learner: fit_store may be called. Nonzero: stop here, keeping what was learned. */
typedef int (*FitFn)(void *context, int learner, const FitReport *report);

typedef struct Fit Fit;

int fit_create(Fit **f, const FitOptions *options, FitFn report, void *context, Err *e);
void fit_free(Fit *f);
/* One record's tokens (n,D) as they came, already known to be numbers. Returns 1 when no more are wanted (n = 0
 * asks), or the gate is closed, 0, -1. */
int fit_push(Fit *f, const void *tokens, DType type, int D, int32_t tag, int64_t n, Err *e);
/* With a gate, when it asks: a round, after which there is room for more. -1: error */
int fit_make_room(Fit *f, Err *e);
/* The input has ended. again: it can be read once more. Returns 1 when it should be, 0 when the fit is complete, -1. */
int fit_input_ended(Fit *f, bool again, Err *e);
/* After the end: a pipe that did not fit the buffer could not be passed over as often as asked for. */
bool fit_cut_short(const Fit *f);
void fit_stop(Fit *f);              /* between two rounds: what is not complete stays as it is */
bool fit_stopped(const Fit *f);     /* by report or fit_stop */
const LearnerOptions *fit_options(const Fit *f, int learner);   /* settled once a token has come */
const FitReport *fit_last(const Fit *f, int learner);           /* of the last step */
double fit_gradient(const Fit *f, int learner);                 /* its gradient's norm; waits for the device */
/* The autoencoder as it is now, the caller's; *s is NULL when nothing was learned. */
int fit_export(Fit *f, int learner, Sae **s, Err *e);

/* All of a fit's state, to a part of a checkpoint: between calls, or from within FitFn. After a stop it is too late. */
int fit_store(const Fit *f, Checkpoint *c, const char *part, Err *e);
/* Into a fit just made with the same options. Then the same input is pushed again from the beginning of the pass: what
 * had been taken is skipped, and training goes on in the middle of where it was. */
int fit_restore(Fit *f, Checkpoint *c, const char *part, Err *e);

#endif
