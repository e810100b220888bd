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

typedef struct FeatureRoom {        /* zeroed: empty */
    float *value;
    size_t count;
    int64_t *token;                 /* [F] the last that kept the feature, from 1 on, counted through all records */
    int64_t tokens;
    int F;
} FeatureRoom;

void feature_room_free(FeatureRoom *room);
/* index [H,W,K] or [N,K] i32 and value of the same shape, f32, f16 or bf16, of an autoencoder of F features. A feature
 * that a token keeps twice, with values other than 0, is an error. */
int feature_record_read(FeatureRecord *x, FeatureRoom *room, const StreamIn *in, const Record *rec, int F, Err *e);

#endif
