/* SPDX-License-Identifier: MIT */
/* sae_learner.h -- one autoencoder of a fit: its trainer, its learning rate over the tokens, and what was measured.
 *
 * Learning rate: constant, then linearly to 0 over the last part of the tokens; where their number is not known before
 * the input ends (a pipe larger than the buffer, without `tokens`, or with fewer than these), over what is then left in
 * the buffer. */
#ifndef SRC_MODELS_SAE_LEARNER_H
#define SRC_MODELS_SAE_LEARNER_H

#include "src/models/sae_train.h"

typedef struct LearnerOptions {
    TrainOptions train;             /* D is set from the tokens, F where 0; batch 0: 1024, from 8192 features on 4096;
                                     * dead 0: 50 F/K, so that one ten times as rare as the mean is seldom taken for
                                     * dead */
    int64_t expansion;              /* F = expansion * D where train.F is 0 */
    double rate;                    /* 0: 7e-4/sqrt(F/2^14): sparsify's rule, its rate for short trainings */
    double decay;                   /* part of the tokens over which the rate falls to 0 */
    int64_t warmup;                 /* tokens over which it rises from 0 */
    int64_t tokens;                 /* to train on; 0: passes decide */
    int64_t resample;               /* tokens after which dead features are begun anew, in the first half; 0: never */
} LearnerOptions;

typedef struct FitReport {
    TrainStep step;
    double rate;
    int64_t tokens, total;          /* trained on so far, and altogether; total -1: not known yet */
    int64_t steps;
} FitReport;

typedef struct Learner {
    LearnerOptions options;
    Trainer *trainer;               /* NULL before the first round */
    int64_t taken;                  /* tokens of the buffer's present round trained on */
    int64_t total, decay_from;      /* tokens to be trained on, -1 until known; where the rate begins to fall */
    FitReport last;                 /* its fvu is the mean over the last 2^16 tokens or more */
    double recent_error, recent;    /* running sums for it */
    double gradient;                /* as the checkpoint had it, before the first step after that */
    bool stepped;
    bool done;                      /* has trained on options.tokens */
} Learner;

/* Zeroed memory with options becomes a learner for tokens of width D; open options are settled. unit: tokens that stay
 * together. */
int learner_settle(Learner *l, int D, int unit, Err *e);
/* labels: how many features are to be tied to one, now that it is known. */
int learner_start(Learner *l, int labels, const float *x, int64_t N, Err *e);
/* What a pass over n tokens trains on, in whole batches; fewer than a batch are one. */
int64_t learner_part(const Learner *l, int64_t n);
/* The first word on the total counts. */
void learner_know_total(Learner *l, int64_t total);
/* But no more tokens than these are to come: where the total was none, or more, the rate falls to 0 from where it is. */
void learner_end_after(Learner *l, int64_t tokens);
int learner_step(Learner *l, const float *x, const uint8_t *label, int64_t n, Err *e);
int64_t learner_tokens(const Learner *l);
/* trainer_gradient, or what a checkpoint said. */
double learner_gradient(const Learner *l);
int learner_store(const Learner *l, Checkpoint *c, const char *part, Err *e);
/* After settle. labels: those of the run, where it has begun. */
int learner_restore(Learner *l, Checkpoint *c, const char *part, int labels, Err *e);

#endif
