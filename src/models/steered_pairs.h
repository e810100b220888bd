/* SPDX-License-Identifier: MIT */
/* steered_pairs.h -- steered pictures beside the same picture unsteered, by what was steered and how.
 *
 * A picture is known by its prompt, negative prompt and seed. One without a field "steering" is unsteered. Of each
 * steering some pairs are kept: first as many of the steered label's own pictures as of others, chosen by a hash of
 * what they are known by, so that the order in which they come plays no part. */
#ifndef SRC_MODELS_STEERED_PAIRS_H
#define SRC_MODELS_STEERED_PAIRS_H

#include "src/models/picture_source.h"
#include "src/models/thumbs.h"

enum { GROUPS_MAX = 10000 };

typedef struct Pair {
    json_t *fields;                 /* of the steered picture */
    char *plain, *steered;          /* keys of its pictures among the thumbs; plain's may not be there */
    uint64_t order;
} Pair;

typedef struct PairGroup {
    char *kind, *label, *steering;  /* "concept", "Cats", {"mode":...} as JSON; kind and label may be "" */
    Pair *pair[2];                  /* of the label's own pictures; of others */
    int pairs[2];
    long pictures;                  /* all that came */
} PairGroup;

typedef struct Pairs {
    PairGroup *group;               /* by kind, label, steering */
    int groups;
    int kept;                       /* pairs kept of each group */
    long plain;                     /* unsteered pictures that came */
    Thumbs *thumbs;
} Pairs;

/* thumbs is the caller's and has side set. Memory: a small copy of each unsteered picture, and of 2 `kept` pictures of
 * each steering. */
void pairs_init(Pairs *p, int kept, Thumbs *thumbs);
int pairs_add(Pairs *p, const Picture *picture, Err *e);
/* After the last picture: each group's lists are cut so that both together have at most `kept`. */
void pairs_settle(Pairs *p);
void pairs_free(Pairs *p);          /* zeroed memory is fine */

#endif
