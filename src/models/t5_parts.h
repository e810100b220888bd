/* SPDX-License-Identifier: MIT */
/* t5_parts.h -- the T5 encoder from within: shared by t5_load.c, which makes it, and t5_encoder.c. */
#ifndef SRC_MODELS_T5_PARTS_H
#define SRC_MODELS_T5_PARTS_H

#include <stdbool.h>
#include "src/models/blocks.h"
#include "src/models/t5_encoder.h"

typedef struct T5Block {
    float *norm1, *norm2;           /* gammas */
    Conv *qkv, *out, *wi, *wi_1, *wo;       /* wi_1 NULL: not gated */
} T5Block;

struct T5Encoder {
    int E, D, hidden, blocks, heads, vocab;     /* D: of q, all heads */
    int buckets, max_distance;
    float eps;
    bool gated;
    DType type;
    DType token_type;
    void *token;                    /* host (vocab,E) */
    float *table;                   /* host (buckets,heads) */
    float *bias;                    /* device (heads,S,S), for texts of bias_S tokens */
    size_t bias_bytes;
    int bias_S;
    T5Block *block;
    float *final;
    const Hooks *hooks;             /* NULL: none */
    int module;                     /* of block 0 in hooks */
    Workspace work;
};

/* Sizes of part.config into a T5Encoder that holds nothing else. */
int t5_config_read(T5Encoder *t, const Part *part, Err *e);

#endif
