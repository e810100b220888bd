/* SPDX-License-Identifier: MIT */
/* act_tensor.h -- the tokens of a record of activations: its tensors act and, where that is i8, act_scale.
 *
 *   act [H,W,C] or [N,C] of f32, f16 or bf16
 *   act i8, act_scale f32 [H,W] or [N]:   x[n,:] = act[n,:] act_scale[n],   act_scale[n] = max |x[n,:]| / 127
 *
 * An i8 of a token's own scale is off by 0.4 % of the token's largest value at most. */
#ifndef SRC_MODELS_ACT_TENSOR_H
#define SRC_MODELS_ACT_TENSOR_H

#include "formats/stream.h"

typedef struct ActTensor {
    const StreamTensor *act, *scale;                /* scale NULL: act is of floats */
    int64_t N;                                      /* tokens */
    int D;
} ActTensor;

/* Finds and checks what the record has; N and D are 1 or more. Returns 0, or -1 with an error that names the record. */
int act_tensor_need(ActTensor *t, const StreamIn *in, const Record *rec, Err *e);
/* y (N,D), and that all are numbers: 0, -1 */
int act_tensor_floats(const ActTensor *t, const StreamIn *in, const Record *rec, float *y, Err *e);
/* The same without the floats. */
int act_tensor_finite(const ActTensor *t, const StreamIn *in, const Record *rec, Err *e);

/* Memory for quantized tokens; all zero at first. */
typedef struct ActRoom {
    int8_t *act;
    float *scale;
    size_t values, tokens;
} ActRoom;

/* Adds act and act_scale of x to rec, x being of any float type, finite, and dim [..., C] its ndim sizes; made in room,
 * which has to stay as it is until the record has been written. */
int act_tensor_quantize(Record *rec, ActRoom *room, const void *x, DType type, int ndim, const int64_t *dim, Err *e);
void act_room_free(ActRoom *room);

#endif
