/* SPDX-License-Identifier: MIT */
/* sae_train.h -- one top-k autoencoder in training: start, step, what it measured. Where the tokens come from is
 * sae_fit.h's.
 *
 *     loss = |x - x'|^2 / |x - mean|^2 + auxk * min(dead/k_aux, 1) * |e - e_aux|^2 / |x - mean|^2
 *
 *   e = x - x', held fixed      e_aux = sum over the k_aux largest of the dead features' h (at least 0) times their
 *   rows of W_dec, without b_dec. Sums over the batch.
 *
 * BatchTopK (Bussmann et al. 2024, arXiv 2412.06410): a batch keeps its N*K largest, however they fall on its tokens,
 * at most 4K on one. The autoencoder's threshold is the mean of the least value kept, over some 100 steps (SAELens's
 * rate, 0.01; begun without the bias to 0).
 *
 * Gao et al. 2024 (arXiv 2406.04093), section 2; as sparsify trains, with two faults of older versions mended: the dead
 * features learn e and not -e, and b_dec is not in e_aux. Everything is on the device; the same batches give the
 * same weights whatever the threads. */
#ifndef SRC_MODELS_SAE_TRAIN_H
#define SRC_MODELS_SAE_TRAIN_H

#include "src/models/checkpoint.h"
#include "src/models/sae.h"

typedef struct TrainOptions {
    int D, F, K;
    bool batch_topk;            /* the N*K largest of a batch of N, in place of K a token */
    int batch;                  /* most tokens a step */
    DType type;                 /* of the encoder's product */
    double auxk;                /* weight of the second term; 0: none */
    int k_aux;                  /* 0: D/2 */
    int64_t dead;               /* tokens without firing after which a feature is dead */
    double clip;                /* of the gradient's norm over all weights; 0: none */
    uint64_t seed;              /* of W_dec's rows */
} TrainOptions;

typedef struct TrainStep {      /* of one batch, before its update */
    double fvu;                 /* |x - x'|^2 / |x - mean|^2 */
    double aux;                 /* the second term without its weights, 0 without dead features */
    double l0;                  /* kept values above 0, a token */
    double gradient;            /* norm, before clipping */
    int dead;                   /* features */
} TrainStep;

typedef struct Trainer Trainer;

int trainer_create(Trainer **t, const TrainOptions *options, Err *e);
void trainer_free(Trainer *t);
Sae *trainer_sae(Trainer *t);   /* the trainer's own: weights, and cfg to be filled before it is saved */
/* First weights: W_dec rows normal from the seed, made unit; W_enc = W_dec; b_enc = 0; b_dec = geometric median of x
 * (N,D, host). */
int trainer_start(Trainer *t, const float *x, int64_t N, Err *e);
/* The loss's gradients at x (N,D), host, N <= batch: device memory, to be multiplied by factor, good until the next
 * step. norm: with factor. */
typedef struct Gradients {
    const float *W_enc, *W_dec, *b_enc, *b_dec;
    double factor, norm;
} Gradients;
int trainer_gradients(Trainer *t, const float *x, int64_t N, Gradients *g, TrainStep *step, Err *e);
/* Gradients, and one update along them. Fails when the loss is no longer a number. */
int trainer_step(Trainer *t, const float *x, int64_t N, double rate, TrainStep *step, Err *e);
int64_t trainer_tokens(const Trainer *t);
/* Weights, moments and counts, to and from a part of a checkpoint; the options must be the same. */
int trainer_store(const Trainer *t, Checkpoint *c, const char *part, Err *e);
int trainer_restore(Trainer *t, Checkpoint *c, const char *part, Err *e);

#endif
