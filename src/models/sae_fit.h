/* SPDX-License-Identifier: MIT */
/* sae_fit.h -- fits an autoencoder to a stream of tokens that may be larger than memory.
 *
 * Tokens are pushed as they come. While they fit the buffer nothing happens; when it is full, a random half is trained
 * on and makes room (so tokens of many pictures and timesteps meet in a batch). At the end of the input, either all of
 * it is in the buffer, and as many passes as asked for are made from memory; or the caller reads it again, or what is
 * left is trained on and that was it.
 *
 * Learning rate: constant, then linearly to 0 over the last part of the tokens; where their number is not known before
 * the input ends (a pipe larger than the buffer, without `tokens`), over what is then left in the buffer. */
#ifndef SRC_MODELS_SAE_FIT_H
#define SRC_MODELS_SAE_FIT_H

#include <stdbool.h>
#include "src/models/sae_train.h"

typedef struct FitOptions {
    TrainOptions train;             /* D is set from the tokens, F where 0; batch 0: 1024, from 8192 features on 4096 */
    int64_t expansion;              /* F = expansion * D where train.F is 0 */
    double rate;                    /* 0: 7e-4/sqrt(F/2^14): sparsify's rule, its rate for short trainings */
    double decay;                   /* part of the tokens over which the rate falls to 0 */
    int64_t warmup;                 /* tokens over which it rises from 0 */
    int64_t tokens;                 /* to train on; 0: epochs decides */
    int64_t epochs;                 /* passes over the input */
    int64_t buffer;                 /* tokens; 0: 2^20 or 512 MB, whichever is less */
} FitOptions;

typedef struct FitReport {
    TrainStep step;
    double rate;
    int64_t tokens, total;          /* trained on so far, and altogether; total -1: not known yet */
    int64_t steps;
} FitReport;

/* After every step: fit_store may be called. Nonzero: stop here, keeping what was learned. */
typedef int (*FitFn)(void *context, const FitReport *report);

typedef struct Fit Fit;

int fit_create(Fit **f, const FitOptions *options, FitFn report, void *context, Err *e);
void fit_free(Fit *f);
/* Tokens (n,D) as they came, already known to be numbers. Returns 1 when no more are wanted (n = 0 asks), 0, -1. */
int fit_push(Fit *f, const void *tokens, DType type, int D, int64_t n, Err *e);
/* The input has ended. again: it can be read once more. Returns 1 when it should be, 0 when the fit is complete, -1. */
int fit_input_ended(Fit *f, bool again, Err *e);
/* After the end: a pipe that did not fit the buffer could not be passed over as often as asked for. */
bool fit_cut_short(const Fit *f);
bool fit_stopped(const Fit *f);     /* by report */
/* of the last step; its fvu is the mean over the last 2^16 tokens or more */
const FitReport *fit_last(const Fit *f);
Sae *fit_sae(Fit *f);               /* NULL when no token came */

/* All of a fit's state, to a part of a checkpoint: between calls, or from within FitFn. After a stop it is too late. */
int fit_store(const Fit *f, Checkpoint *c, const char *part, Err *e);
/* Into a fit just made with the same options. Then the same input is pushed again from the beginning of the pass: what
 * had been taken is skipped, and training goes on in the middle of where it was. */
int fit_restore(Fit *f, Checkpoint *c, const char *part, Err *e);

#endif
