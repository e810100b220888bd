/* SPDX-License-Identifier: MIT */
/* batches.h -- a round's batches, gathered from the token buffer by threads of their own while earlier ones are
 * trained on.
 *
 *     batches_begin     batches_next, batches_next, ... NULL at the end     batches_end
 *
 * Batches come in their order, a bounded number of them ahead. Nothing of what was gathered and not given counts as
 * taken: a checkpoint in between knows only of those that were given. */
#ifndef SRC_MODELS_BATCHES_H
#define SRC_MODELS_BATCHES_H

#include "kernels/team.h"
#include "src/models/labels.h"
#include "src/models/token_buffer.h"

typedef struct Batch {
    float *x;                       /* (n,D) */
    uint8_t *label;                 /* (n,labels); NULL without labels */
    int64_t n;
} Batch;

typedef struct Batches Batches;

/* For batches of up to `tokens` tokens of buffer, whose width is D; labels may be NULL, and so may the team that is to
 * see the batches. All are the caller's. */
int batches_create(Batches **b, const TokenBuffer *buffer, Labels *labels, Team *team, int D, int64_t tokens, Err *e);
void batches_free(Batches *b);      /* NULL is fine */
float *batches_scratch(Batches *b); /* memory for a batch, to use between rounds */
/* Begins with the tokens from..to of the order, `batch` at a time; the buffer's order and these tokens must stay as
 * they are until they have been given. -1: out of memory for labels, which must be settled. */
int batches_begin(Batches *b, int64_t from, int64_t to, int64_t batch, Err *e);
/* The next one, good until the call after it. */
const Batch *batches_next(Batches *b);
void batches_end(Batches *b);       /* also before all were given: afterwards no thread looks at the buffer */

#endif
