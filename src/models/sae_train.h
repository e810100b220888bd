/* SPDX-License-Identifier: MIT */
/* sae_train.h -- one autoencoder in training: start, step, what it measured. Where the tokens come from is sae_fit.h's.
 *
 *     loss = |x - x'|^2 / V + auxk min(dead/k_aux, 1) |e - e_aux|^2 / V + the variant's own term,  V = |x - mean|^2
 *
 *   e = x - x', held fixed      e_aux = sum over the k_aux largest of the dead features' h (at least 0) times their
 *   rows of W_dec, without b_dec. Sums over the batch.
 *
 *     topk         the K largest a token                                  Gao et al. 2024, arXiv 2406.04093
 *       multi      + |x - x'_4K|^2 / 8V, of the 4K largest                the same, section A.3
 *     batchtopk    the N*K largest of a batch; a threshold is kept        Bussmann et al. 2024, arXiv 2412.06410
 *     sampletopk   the S*K largest of each picture's S tokens             SAeUron (arXiv 2501.18052)
 *     matryoshka   batchtopk, with |x - x'|^2 of each level's first       Bussmann et al. 2025, arXiv 2503.17547
 *                  features alone in place of |x - x'|^2
 *     jumprelu     h above a learned threshold;  + sparsity * L0          Rajamanoharan et al. 2024, arXiv 2407.14435
 *     gated        a gate and a magnitude;       + sparsity * |gate|_1    Rajamanoharan et al. 2024, arXiv 2404.16014
 *     relu         h above 0;                    + sparsity * |a|_1       Bricken et al. 2023 (Towards Monosemanticity)
 *
 * The last three bound no token's number of features: they keep h of a whole batch in memory, see the input scaled to a
 * mean square length of D (folded into what is saved), and find the sparsity by themselves at which K features are kept
 * on the mean, unless it is given (SAELens's measure: mean |x - x'|^2 + sparsity * mean L0; both are divided by V/N). The
 * others see the input as it is, but for values that deviate by less than 1/64: those times a power of two, likewise.
 *
 * As sparsify and SAELens train, with two faults of older versions mended: the dead features learn e and not -e, and
 * b_dec is not in e_aux. Everything is on the device; the same batches give the same weights whatever the threads. */
#ifndef SRC_MODELS_SAE_TRAIN_H
#define SRC_MODELS_SAE_TRAIN_H

#include <stdbool.h>
#include "kernels/team.h"
#include "src/models/checkpoint.h"
#include "src/models/sae.h"

typedef enum {
    VARIANT_TOPK, VARIANT_BATCHTOPK, VARIANT_SAMPLETOPK, VARIANT_MATRYOSHKA, VARIANT_JUMPRELU, VARIANT_GATED,
    VARIANT_RELU, VARIANTS
} SaeVariant;

enum { MAX_LEVELS = 8 };
static const int64_t MOST_TOKENS = (int64_t)1 << 46;   /* of a training, and steps */

const char *sae_variant_name(SaeVariant v);
/* -1 when there is none of that name. */
int sae_variant_find(SaeVariant *v, const char *name);

typedef struct TrainOptions {
    SaeVariant variant;
    int D, F, K;
    bool multi;                 /* topk only */
    int levels, level[MAX_LEVELS];  /* matryoshka: features of each, rising, F added; 0: F/16, F/8, ... */
    int sample;                 /* sampletopk: tokens of a picture; batches hold whole ones, one after another */
    int batch;                  /* most tokens a step */
    DType type;                 /* of the encoder's product, where only the largest are kept */
    DType moments;              /* Adam's, of W_enc and W_dec: F32 or BF16 (kernels/adam_pair.h) */
    double auxk;                /* weight of the dead features' term; 0: none. gated has none */
    int k_aux;                  /* 0: D/2, at most 64 */
    int64_t dead;               /* tokens without firing after which a feature is dead */
    double clip;                /* of the gradient's norm over all weights; 0: none */
    double sparsity;            /* jumprelu, gated, relu; 0: found */
    double width;               /* jumprelu: of the window in which a threshold learns; 0: 0.05 */
    int labels;                 /* of the variants that keep the largest: feature f is tied to label f < labels */
    double assign, decorrelate; /* weights of the terms that tie them (sae_train_labels.c) */
    uint64_t seed;              /* of W_dec's rows */
    Team *team;                 /* that shares the features out (sae_shards.h), or NULL */
} TrainOptions;

/* Settles what follows from the rest: the levels of matryoshka, or of labels, up to F. trainer_create does it by
 * itself. */
int train_options_settle(TrainOptions *o, Err *e);

typedef struct TrainStep {      /* of one batch, before its update */
    double fvu;                 /* |x - x'|^2 / |x - mean|^2 */
    double aux;                 /* the dead features' term without its weights, 0 without dead features */
    double l0;                  /* kept values above 0, a token */
    double sparsity;            /* as given or found; 0 for variants without */
    double supervised;          /* the labels' terms, 0 without */
    int dead;                   /* features */
} TrainStep;

typedef struct Trainer Trainer;

int trainer_create(Trainer **t, const TrainOptions *options, Err *e);
void trainer_free(Trainer *t);
/* The trainer's own, as it learns: its input may be scaled, a gate is not in it, and of a team's only this rank's
 * features are. */
Sae *trainer_sae(Trainer *t);
/* A copy with everything folded in, to encode and to be saved; cfg is empty. */
int trainer_export(Trainer *t, Sae **s, Err *e);
/* First weights: W_dec rows normal from the seed, made unit; W_enc = W_dec; b_enc = 0; b_dec = geometric median of x
 * (N,D, host). */
int trainer_start(Trainer *t, const float *x, int64_t N, Err *e);
/* The loss's gradients at x (N,D), host, with label (N,labels), 1 where a token's picture has it (NULL without labels);
 * N <= batch: device memory, to be multiplied by factor, good until the next
 * step. norm: with factor. */
typedef struct Gradients {
    const float *W_enc, *W_dec, *b_enc, *b_dec;
    const float *more[2];       /* jumprelu: threshold; gated: r_mag, b_mag (b_enc is the gate's) */
    double factor, norm;
} Gradients;
int trainer_gradients(Trainer *t, const float *x, const uint8_t *label, int64_t N, Gradients *g, TrainStep *step,
                      Err *e);
/* Gradients, and one update along them. Fails when the loss is no longer a number, naming the tensor that is not. */
int trainer_step(Trainer *t, const float *x, const uint8_t *label, int64_t N, double rate, TrainStep *step, Err *e);
/* Norm of the last step's gradient, before clipping. Waits for the device, as trainer_step does not at its end. */
double trainer_gradient(const Trainer *t);
int64_t trainer_tokens(const Trainer *t);
/* After a step of N tokens: dead features are begun anew on those of its tokens that are reconstructed worst. */
int trainer_resample(Trainer *t, int64_t N, Err *e);

/* All that the next step depends on; restore: into a trainer made with the same options. A team's is of all features:
 * it looks as one device's. */
int trainer_store(Trainer *t, Checkpoint *c, const char *part, Err *e);
int trainer_restore(Trainer *t, Checkpoint *c, const char *part, Err *e);

#endif
