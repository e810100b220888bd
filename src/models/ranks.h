/* SPDX-License-Identifier: MIT */
/* ranks.h -- which features carry a label: a ranks stream in memory, and the threshold of a percentile of its scores.
 *
 *   mean(t,f)       mean over the label's pictures and their tokens of feature f's activation at timestep t
 *   mean_all(t,f)   mean over the labels of mean                        (SAeUron: the mean of the concepts' means)
 *   mean_rest(t,f)  mean over the pictures of all other labels, pooled, those without a label among them
 *   mean_none(t,f)  mean over the pictures without a label; only where there are some
 *
 * What a score is stands in rank_score.h; how the statistics are summed, in rank_stats.h. */
#ifndef SRC_MODELS_RANKS_H
#define SRC_MODELS_RANKS_H

#include "formats/stream.h"

/* One label at one timestep, as a record of a ranks stream: the features of the highest score, best first. */
typedef struct RankEntry {
    const char *kind, *label;       /* "concept", "Fishes" */
    int t;
    int count;                      /* m */
    const int32_t *feature;         /* [m] */
    const float *score, *mean, *mean_all;       /* [m] */
    const float *mean_rest, *mean_none;         /* [m] or NULL */
} RankEntry;

typedef struct Ranks Ranks;

/* Reads a whole ranks stream. Memory is its size. */
int ranks_load(Ranks **r, const char *path, Err *e);
void ranks_free(Ranks *r);
const char *ranks_path(const Ranks *r);         /* as it was opened, for messages */
const char *ranks_sae(const Ranks *r);          /* SAE id of the header */
int ranks_features(const Ranks *r);             /* F of the header */
const json_t *ranks_header(const Ranks *r);     /* its fields, as they were read */
const RankEntry *ranks_entry(const Ranks *r, size_t i);     /* in the order of the stream; NULL past the last */
/* The entry of a label at the timestep nearest to t (the smaller on a tie); NULL when the label is not there. A label
 * matches whatever its case. */
const RankEntry *ranks_find(const Ranks *r, const char *kind, const char *label, int t);
/* The i-th label of a kind in the order of the stream, NULL past the last. */
const char *ranks_label(const Ranks *r, const char *kind, int i);
/* Labels of a kind for messages: "Bears, Birds, ...". The caller frees. */
char *ranks_labels(const Ranks *r, const char *kind);

/* The quantile that torch.quantile (linear interpolation, f32) gives for percentile/100 of F scores, from the m largest
 * of them in falling order. Returns 0, or -1 where m are too few to know it: ranks_needed says how many are enough. */
int ranks_quantile(const float *score, int m, int F, double percentile, float *quantile);
int ranks_needed(int F, double percentile);

#endif
