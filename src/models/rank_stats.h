/* SPDX-License-Identifier: MIT */
/* rank_stats.h -- statistics of feature activations by label and timestep, exact whatever the order and the sharding.
 *
 * A cell holds, for one label (of one kind: concept, theme, ...) at one timestep, four whole numbers a feature f,
 * summed over the pictures i with that label. v(n,f) is the activation of f in token n, P the tokens of a picture,
 * s_i(f) = sum_n v(n,f):
 *
 *   sum     round(2^24 s_i(f))               square   round(2^32 (s_i(f)/P)^2)
 *   active  tokens with v > 0                present  pictures with such a token
 *
 * A picture counts once for each of its records: for each half of guidance that is counted, and for each evaluation
 * where a sampler takes the timestep more than once (pndm).
 *
 * s_i is summed in double in the order of the tokens; rounding is once a picture, so every further sum is of integers:
 * parts made from shards and added give the bytes of one run. A sum that leaves 64 bits is an error (2^39 in units of
 * activation). */
#ifndef SRC_MODELS_RANK_STATS_H
#define SRC_MODELS_RANK_STATS_H

#include <stdbool.h>
#include "formats/stream.h"

enum { STAT_SUM, STAT_SQUARE, STAT_ACTIVE, STAT_PRESENT, STATS };
enum { RANK_KINDS = 8, STAT_SUM_BITS = 24, STAT_SQUARE_BITS = 32 };

typedef struct RankCell {
    int kind;                       /* index into RankStats.kind */
    char *label;                    /* "" for pictures without one */
    int t;
    int64_t tokens, pictures;
    int64_t *stat[STATS];           /* [F] each, one block */
} RankCell;

typedef struct RankStats {
    int F, kinds;
    char kind[RANK_KINDS][40];
    RankCell **cell;                /* by kind, label (bytes), t descending */
    size_t cells, room;
    double *sums;                   /* [F] scratch of one picture, zero in between */
    int32_t *counts, *touched;      /* [F] likewise; features that the picture has */
} RankStats;

/* Empty statistics of F features for kinds of label; memory grows by 32 F bytes a (label, timestep). */
int rank_stats_create(RankStats **s, int F, const char *const *kinds, int count, Err *e);
void rank_stats_free(RankStats *s);
/* Adds one picture at timestep t: features index (tokens,K), in [0, F), with values (tokens,K), those not above 0 left
 * out; labels [kinds], "" where it has none. An error speaks of the sum alone: the caller knows the record. */
int rank_stats_add(RankStats *s, const char *const *labels, int t, const int32_t *index, const float *value,
                   int64_t tokens, int K, Err *e);
/* The cell of a label, made when it is not there; NULL when memory is out. */
RankCell *rank_stats_cell(RankStats *s, int kind, const char *label, int t, Err *e);
/* to += from, number by number. */
int rank_cell_add(RankCell *to, const RankCell *from, int F, Err *e);
RankCell *rank_cell_new(int kind, const char *label, int t, int F, Err *e);
void rank_cell_free(RankCell *c);
/* Mean over pictures and tokens of feature f; 0 without tokens. */
double rank_cell_mean(const RankCell *c, int f);

/* One record a cell, in the cells' order: kind, label, t, tokens, pictures, and the four tensors i64 [F]. */
int rank_stats_write(const RankStats *s, StreamOut *out, Err *e);
/* Adds the records of a statistics stream whose header was checked. */
int rank_stats_read(RankStats *s, StreamIn *in, Err *e);

#endif
