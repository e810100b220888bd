/* SPDX-License-Identifier: MIT */
/* rank_score.h -- from statistics to ranks: scores of features for each label and timestep, the best kept in order.
 *
 * c: the pictures of a label at a timestep; rest: those of all other labels of its kind there and those without a
 * label, pooled. S(f) sum of activations, mean(f) = S(f) / tokens, var(f) variance over pictures of the picture's mean.
 *
 *   saeuron     S_c(f) / sum_f S_c(f)  -  S_rest(f) / sum_f S_rest(f)
 *               Cywinski, Deja 2025 (arXiv 2501.18052), section 4.2
 *   difference  mean_c(f) - mean_rest(f)
 *   effect      (mean_c(f) - mean_rest(f)) / sqrt((var_c(f) + var_rest(f)) / 2 + 1e-9)
 *               Cohen's d
 *   ratio       log((mean_c(f) + u) / (mean_rest(f) + u)), u the mean over f of mean_c and mean_rest
 *               smooth where both are rare
 *   share       (mean_c(f) - mean_rest(f)) mean_c(f) / sum of mean(f) over the labels
 *               much of this label, and of no other
 *   frequency   share of c's tokens where f is active, less that of rest's
 *   auroc       (1 + share of c's pictures with f - share of rest's pictures with f) / 2
 *               the area under the curve of the rule "a picture in which f is active is of c"
 *   assigned    1 for the feature that the autoencoder's training tied to the label, 0 for the others
 *   margin      mean_c(f) - max(f), max the largest mean(f) of any other label or of the pictures without one
 *               features that no other label shares */
#ifndef SRC_MODELS_RANK_SCORE_H
#define SRC_MODELS_RANK_SCORE_H

#include "src/models/rank_stats.h"
#include "src/models/ranks.h"

typedef enum {
    SCORE_SAEURON, SCORE_DIFFERENCE, SCORE_EFFECT, SCORE_RATIO, SCORE_SHARE, SCORE_FREQUENCY, SCORE_AUROC, SCORE_MARGIN,
    SCORE_ASSIGNED, SCORES
} ScoreKind;
extern const char *const score_names[SCORES];

/* ScoreKind of a name, -1 when unknown. */
int score_parse(const char *name);
/* score[F] of the pictures c against rest; rest without pictures counts as zero. mean_sum [F]: of the labels' means;
 * rival [F]: the largest mean of the others. */
void rank_scores(float *score, ScoreKind kind, const RankCell *c, const RankCell *rest, const double *mean_sum,
                 const double *rival, int F);

/* Takes one label at one timestep; the entry is good for the call. */
typedef int (*RankSink)(void *context, const RankEntry *entry, Err *e);
/* assigned: {"concept": {"Bears": 0, ...}, ...} as sae-fit --labels leaves it in cfg.json, for that score, else NULL.
 * Every label of every kind, in the order kind, label, t descending, with its `top` best features (0: all), ties to the
 * lower feature. A kind that no picture has is left out. Memory: 40 F bytes a timestep. */
int rank_stats_rank(const RankStats *s, ScoreKind score, const json_t *assigned, int top, RankSink sink, void *context,
                    Err *e);
/* A record of a ranks stream from an entry; its tensors are the entry's. */
void rank_record(Record *rec, const RankEntry *entry);

#endif
