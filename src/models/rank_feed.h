/* SPDX-License-Identifier: MIT */
/* rank_feed.h -- streams of activations, features or statistics into one set of statistics (rank_stats.h).
 *
 * The first stream says what is counted: autoencoder, hook, take, half, kinds of label. Those that follow must agree. A
 * picture is one record of the hook and half that are counted: with half "both" each picture counts twice, once a
 * half. */
#ifndef SRC_MODELS_RANK_FEED_H
#define SRC_MODELS_RANK_FEED_H

#include "src/models/rank_stats.h"
#include "src/models/sae.h"

typedef struct RankFeedOptions {
    const char *sae;                /* folder; NULL where no activations are read */
    /* module whose records count; NULL: the autoencoder's own, else the stream's only one */
    const char *hook;
    const char *half;               /* "cond", "uncond", "both" */
    const char *const *kinds;       /* fields that label pictures; none: concept and theme */
    int kind_count;
    DType type;                     /* of the encoder's product */
} RankFeedOptions;

typedef struct RankFeed RankFeed;

/* options is the caller's while the feed lives. Needs a backend where there is a folder. */
int rank_feed_create(RankFeed **f, const RankFeedOptions *options, Err *e);
void rank_feed_free(RankFeed *f);
/* All records of one stream of kind activations, features or statistics. progress, where not NULL, is called with the
 * records read of all streams so far. */
int rank_feed_stream(RankFeed *f, StreamIn *in, void (*progress)(void *context, long long records), void *context,
                     Err *e);
/* After the last stream. Fails when nothing was counted and, unless that is a part of something larger, when no picture
 * has a label, and when none has one of a kind that the options name. */
int rank_feed_finish(RankFeed *f, bool part, Err *e);
RankStats *rank_feed_stats(RankFeed *f);            /* lives as long as f */
/* Header fields of what is made from the statistics: sae, hook, take, half, by, features, model, and the provenance of
 * all streams, whatever their order (provenance_join; less the step that wrote statistics: parts merged give the header
 * of one run), followed by step, whose reference is taken. */
void rank_feed_describe(const RankFeed *f, Record *header, json_t *step);
/* Which feature the autoencoder's training tied to which label (rank_score.h); NULL: none */
const json_t *rank_feed_assigned(const RankFeed *f);

#endif
