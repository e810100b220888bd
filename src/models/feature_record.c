/* SPDX-License-Identifier: MIT */
/* feature_record.c -- records of features streams, checked. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/feature_record.h"

/* Sides of a grid of tokens, and values of a token, fit an int. */
static bool fits(const StreamTensor *index)
{
    for (int d = 0; d < index->ndim; d++)
        if (index->dim[d] > INT_MAX)
            return false;
    return true;
}

void feature_room_free(FeatureRoom *room)
{
    free(room->value);
    free(room->token);
    *room = (FeatureRoom){0};
}

static int check_once(const FeatureRecord *x, FeatureRoom *room, const StreamIn *in, const Record *rec, int F, Err *e)
{
    if (room->F != F) {
        free(room->token);
        room->token = calloc((size_t)F, sizeof *room->token);
        room->F = room->token ? F : 0;
        if (!room->token)
            return err_set(e, "out of memory");
    }
    for (int64_t n = 0; n < x->tokens; n++) {
        const int64_t token = ++room->tokens;
        for (int64_t k = n*x->K; k < (n + 1)*x->K; k++) {
            int64_t *last = &room->token[x->index[k]];
            if (x->value[k] == 0)
                continue;
            if (*last == token)
                return err_set(e, "%s: record %ld: token %lld has feature %d twice", stream_name(in), rec->number,
                               (long long)n, x->index[k]);
            *last = token;
        }
    }
    return 0;
}

int feature_record_read(FeatureRecord *x, FeatureRoom *room, const StreamIn *in, const Record *rec, int F, Err *e)
{
    const StreamTensor *index = record_tensor(rec, "index"), *value = record_tensor(rec, "value");
    if (!index || !value || index->type != I32 || !tensor_is_float(value) || (index->ndim != 2 && index->ndim != 3)
        || index->ndim != value->ndim
        || memcmp(index->dim, value->dim, sizeof *index->dim*(size_t)index->ndim) != 0 || tensor_count(index) < 1
        || !fits(index))
        return err_set(e, "%s: record %ld: index and value are not of one shape (H, W, K) or (N, K), i32 and float",
                       stream_name(in), rec->number);
    const size_t count = tensor_count(index);
    const bool grid = index->ndim == 3;
    *x = (FeatureRecord){.index = index->data, .K = (int)index->dim[index->ndim - 1],
                         .H = grid ? (int)index->dim[0] : 0, .W = grid ? (int)index->dim[1] : 0};
    x->tokens = (int64_t)count/x->K;
    for (size_t n = 0; n < count; n++)
        if (x->index[n] < 0 || x->index[n] >= F)
            return err_set(e, "%s: record %ld: feature %d, the header says there are %d", stream_name(in), rec->number,
                           x->index[n], F);
    if (count > room->count) {
        free(room->value);
        room->value = malloc(count*sizeof *room->value);
        room->count = room->value ? count : 0;
        if (!room->value)
            return err_set(e, "out of memory");
    }
    x->value = room->value;
    return stream_floats(in, rec, value, room->value, e) || check_once(x, room, in, rec, F, e) ? -1 : 0;
}
