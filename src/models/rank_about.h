/* SPDX-License-Identifier: MIT */
/* rank_about.h -- what statistics are of: autoencoder, hook, take, half, kinds of label; and which streams may be
 * counted together. Private to rank_feed.c. */
#ifndef SRC_MODELS_RANK_ABOUT_H
#define SRC_MODELS_RANK_ABOUT_H

#include "src/models/rank_feed.h"

/* The fields sae, features, hook, take, half, by, and where there are some assigned and model, of what the records of
 * in are counted for; sae: that of the options, NULL without. NULL on error: a stream of another kind, or one that the
 * options contradict. */
json_t *rank_about(const RankFeedOptions *o, const Sae *sae, const StreamIn *in, Err *e);
/* -1 where these fields, of in, are not those of the stream named first. */
int rank_about_agree(const json_t *about, const StreamIn *in, const json_t *of_first, const char *first, Err *e);

#endif
