/* SPDX-License-Identifier: MIT */
/* labels.h -- the labels that records of a stream carry, numbered: which features of a supervised autoencoder are
 * theirs.
 *
 * A record's tag stands for its set of labels, one of each kind at most. When all are known, the labels get numbers
 * from 0 on, by kind in the order asked for and then by name, so that the numbers do not depend on the records' order.
 *
 * labels_tag, labels_fill and labels_store may be called in several threads at once. */
#ifndef SRC_MODELS_LABELS_H
#define SRC_MODELS_LABELS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "formats/err.h"

typedef struct Labels Labels;

/* kinds: "concept,theme"; at most 8. */
int labels_create(Labels **l, const char *kinds, Err *e);
void labels_free(Labels *l);
/* The tag of a record with these fields; -1 with an error: a field that is a list, or a label that comes after
 * labels_settle. */
int32_t labels_tag(Labels *l, const json_t *fields, Err *e);
/* Gives the numbers; afterwards no label is new. Returns how many there are, 0 is an error. */
int labels_settle(Labels *l, Err *e);
int labels_count(const Labels *l);      /* 0 before */
int32_t labels_tags(const Labels *l);   /* tags given so far: from 0 on */
/* on[count]: 1 for the labels of a tag, else 0. */
void labels_fill(Labels *l, int32_t tag, uint8_t *on);
/* {"concept": {"Bears": 0, ...}, ...}, for cfg.json; the caller's. NULL: out of memory */
json_t *labels_json(const Labels *l);
/* All of it, for a checkpoint. */
json_t *labels_store(Labels *l);
int labels_restore(Labels *l, const json_t *stored, Err *e);

/* What follows KIND= in text, and KIND in kind; NULL where text does not begin so. A kind is 1 to 23 letters, digits,
 * '_' or '-'. */
const char *label_kind(const char *text, char kind[24]);

#endif
