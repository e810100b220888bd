/* SPDX-License-Identifier: MIT */
/* weight.c -- a tensor of a weights file by itself: how many values and bytes, and several as one. */
#include <stdlib.h>
#include "formats/gguf_types.h"
#include "formats/weights.h"

size_t weight_count(const Weight *t)
{
    size_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= (size_t)t->dim[i];
    return n;
}

size_t weight_bytes(const Weight *t)
{
    const size_t n = weight_count(t);
    return t->blocks ? n / (size_t)t->blocks->values*(size_t)t->blocks->bytes : n*dtype_size(t->type);
}

const char *weight_type(const Weight *t)
{
    return t->blocks ? t->blocks->name : dtype_name(t->type);
}

float *weights_stack(const Weight *const *part, int parts, size_t count, Err *e)
{
    float *all = malloc(count*sizeof *all);
    if (!all) {
        err_set(e, "%s: cannot allocate %zu bytes", part[0]->name, count*sizeof *all);
        return NULL;
    }
    size_t at = 0;
    for (int p = 0; p < parts; p++) {
        const size_t n = weight_count(part[p]);
        if (n > count - at) {
            err_set(e, "%s: %zu values, expected at most %zu", part[p]->name, n, count - at);
            free(all);
            return NULL;
        }
        dtype_to_f32(all + at, part[p]->data, part[p]->type, n);
        at += n;
    }
    if (at != count) {
        err_set(e, "%s: %zu values, expected %zu", part[0]->name, at, count);
        free(all);
        return NULL;
    }
    return all;
}
