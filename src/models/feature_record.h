/* SPDX-License-Identifier: MIT */
/* feature_record.h -- a record of a features stream, as sae-encode writes it, checked. */
#ifndef SRC_MODELS_FEATURE_RECORD_H
#define SRC_MODELS_FEATURE_RECORD_H

#include "formats/stream.h"

typedef struct FeatureRecord {
    const int32_t *index;           /* (tokens,K), each in [0, F); the stream's */
    const float *value;             /* (tokens,K); the room's */
    int64_t tokens;
    int K;
    int H, W;                       /* of the tokens; 0 where the record has a sample of them */
} FeatureRecord;

typedef struct FeatureRoom { float *value; size_t count; } FeatureRoom;     /* zeroed: empty; free(value) at the end */

/* index [H,W,K] or [N,K] i32 and value of the same shape, f32, f16 or bf16, of an autoencoder of F features. */
int feature_record_read(FeatureRecord *x, FeatureRoom *room, const StreamIn *in, const Record *rec, int F, Err *e);

#endif
