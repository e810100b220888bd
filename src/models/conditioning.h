/* SPDX-License-Identifier: MIT */
/* conditioning.h -- batches of a conditioning stream: what the sampler needs of each record, held in memory. */
#ifndef SRC_MODELS_CONDITIONING_H
#define SRC_MODELS_CONDITIONING_H

#include "formats/stream.h"

typedef struct CondItem {
    Record record;                  /* id, seed, labels: fields referenced, no tensors */
    uint64_t seed;
    float *state;                   /* (S,E) */
    float *uncond;                  /* (S,E) of the record's own negative prompt, or NULL: the header's */
    float *pooled, *uncond_pooled;  /* (P), with state and uncond where P is not 0 */
} CondItem;

typedef struct CondBatch {
    StreamIn *in;
    int S, E;
    int P;                          /* width of a pooled embedding, 0: none */
    float *uncond, *uncond_pooled;  /* (S,E) and (P), the header's */
    CondItem *item;
    int count, capacity;
} CondBatch;

/* Reads and checks the header: state width E must be `width` (0: any), the width of the pooled embedding `pooled` (0:
 * none) and the model id `model` (NULL: any). */
int cond_batch_create(CondBatch **b, StreamIn *in, int capacity, int width, int pooled, const char *model, Err *e);
/* Fills the batch. Returns 1 with one record or more, 0 at the end, -1 on error. */
int cond_batch_next(CondBatch *b, Err *e);
void cond_batch_free(CondBatch *b);

#endif
