/* SPDX-License-Identifier: MIT */
/* conditioning.h -- batches of a conditioning stream: what the sampler needs of each record, held in memory.
 *
 * A record has S tokens of its own, the tokenizer's length or a multiple of it, or of Stable Diffusion 3 T5's behind
 * CLIP's. */
#ifndef SRC_MODELS_CONDITIONING_H
#define SRC_MODELS_CONDITIONING_H

#include "formats/stream.h"

enum { COND_MOST_TOKENS = 64*77 };      /* S, at most */

typedef struct CondItem {
    Record record;                  /* id, seed, labels: fields referenced, no tensors */
    uint64_t seed;
    int S;
    float *state;                   /* (S,E) */
    float *uncond;                  /* (S,E) of the record's own, or NULL: the header's, which has S tokens too then */
    float *init_state;              /* (S,E) of the text of the picture to begin with, NULL: the same as state */
    float *pooled, *uncond_pooled, *init_pooled;            /* (P), with each of those where P is not 0 */
    float *start;                   /* (C,H,W) latent of the picture to begin with, as the network has it; NULL: none */
    int place;                      /* in the batch that it was read into */
} CondItem;

typedef struct CondBatch {
    StreamIn *in;
    int E;                          /* width */
    int P;                          /* width of a pooled embedding, 0: none */
    int uncond_S;
    float *uncond, *uncond_pooled;  /* (uncond_S,E) and (P), the header's */
    CondItem *item;
    int count, capacity;
} CondBatch;

/* Reads and checks the header: state width E must be `width` (0: any), the width of the pooled embedding `pooled` (0:
 * none) and the model id `model` (NULL: any). */
int cond_batch_create(CondBatch **b, StreamIn *in, int capacity, int width, int pooled, const char *model, Err *e);
/* Fills the batch. A record without an uncond of its own whose S is not the header's is refused. Returns 1 with one
 * record or more, 0 at the end, -1 on error. */
int cond_batch_next(CondBatch *b, Err *e);
void cond_batch_free(CondBatch *b);
/* Whether a record of the batch has an init_state. */
bool cond_batch_retold(const CondBatch *b);

#endif
