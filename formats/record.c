/* SPDX-License-Identifier: MIT */
/* record.c -- a record's parts: fields, tensors, provenance. No bytes are read or written here. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "formats/stream.h"

/* ---- reading ---- */

const StreamTensor *record_tensor(const Record *rec, const char *name)
{
    for (int i = 0; i < rec->tensors; i++)
        if (strcmp(rec->tensor[i].name, name) == 0)
            return &rec->tensor[i];
    return NULL;
}

size_t tensor_count(const StreamTensor *t)
{
    return t->bytes / dtype_size(t->type);
}

bool tensor_is_float(const StreamTensor *t)
{
    return dtype_is_float(t->type);
}

const char *tensor_shape_text(const StreamTensor *t, char text[128])
{
    char shape[SHAPE_SIZE];
    snprintf(text, 128, "%s %.110s", dtype_name(t->type), shape_text(shape, t->ndim, t->dim));
    return text;
}

const char *record_text(const Record *rec, const char *name, const char *fallback)
{
    const char *text = json_string_value(json_object_get(rec->fields, name));
    return text ? text : fallback;
}

long long record_int(const Record *rec, const char *name, long long fallback)
{
    const json_t *value = json_object_get(rec->fields, name);
    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

double record_number(const Record *rec, const char *name, double fallback)
{
    const json_t *value = json_object_get(rec->fields, name);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

const char *record_difference(const Record *a, const Record *b)
{
    const char *name;
    json_t *value;
    json_object_foreach(a->fields, name, value)
        if (strcmp(name, "provenance") != 0 && !json_equal(value, json_object_get(b->fields, name)))
            return name;
    json_object_foreach(b->fields, name, value)
        if (strcmp(name, "provenance") != 0 && !json_object_get(a->fields, name))
            return name;
    for (int i = 0; i < a->tensors; i++) {
        const StreamTensor *x = &a->tensor[i], *y = record_tensor(b, x->name);
        if (!y || x->type != y->type || x->ndim != y->ndim || x->bytes != y->bytes
            || memcmp(x->dim, y->dim, sizeof *x->dim * (size_t)x->ndim) != 0 || memcmp(x->data, y->data, x->bytes) != 0)
            return x->name;
    }
    for (int i = 0; i < b->tensors; i++)
        if (!record_tensor(a, b->tensor[i].name))
            return b->tensor[i].name;
    return NULL;
}

/* ---- building ---- */

void record_init(Record *rec, const char *kind)
{
    memset(rec, 0, sizeof *rec);
    rec->fields = json_object();
    if (kind) {
        record_set_text(rec, "stream", kind);
        record_set_int(rec, "version", STREAM_VERSION);
    }
}

void record_clear(Record *rec)
{
    json_decref(rec->fields);
    memset(rec, 0, sizeof *rec);
}

/* jansson makes no value of text that is not UTF-8 and of NaN: such a field becomes null, which a reader sees as
 * missing. */
void record_set_json(Record *rec, const char *name, json_t *value)
{
    json_object_set_new(rec->fields, name, value ? value : json_null());
}

void record_set_text(Record *rec, const char *name, const char *value)
{
    record_set_json(rec, name, json_string(value));
}

void record_set_int(Record *rec, const char *name, long long value)
{
    record_set_json(rec, name, json_integer(value));
}

void record_set_number(Record *rec, const char *name, double value)
{
    record_set_json(rec, name, json_real(value));
}

bool record_is_label(const char *name)
{
    static const char *const own[] = {"stream", "version", "provenance", "end", "tokens", "hook", "step", "t", "half"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(name, own[i]) == 0)
            return false;
    return true;
}

char *record_label(const json_t *fields, const char *name)
{
    const json_t *value = json_object_get(fields, name);
    return json_is_null(value) || !value ? strdup("") : json_value_text(value);
}

void record_copy_fields(Record *to, const Record *from)
{
    const char *name;
    json_t *value;
    json_object_foreach(from->fields, name, value)
        if (record_is_label(name))
            json_object_set(to->fields, name, value);
}

void record_add_tensor(Record *rec, const char *name, DType type, int ndim, const int64_t *dim, const void *data)
{
    StreamTensor *t = &rec->tensor[rec->tensors];
    assert(rec->tensors < STREAM_MAX_TENSORS && ndim <= STREAM_MAX_DIMS && strlen(name) < sizeof t->name);
    memset(t, 0, sizeof *t);
    strcpy(t->name, name);
    t->type = type;
    t->ndim = ndim;
    t->data = data;
    t->bytes = dtype_size(type);
    for (int i = 0; i < ndim; i++) {
        t->dim[i] = dim[i];
        t->bytes *= (size_t)dim[i];
    }
    rec->tensors++;
}

void record_provenance(Record *header, const StreamIn *in, json_t *step)
{
    const json_t *before = in ? json_object_get(stream_header(in)->fields, "provenance") : NULL;
    json_t *all = json_is_array(before) ? json_copy((json_t *)before) : json_array();
    if (step)
        json_array_append_new(all, step);
    json_object_set_new(header->fields, "provenance", all);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The values of an object: as they came in, or by their keys. */
static json_t *values(json_t *object, bool sorted)
{
    const char **keys = malloc((json_object_size(object) + 1)*sizeof *keys), *key;
    json_t *list = keys ? json_array() : NULL, *value;
    size_t n = 0;
    if (!keys)
        return NULL;
    json_object_foreach(object, key, value)
        keys[n++] = key;
    if (sorted)
        qsort(keys, n, sizeof *keys, by_text);
    for (size_t i = 0; i < n; i++)
        json_array_append(list, json_object_get(object, keys[i]));
    free(keys);
    return list;
}

json_t *provenance_join(const json_t *parts, bool sorted)
{
    const json_t *first = json_array_get(parts, 0), *part, *step;
    json_t *steps = json_object();              /* each under its JSON */
    bool same = json_is_array(first);
    size_t i, k;
    json_array_foreach((json_t *)parts, i, part) {
        same &= json_equal(part, first);
        json_array_foreach((json_t *)part, k, step) {
            char *text = json_dumps(step, JSON_COMPACT | JSON_REAL_PRECISION(17) | JSON_ENCODE_ANY);
            if (text)
                json_object_set(steps, text, (json_t *)step);
            free(text);
        }
    }
    json_t *all = same ? json_copy((json_t *)first) : values(steps, sorted);
    json_decref(steps);
    return all;
}
