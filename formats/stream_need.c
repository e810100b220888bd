/* SPDX-License-Identifier: MIT */
/* stream_need.c -- a record's tensors as a program expects them, with the message for when they are not. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/stream.h"

static void expected_text(char *text, size_t n, int type, int ndim, const int64_t *dim)
{
    int used = snprintf(text, n, "%s (", type < 0 ? "f32, f16 or bf16" : dtype_name((DType)type));
    for (int i = 0; i < ndim && used < (int)n; i++)
        used += dim[i] < 0 ? snprintf(text + used, n - (size_t)used, "%s*", i ? ", " : "")
                           : snprintf(text + used, n - (size_t)used, "%s%lld", i ? ", " : "", (long long)dim[i]);
    if (used < (int)n - 1)
        strcpy(text + used, ")");
}

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
    char found[128], expected[256], where[1024];
    expected_text(expected, sizeof expected, type, ndim, dim);
    record_name(where, sizeof where, in, rec);
    if (t)
        err_set(e, "%s: %s is %s, expected %s", where, name, tensor_shape_text(t, found), expected);
    else
        err_set(e, "%s: tensor %s is missing, expected %s", where, name, expected);
    return NULL;
}

/* y: the tensor's values, one of which at least is not finite. */
static int not_finite(const StreamIn *in, const Record *rec, const StreamTensor *t, const float *y, Err *e)
{
    const size_t n = tensor_count(t);
    size_t first = 0, bad = 0;
    for (size_t i = n; i-- > 0;)
        if (!isfinite(y[i])) {
            first = i;
            bad++;
        }
    char where[1024];
    record_name(where, sizeof where, in, rec);
    return err_set(e, "%s: %s has %g at value %zu (%zu of %zu are not finite)", where, t->name, (double)y[first], first,
                   bad, n);
}

int stream_floats(const StreamIn *in, const Record *rec, const StreamTensor *t, float *y, Err *e)
{
    const size_t n = tensor_count(t);
    const bool finite = tensor_is_float(t) && dtype_finite(t->data, t->type, n);
    dtype_to_f32(y, t->data, t->type, n);
    return finite || dtype_finite(y, F32, n) ? 0 : not_finite(in, rec, t, y, e);
}

int stream_finite(const StreamIn *in, const Record *rec, const StreamTensor *t, Err *e)
{
    if (tensor_is_float(t) && dtype_finite(t->data, t->type, tensor_count(t)))
        return 0;
    float *y = malloc(sizeof *y*(tensor_count(t) + 1));
    const int failed = y ? stream_floats(in, rec, t, y, e) : err_set(e, "out of memory");
    free(y);
    return failed;
}

int stream_blame(const StreamIn *in, long number, const Err *why, Err *e)
{
    return err_set(e, "%s: record %ld: %s", stream_name(in), number, why->text);
}
