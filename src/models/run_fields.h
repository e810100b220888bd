/* SPDX-License-Identifier: MIT */
/* run_fields.h -- what a header says of the run that its records were drawn in, and what is made of them says too:
 * model, sampler, steps, guidance; of pictures that begin with others init, strength, inversion. */
#ifndef SRC_MODELS_RUN_FIELDS_H
#define SRC_MODELS_RUN_FIELDS_H

#include <jansson.h>
#include <stdbool.h>

/* NULL-terminated: what a picture's text chunks have of its run besides, "sae" and "provenance". */
extern const char *const run_fields_of_pictures[];

bool run_field(const char *name);
/* Sets in `to` those that `from` has and `to` has not, and then others likewise: also, NULL-terminated. */
void run_fields_copy(json_t *to, const json_t *from, const char *const *also);

#endif
