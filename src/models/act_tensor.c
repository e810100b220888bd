/* SPDX-License-Identifier: MIT */
/* act_tensor.c -- tokens of activations as floats, and as 8-bit numbers with a scale a token. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/act_tensor.h"
#include "src/models/sae.h"

int act_tensor_need(ActTensor *t, const StreamIn *in, const Record *rec, Err *e)
{
    const int64_t any[] = {-1, -1, -1};
    const StreamTensor *act = record_tensor(rec, "act");
    const bool quantized = act && act->type == I8;
    char text[128];
    *t = (ActTensor){0};
    if (!(act = stream_need(in, rec, "act", quantized ? I8 : -1, act && act->ndim == 2 ? 2 : 3, any, e)))
        return -1;
    const int64_t D = act->dim[act->ndim - 1], N = act->dim[0]*(act->ndim == 3 ? act->dim[1] : 1);
    if (D < 1 || D > SAE_MAX_WIDTH || N < 1)
        return err_set(e, "%s: record %ld: act is %s, expected tokens", stream_name(in), rec->number,
                       tensor_shape_text(act, text));
    if (quantized && !(t->scale = stream_need(in, rec, "act_scale", F32, act->ndim - 1, act->dim, e)))
        return -1;
    t->act = act;
    t->N = N;
    t->D = (int)D;
    return 0;
}

int act_tensor_finite(const ActTensor *t, const StreamIn *in, const Record *rec, Err *e)
{
    return stream_finite(in, rec, t->scale ? t->scale : t->act, e);
}

int act_tensor_floats(const ActTensor *t, const StreamIn *in, const Record *rec, float *y, Err *e)
{
    dtype_to_f32(y, t->act->data, t->act->type, tensor_count(t->act));
    for (int64_t n = 0; n < t->N && t->scale; n++) {
        float scale;
        memcpy(&scale, (const char *)t->scale->data + sizeof scale*(size_t)n, sizeof scale);
        for (int d = 0; d < t->D; d++)
            y[n*t->D + d] *= scale;
    }
    return act_tensor_finite(t, in, rec, e);
}

static void quantize_row(int8_t *y, float *scale, const float *x, int D)
{
    float most = 0;
    for (int d = 0; d < D; d++)
        most = fmaxf(most, fabsf(x[d]));
    const float inverse = most > 1e-30f ? 127/most : 0;     /* what is smaller is 0, and so is all of it */
    *scale = most/127;
    for (int d = 0; d < D; d++)
        y[d] = (int8_t)nearbyintf(x[d]*inverse);
}

static int need_room(ActRoom *room, size_t values, size_t tokens, Err *e)
{
    if (values <= room->values && tokens <= room->tokens)
        return 0;
    act_room_free(room);
    room->act = malloc(values);
    room->scale = malloc(tokens*sizeof *room->scale);
    if (!room->act || !room->scale)
        return err_set(e, "out of memory for %zu activations", values);
    room->values = values;
    room->tokens = tokens;
    return 0;
}

int act_tensor_quantize(Record *rec, ActRoom *room, const void *x, DType type, int ndim, const int64_t *dim, Err *e)
{
    const int D = (int)dim[ndim - 1];
    size_t N = 1;
    for (int i = 0; i < ndim - 1; i++)
        N *= (size_t)dim[i];
    float *row = malloc((size_t)D*sizeof *row);
    if (!row)
        return err_set(e, "out of memory for a token");
    const int failed = need_room(room, N*(size_t)D, N, e);
    for (size_t n = 0; n < N && !failed; n++) {
        dtype_to_f32(row, (const char *)x + n*(size_t)D*dtype_size(type), type, (size_t)D);
        quantize_row(room->act + n*(size_t)D, &room->scale[n], row, D);
    }
    free(row);
    if (failed)
        return -1;
    record_add_tensor(rec, "act", I8, ndim, dim, room->act);
    record_add_tensor(rec, "act_scale", F32, ndim - 1, dim, room->scale);
    return 0;
}

void act_room_free(ActRoom *room)
{
    free(room->act);
    free(room->scale);
    *room = (ActRoom){0};
}
