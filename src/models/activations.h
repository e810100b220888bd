/* SPDX-License-Identifier: MIT */
/* activations.h -- records of activation streams, read side by side: chosen by hook and half, with shapes checked.
 *
 * Several streams give their records in turn, one each, until each has ended; their headers must name the same model
 * and take. A record's tokens are as act_tensor.h has them. */
#ifndef SRC_MODELS_ACTIVATIONS_H
#define SRC_MODELS_ACTIVATIONS_H

#include <stdbool.h>
#include "src/models/act_tensor.h"

typedef struct ActivationsOptions {
    const char *hook;               /* only this module's; NULL: all that the headers name */
    const char *half;               /* "cond", "uncond", "both" */
} ActivationsOptions;

/* one chosen record; everything points into its stream, and is good until the next call */
typedef struct Act {
    const StreamIn *in;
    const Record *rec;
    ActTensor tensor;               /* its width D is the same in all records of a hook */
    int hook;                       /* place among activations_hook */
} Act;

typedef struct Activations Activations;

/* Opens every path (none: standard input). An unknown hook is an error that lists the headers'. */
int activations_open(Activations **a, const char *const *paths, int count, const ActivationsOptions *options, Err *e);
void activations_close(Activations *a);
int activations_hooks(const Activations *a);                /* chosen, in the order of the headers */
const char *activations_hook(const Activations *a, int hook);
const StreamIn *activations_stream(const Activations *a);   /* the first: its header stands for all */
json_t *activations_provenance(const Activations *a);       /* of all, fresh (provenance_join) */
bool activations_can_rewind(const Activations *a);          /* all are files */
int activations_rewind(Activations *a, Err *e);
/* Returns 1 with a record, 0 after the last, -1. A stream in which no record was chosen is an error. */
int activations_next(Activations *a, Act *act, Err *e);
/* The tokens as f32 (N,D), in memory that is good until the next call. NULL when one is not a number: names file,
 * record and step. */
const float *activations_floats(Activations *a, const Act *act, Err *e);
/* The same with the tokens of f32, f16 or bf16 as they came, of i8 as f16; *type says which. */
const void *activations_tokens(Activations *a, const Act *act, DType *type, Err *e);

#endif
