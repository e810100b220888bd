/* SPDX-License-Identifier: MIT */
/* naming.h -- features of an autoencoder named by text, from the pictures that they are active in.
 *
 *   d_f = sum_i a_if x_p(i) / sum_i a_if - mean_i x_p(i)           score(f, c) = cos(d_f, u_c - mean_c u_c)
 *
 *   i a token of a record, p(i) its picture      a_if the feature's activation there, 0 where it is not kept
 *   x_p (P) CLIP's embedding of picture p, of length 1      u_c (P) that of label c (label_texts.h)
 *
 * d_f is what the feature's pictures have beyond all pictures: the covariance of activation and embedding over the mean
 * activation. Where each picture has as many tokens, a picture weighs by the feature's mean over its tokens and
 * timesteps. Both means are taken off since CLIP's pictures and texts lie apart (Liang et al. 2022, arXiv 2203.02053),
 * as SpLiCE does before it writes a picture in words (Bhalla et al. 2024, arXiv 2402.10376, section 4); that a unit is
 * named by CLIP's similarity of its pictures and a list of words is CLIP-Dissect (Oikarinen and Weng 2023, arXiv
 * 2204.10965). tests/bench/README.md has what other scores reach.
 *
 * Sums are in integers (each record's share rounded to 2^-28), so that the order of records and files plays no part.
 * Memory: 4 P bytes and the id a picture, 20 bytes a feature, and of each one that is active 8 P bytes and a bit a
 * picture. */
#ifndef SRC_MODELS_NAMING_H
#define SRC_MODELS_NAMING_H

#include "src/models/feature_tally.h"
#include "src/models/label_texts.h"

typedef struct Naming Naming;

typedef struct Score { int text; double score; } Score;         /* text: place in the LabelTexts */

/* texts stay the caller's while n lives; two or more are needed. */
int naming_create(Naming **n, const LabelTexts *texts, Err *e);
void naming_free(Naming *n);                        /* NULL is fine */
/* All embeddings of a stream, before the first feature. Fails on an id that is missing or came before, on another width
 * than the texts', on a vector of zeros, and where the header names another model than clip (model_id of the model's
 * clip folder; as of autoencoders the hash decides). */
int naming_embeddings(Naming *n, StreamIn *in, const char *clip, Err *e);
/* TallyOptions.record, with the Naming as context: every feature counts, or those that the tally was to choose. A
 * picture without an embedding is an error. */
int naming_record(void *n, const Tally *y, const StreamIn *in, const Record *rec, const FeatureRecord *codes, Err *e);
/* After the last stream: fails when it was of one picture. */
int naming_finish(const Naming *n, Err *e);
long naming_pictures(const Naming *n, int feature); /* that it is active in */
/* best[0..]: the `top` texts of the highest score, highest first, the earlier one on a tie. Returns how many there are:
 * 0 where the feature was never active, or in all pictures alike. */
int naming_best(Naming *n, int feature, Score *best, int top);

#endif
