/* SPDX-License-Identifier: MIT */
/* sae_metrics.h -- how well an autoencoder stands for activations, over all of them and by group.
 *
 *   x a token, x' its reconstruction, e = x - x', mean and var over the group's tokens, a its kept values
 *
 *     fvu         sum |e|^2 / sum |x - mean(x)|^2                       fraction of variance unexplained
 *     ev          1 - sum_d var(e_d) / sum_d var(x_d)                   explained variance (1 - fvu, but for e's mean)
 *     mse         mean of e_d^2
 *     cosine      mean over tokens with |x| > 0 of x.x' / (|x| |x'|), 0 where x' = 0
 *     norm_ratio  mean over tokens with |x| > 0 of |x'| / |x|
 *     l0          mean over tokens of the number of kept values above 0
 *     dead        share of the features never kept above 0
 *     dead_T      share of the features not kept above 0 in any of the group's first T = 1e4, 1e6, 1e7 tokens, in the
 *                 order of the stream; NaN where the group has fewer tokens than T
 *     density     share of the tokens that a feature is kept above 0 in: median and maximum over those not dead
 *
 * fvu and ev are NaN where the tokens are all the same, one token for one: there is no variance to explain; cosine and
 * norm_ratio where all tokens are of length 0.
 *
 * A dead share falls as tokens come, so two of them compare at the same T only, and dead, which is at the stream's own
 * length, with none. What is published as "dead after 10M tokens" counts features that did not fire in the last 1e7
 * tokens of training, mixed from many pictures (Gao et al. 2024, arXiv 2406.04093, section 2.4): dead_1e7 compares with
 * it where the stream is as mixed. A sampler's stream is not: it has picture after picture, so its first 1e4 tokens are
 * of a few pictures, and dead_1e4 then tells how few features those needed, an upper bound of what mixed tokens give.
 *
 * Sums are doubles, in the order of the stream. */
#ifndef SRC_MODELS_SAE_METRICS_H
#define SRC_MODELS_SAE_METRICS_H

#include <jansson.h>
#include <stdint.h>
#include "formats/err.h"

enum { DEAD_MARKS = 3, DENSITY_BINS = 16, DENSITY_LOWEST = -8 };
extern const int64_t dead_mark[DEAD_MARKS];         /* 1e4, 1e6, 1e7 tokens */

typedef struct Group {              /* sums over one group's tokens */
    char *name;
    int64_t tokens, kept;
    int64_t long_tokens;            /* of these the ones with |x| > 0 */
    double xx, ee, cosine, ratio;   /* sums of |x|^2, |e|^2, ... */
    double *x, *e;                  /* [D] sums */
    int64_t *fired;                 /* [F] */
    int living;                     /* features with fired > 0, now and */
    int living_at[DEAD_MARKS];      /* when tokens reached each mark; valid from then on */
    double *value;                  /* [F] sums of kept values */
} Group;

typedef struct Metrics {
    int D, F, K;
    Group *group;                   /* the first is "all" */
    int count;
} Metrics;

typedef struct Figures {
    double fvu, ev, mse, cosine, norm_ratio, l0, dead, density_median, density_max, dead_at[DEAD_MARKS];
    /* features that are not dead by log10 of their density: bin b begins at DENSITY_LOWEST + b/2 and is half a decade
     * wide; the first has those below it too, the last those of density 1 */
    int density[DENSITY_BINS];
} Figures;

int metrics_create(Metrics *m, int D, int F, int K, Err *e);
void metrics_free(Metrics *m);
/* N tokens, into "all" and, where name is given, into that group. At most 65535 of these. */
int metrics_add(Metrics *m, const char *name, const float *x, const float *y, const float *a, const int32_t *i,
                int64_t N, Err *e);
/* Groups after the first by name: numbers by value, falling (timesteps); then text. */
void metrics_sort(Metrics *m);
int group_figures(const Metrics *m, const Group *g, Figures *f, Err *e);

#endif
