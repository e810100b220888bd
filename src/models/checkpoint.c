/* SPDX-License-Identifier: MIT */
/* checkpoint.c -- named tensors and fields, in a safetensors file. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/checkpoint.h"

static const char METADATA[] = "checkpoint";

struct Checkpoint {
    Weights *file;                  /* when read */
    Weight *tensor;                 /* when written: names and data are its own */
    size_t count;
    json_t *fields;
};

int checkpoint_create(Checkpoint **out, Err *e)
{
    Checkpoint *c = *out = calloc(1, sizeof *c);
    if (c && (c->fields = json_object()))
        return 0;
    checkpoint_free(c);
    *out = NULL;
    return err_set(e, "out of memory");
}

void checkpoint_free(Checkpoint *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++) {
        free((void *)c->tensor[i].name);
        free((void *)c->tensor[i].data);
    }
    free(c->tensor);
    weights_close(c->file);
    json_decref(c->fields);
    free(c);
}

int checkpoint_open(Checkpoint **out, const char *path, Err *e)
{
    if (checkpoint_create(out, e))
        return -1;
    Checkpoint *c = *out;
    int failed = weights_open(&c->file, path, e);
    if (!failed) {
        const char *text = json_string_value(json_object_get(weights_metadata(c->file), METADATA));
        json_t *fields = text ? json_loads(text, 0, NULL) : NULL;
        if (json_is_object(fields)) {
            json_decref(c->fields);
            c->fields = fields;
        } else {
            json_decref(fields);
            failed = err_set(e, "%s: not a checkpoint: its metadata has no field '%s' with a JSON object", path,
                             METADATA);
        }
    }
    if (failed) {
        checkpoint_free(c);
        *out = NULL;
    }
    return failed ? -1 : 0;
}

json_t *checkpoint_fields(Checkpoint *c)
{
    return c->fields;
}

int checkpoint_put(Checkpoint *c, const char *part, const char *name, DType type, const void *values, size_t n,
                   bool device, Err *e)
{
    char full[512];
    const size_t bytes = n*dtype_size(type);
    snprintf(full, sizeof full, "%s/%s", part, name);
    Weight *more = realloc(c->tensor, sizeof *more*(c->count + 1));
    c->tensor = more ? more : c->tensor;
    void *data = malloc(bytes + 1);
    char *own = strdup(full);
    if (!more || !data || !own) {
        free(data);
        free(own);
        return err_set(e, "out of memory for the %zu bytes of %s in a checkpoint", bytes, full);
    }
    if (device)
        op->download(data, values, bytes);
    else
        memcpy(data, values, bytes);
    c->tensor[c->count++] = (Weight){.name = own, .type = type, .ndim = 1, .dim = {(int64_t)n}, .data = data};
    return 0;
}

int checkpoint_get(const Checkpoint *c, const char *part, const char *name, DType type, void *values, size_t n,
                   bool device, Err *e)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", part, name);
    const Weight *t = weights_find(c->file, full);
    if (!t)
        return err_set(e, "%s: no tensor %s", weights_path(c->file), full);
    if (t->type != type || t->ndim != 1 || weight_count(t) != n)
        return err_set(e, "%s: %s holds %zu of %s, expected %zu of %s", weights_path(c->file), full, weight_count(t),
                       dtype_name(t->type), n, dtype_name(type));
    if (weights_finite(c->file, t, e))          /* a training writes no numbers that are none */
        return -1;
    if (device)
        op->upload(values, t->data, n*dtype_size(type));
    else
        memcpy(values, t->data, n*dtype_size(type));
    return 0;
}

int checkpoint_write(const Checkpoint *c, const char *path, Err *e)
{
    char *text = json_dumps(c->fields, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_t *metadata = text ? json_pack("{s:s}", METADATA, text) : NULL;
    free(text);
    if (!metadata)
        return err_set(e, "%s: the fields cannot be written as JSON", path);
    const int failed = weights_write(path, c->tensor, c->count, metadata, e);
    json_decref(metadata);
    return failed;
}
