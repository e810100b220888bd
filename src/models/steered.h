/* SPDX-License-Identifier: MIT */
/* steered.h -- which labels a picture was steered by, of the fields that sd-steer gave it.
 *
 *   "steered": "Cats+Rust", "steered_kind": "concept+theme"         the one kind where all labels are of it
 *   "steering": {..., "labels": [{"kind": "concept", "label": "Salt+Pepper"}, {"kind": "theme", "label": "Rust"}]}
 *
 * The array is there where there are several, or one has a '+' of its own, which the texts do not tell from one between
 * two labels. */
#ifndef SRC_MODELS_STEERED_H
#define SRC_MODELS_STEERED_H

#include <jansson.h>
#include <stdbool.h>

/* The array of a record's fields, or where there is none what the texts say: their parts between '+', and of one kind
 * the whole too, which may be a label of streams older than the array. steered_kind is concept where it is missing. The
 * caller's; NULL: out of memory. */
json_t *steered_labels(const json_t *fields);
/* Whether the label is among them; NULL: whether one of its kind is. An empty label never is. */
bool steered_has(const json_t *labels, const char *kind, const char *label);

#endif
