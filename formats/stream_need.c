/* SPDX-License-Identifier: MIT */
/* stream_need.c -- a record's tensors as a program expects them, with the message for when they are not. */
#include <stdio.h>
#include <string.h>
#include "formats/stream.h"

static void record_name(char *text, size_t n, const StreamIn *in, const Record *rec)
{
    if (rec->number > 0)
        snprintf(text, n, "%s: record %ld", stream_name(in), rec->number);
    else
        snprintf(text, n, "%s: header", stream_name(in));
}

const StreamTensor *stream_need(const StreamIn *in, const Record *rec, const char *name, int type, int ndim,
                                const int64_t *dim, Err *e)
{
    const StreamTensor *t = record_tensor(rec, name);
    int fits = t && t->ndim == ndim && (type < 0 ? tensor_is_float(t) : (int)t->type == type);
    for (int i = 0; i < ndim && fits; i++)
        fits = dim[i] < 0 || t->dim[i] == dim[i];
    if (fits)
        return t;
    const char *types = type < 0 ? "f32, f16 or bf16" : dtype_name((DType)type);
    char found[128], shape[SHAPE_SIZE], where[1024];
    shape_text(shape, ndim, dim);
    record_name(where, sizeof where, in, rec);
    if (t)
        err_set(e, "%s: %s is %s, expected %s %s", where, name, tensor_shape_text(t, found), types, shape);
    else
        err_set(e, "%s: tensor %s is missing, expected %s %s", where, name, types, shape);
    return NULL;
}

int stream_finite(const StreamIn *in, const Record *rec, const StreamTensor *t, Err *e)
{
    const size_t n = tensor_count(t), size = dtype_size(t->type);
    if (dtype_finite(t->data, t->type, n))
        return 0;
    size_t first = n, bad = 0;
    for (size_t i = 0; i < n; i++)
        if (!dtype_finite((const char *)t->data + i*size, t->type, 1)) {
            first = bad ? first : i;
            bad++;
        }
    float value;                            /* NaN and infinity are the same in each type */
    char where[1024];
    dtype_to_f32(&value, (const char *)t->data + first*size, t->type, 1);
    record_name(where, sizeof where, in, rec);
    return err_set(e, "%s: %s has %g at value %zu (%zu of %zu are not finite)", where, t->name, (double)value, first,
                   bad, n);
}

int stream_floats(const StreamIn *in, const Record *rec, const StreamTensor *t, float *y, Err *e)
{
    dtype_to_f32(y, t->data, t->type, tensor_count(t));
    return stream_finite(in, rec, t, e);
}

int stream_blame(const StreamIn *in, long number, const Err *why, Err *e)
{
    return err_set(e, "%s: record %ld: %s", stream_name(in), number, why->text);
}
