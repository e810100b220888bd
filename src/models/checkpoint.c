/* SPDX-License-Identifier: MIT */
/* checkpoint.c -- named tensors and fields, in a safetensors file. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/murmur.h"
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/checkpoint.h"

static const char METADATA[] = "checkpoint", CHECKSUM[] = "checksum";

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

/* ---- the checksum: safetensors has none ---- */

/* The sum over the tensors, which lie in another order than they were put, of the hash of a tensor's bytes, begun with
 * that of its name; and the hash of the fields' text. */
static uint64_t add_tensor(uint64_t sum, const Weight *t)
{
    return sum + murmur(t->data, weight_bytes(t), murmur(t->name, strlen(t->name), 0).a).a;
}

static const char *print_checksum(char text[17], uint64_t sum, const char *fields)
{
    snprintf(text, 17, "%016" PRIx64, sum + murmur(fields, strlen(fields), 0).a);
    return text;
}

static int check_file(const Weights *w, const char *fields, Err *e)
{
    const char *said = json_string_value(json_object_get(weights_metadata(w), CHECKSUM));
    char found[17];
    uint64_t sum = 0;
    if (!said)
        return err_set(e, "%s: its metadata has no field '%s': a checkpoint of another version", weights_path(w),
                       CHECKSUM);
    for (size_t i = 0; i < weights_count(w); i++)
        sum = add_tensor(sum, weights_at(w, i));
    if (strcmp(print_checksum(found, sum, fields), said) != 0)
        return err_set(e, "%s: the checksum is %s, expected %.40s: the file was damaged", weights_path(w), found, said);
    return 0;
}

/* ---- reading and writing ---- */

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
            failed = check_file(c->file, text, e);
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
    char sum_text[17];
    uint64_t sum = 0;
    for (size_t i = 0; i < c->count; i++)
        sum = add_tensor(sum, &c->tensor[i]);
    json_t *metadata = text ? json_pack("{s:s, s:s}", METADATA, text, CHECKSUM, print_checksum(sum_text, sum, text))
                            : NULL;
    free(text);
    if (!metadata)
        return err_set(e, "%s: the fields cannot be written as JSON", path);
    const int failed = weights_write(path, c->tensor, c->count, metadata, e);
    json_decref(metadata);
    return failed;
}
