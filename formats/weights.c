/* SPDX-License-Identifier: MIT */
/* weights.c -- reads safetensors files by mapping them.
 *
 *     [n: u64 little-endian][n bytes of JSON][data]
 *     {"name": {"dtype": "F16", "shape": [3, 4], "data_offsets": [begin, end]}, ..., "__metadata__": {"key": "text"}}
 *
 * The tensors must fill the data from its first byte to its last, without a hole and without lying over one another. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "formats/fdio.h"
#include "formats/float8.h"
#include "formats/little.h"
#include "formats/spans.h"
#include "formats/weights.h"

enum { ALIGN = 64, MAX_DIMS = 8 };
static const uint64_t MAX_HEADER = 100u << 20;
static const char METADATA[] = "__metadata__";

struct Weights {
    char *path;
    uint8_t *map;
    size_t size;                /* of the file */
    json_t *header;
    bool packed;                /* eight-bit floats are read */
    Weight *weight;             /* those of a type that is known, in the order of the JSON */
    size_t count;
    const Weight **by_name;     /* the same, sorted */
    void **copy;                /* of tensors that the file does not align */
    size_t copies;
    void *owner;                /* of tensors that another reader laid out */
    void (*release)(void *);
};

/* ---- the header ---- */

/* Whether tensors of a type that safetensors calls `name` are read. */
static bool read_type(const Weights *w, const char *name, Weight *t)
{
    for (int type = 0; type < DTYPE_COUNT; type++)
        if (strcmp(name, dtype_safetensors((DType)type)) == 0) {
            t->type = (DType)type;
            return true;
        }
    t->blocks = w->packed ? float8_type(name) : NULL;
    t->type = t->blocks ? t->blocks->type : t->type;
    return t->blocks;
}

/* Bytes of one element, to multiples of which it is aligned. */
static size_t element_size(const Weight *t)
{
    return t->blocks ? (size_t)t->blocks->bytes : dtype_size(t->type);
}

static int entry_span(const char *path, const char *name, const json_t *entry, uint64_t data_size, Span *span, Err *e)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (!json_is_string(json_object_get(entry, "dtype")) || !json_is_array(json_object_get(entry, "shape"))
        || json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return err_set(e, "%s: tensor %s: needs dtype, shape and two data_offsets", path, name);
    const long long b = json_integer_value(begin), n = json_integer_value(end);
    if (b < 0 || n < b || (uint64_t)n > data_size)
        return err_set(e, "%s: tensor %s: data_offsets are %lld to %lld, the file holds 0 to %llu", path, name, b, n,
                       (unsigned long long)data_size);
    *span = (Span){(uint64_t)b, (uint64_t)n, name};
    return 0;
}

static int entry_shape(const char *path, const char *name, const json_t *entry, uint64_t bytes, Weight *w, Err *e)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (json_array_size(shape) > MAX_DIMS)
        return err_set(e, "%s: tensor %s: has %zu dimensions, at most %d are read", path, name, json_array_size(shape),
                       MAX_DIMS);
    w->ndim = (int)json_array_size(shape);
    uint64_t wanted = element_size(w);
    for (int i = 0; i < w->ndim; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return err_set(e, "%s: tensor %s: dimension %d is not a count", path, name, i);
        w->dim[i] = json_integer_value(d);
        if (__builtin_mul_overflow(wanted, (uint64_t)w->dim[i], &wanted))
            return err_set(e, "%s: tensor %s: its shape overflows", path, name);
    }
    if (wanted != bytes)
        return err_set(e, "%s: tensor %s: its shape takes %llu bytes, its data_offsets hold %llu", path, name,
                       (unsigned long long)wanted, (unsigned long long)bytes);
    return 0;
}

static int check_spans(const char *path, Span *span, size_t n, uint64_t data_size, Err *e)
{
    uint64_t at = 0;
    if (spans_sort(span, n, path, e))
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (span[i].begin > at)
            return err_set(e, "%s: %llu bytes before tensor %s belong to no tensor", path,
                           (unsigned long long)(span[i].begin - at), span[i].name);
        at = span[i].end;
    }
    if (at != data_size)
        return err_set(e, "%s: the tensors end at byte %llu of the data, the file goes on to %llu", path,
                       (unsigned long long)at,
                       (unsigned long long)data_size);
    return 0;
}

static int name_order(const void *x, const void *y)
{
    const Weight *const *a = x, *const *b = y;
    return strcmp((*a)->name, (*b)->name);
}

/* data of a tensor: in the map, or copied where its elements would not be aligned. NULL: out of memory */
static const void *place(Weights *w, const uint8_t *data, size_t bytes, size_t element)
{
    if (bytes == 0 || (uintptr_t)data % element == 0)
        return data;
    void *copy = aligned_alloc(ALIGN, (bytes + ALIGN - 1) / ALIGN * ALIGN);
    if (copy) {
        memcpy(copy, data, bytes);
        w->copy[w->copies++] = copy;
    }
    return copy;
}

static int read_entries(Weights *w, const uint8_t *data, uint64_t data_size, Span *span, Err *e)
{
    const char *name;
    json_t *entry;
    size_t spans = 0;
    json_object_foreach(w->header, name, entry) {
        if (strcmp(name, METADATA) == 0)
            continue;
        if (entry_span(w->path, name, entry, data_size, &span[spans], e))
            return -1;
        const Span *s = &span[spans++];
        Weight *t = &w->weight[w->count];
        if (!read_type(w, json_string_value(json_object_get(entry, "dtype")), t))
            continue;                           /* weights_need says so when such a one is asked for */
        t->name = name;
        if (entry_shape(w->path, name, entry, s->end - s->begin, t, e))
            return -1;
        if (!(t->data = place(w, data + s->begin, s->end - s->begin, element_size(t))))
            return err_set(e, "%s: out of memory for an aligned copy of %s", w->path, name);
        w->by_name[w->count] = t;
        w->count++;
    }
    if (check_spans(w->path, span, spans, data_size, e))
        return -1;
    qsort(w->by_name, w->count, sizeof *w->by_name, name_order);
    return 0;
}

static int read_header(Weights *w, Err *e)
{
    if (w->size < 8)
        return err_set(e, "%s: is %zu bytes long, too short for a safetensors file", w->path, w->size);
    const uint64_t n = little(w->map, 8);
    if (n > MAX_HEADER)
        return err_set(e, "%s: claims a header of %llu bytes, at most 100 MiB are read: is this a safetensors file?",
                       w->path,
                       (unsigned long long)n);
    if (n > w->size - 8)
        return err_set(e, "%s: the header should be %llu bytes long, the file ends after %zu: it was cut", w->path,
                       (unsigned long long)n, w->size - 8);
    json_error_t why;
    if (!(w->header = json_loadb((const char *)w->map + 8, n, JSON_REJECT_DUPLICATES, &why)))
        return err_set(e, "%s: header: line %d, column %d: %s", w->path, why.line, why.column, why.text);
    if (!json_is_object(w->header))
        return err_set(e, "%s: the header is not a JSON object", w->path);
    const size_t entries = json_object_size(w->header);
    Span *span = calloc(entries + 1, sizeof *span);
    w->weight = calloc(entries + 1, sizeof *w->weight);
    w->by_name = calloc(entries + 1, sizeof *w->by_name);
    w->copy = calloc(entries + 1, sizeof *w->copy);
    const int failed = !span || !w->weight || !w->by_name || !w->copy
                     ? err_set(e, "%s: out of memory for %zu tensors", w->path, entries)
                     : read_entries(w, w->map + 8 + n, w->size - 8 - n, span, e);
    free(span);
    return failed;
}

/* ---- the interface ---- */

static int open_file(Weights **result, const char *path, bool packed, Err *e)
{
    *result = NULL;
    Weights *w = calloc(1, sizeof *w);
    const int failed = !w || !(w->path = strdup(path)) ? err_set(e, "out of memory")
                                                       : file_map(&w->map, &w->size, path, "a safetensors file", e);
    if (!failed)
        w->packed = packed;
    if (failed || read_header(w, e)) {
        weights_close(w);
        return -1;
    }
    *result = w;
    return 0;
}

int weights_open(Weights **w, const char *path, Err *e)
{
    return open_file(w, path, false, e);
}

int weights_open_packed(Weights **w, const char *path, Err *e)
{
    return open_file(w, path, true, e);
}

int weights_adopt(Weights **result, const char *path, Weight *tensor, size_t count, json_t *metadata, void *owner,
                  void (*release)(void *), Err *e)
{
    Weights *w = calloc(1, sizeof *w);
    int failed = !w || !(w->path = strdup(path)) || !(w->by_name = calloc(count + 1, sizeof *w->by_name))
               ? err_set(e, "out of memory") : 0;
    *result = NULL;
    if (!w) {
        free(tensor);
        json_decref(metadata);
        release(owner);
        return -1;
    }
    w->header = metadata ? json_pack("{s:o}", METADATA, metadata) : NULL;
    w->weight = tensor;
    w->owner = owner;
    w->release = release;
    for (size_t i = 0; i < count && !failed; i++)
        w->by_name[i] = &tensor[i];
    if (!failed)
        qsort(w->by_name, count, sizeof *w->by_name, name_order);
    for (size_t i = 1; i < count && !failed; i++)
        if (strcmp(w->by_name[i - 1]->name, w->by_name[i]->name) == 0)
            failed = err_set(e, "%s: tensor %s comes twice", path, w->by_name[i]->name);
    w->count = count;
    if (failed) {
        weights_close(w);
        return -1;
    }
    *result = w;
    return 0;
}

void weights_close(Weights *w)
{
    if (!w)
        return;
    if (w->release)
        w->release(w->owner);
    for (size_t i = 0; i < w->copies; i++)
        free(w->copy[i]);
    if (w->map)
        munmap(w->map, w->size);
    json_decref(w->header);
    free(w->copy);
    free(w->by_name);
    free(w->weight);
    free(w->path);
    free(w);
}

const char *weights_path(const Weights *w)
{
    return w->path;
}

size_t weights_count(const Weights *w)
{
    return w->count;
}

const Weight *weights_at(const Weights *w, size_t i)
{
    return i < w->count ? &w->weight[i] : NULL;
}

const Weight *weights_find(const Weights *w, const char *name)
{
    const Weight key = {.name = name}, *wanted = &key;
    const Weight **found = bsearch(&wanted, w->by_name, w->count, sizeof *w->by_name, name_order);
    return found ? *found : NULL;
}

bool weights_has(const Weights *w, const char *name)
{
    return weights_find(w, name) || (strcmp(name, METADATA) != 0 && json_object_get(w->header, name));
}

const char *weights_unread(const Weights *w)
{
    const char *name;
    json_t *entry;
    json_object_foreach(w->header, name, entry)
        if (strcmp(name, METADATA) != 0 && !weights_find(w, name))
            return name;
    return NULL;
}

const json_t *weights_metadata(const Weights *w)
{
    return json_object_get(w->header, METADATA);
}

const Weight *weights_need(const Weights *w, const char *name, int ndim, const int64_t *dim, Err *e)
{
    const Weight *t = weights_find(w, name);
    char expected[SHAPE_SIZE], found[SHAPE_SIZE];
    shape_text(expected, ndim, dim);
    if (!t) {
        const json_t *entry = json_object_get(w->header, name);
        const char *type = json_string_value(json_object_get(entry, "dtype"));
        if (type)
            err_set(e, "%s: tensor %s is of type %s, expected F32, F16 or BF16 %s", w->path, name, type, expected);
        else
            err_set(e, "%s: tensor %s is missing, expected %s", w->path, name, expected);
        return NULL;
    }
    int fits = t->ndim == ndim && dtype_is_float(t->type);
    for (int i = 0; i < ndim && fits; i++)
        fits = dim[i] < 0 || t->dim[i] == dim[i];
    if (fits)
        return t;
    shape_text(found, t->ndim, t->dim);
    err_set(e, "%s: tensor %s is %s %s, expected f32, f16 or bf16 %s", w->path, name, weight_type(t), found,
            expected);
    return NULL;
}

int weights_finite(const Weights *w, const Weight *t, Err *e)
{
    const size_t n = weight_count(t), size = dtype_size(t->type);
    const char *data = t->data;
    size_t from = 0, count = n;
    if (dtype_finite(data, t->type, n))
        return 0;
    while (count > 1) {                 /* the first is in the former half, or that is finite */
        const size_t half = count / 2;
        if (dtype_finite(data + from * size, t->type, half)) {
            from += half;
            count -= half;
        } else {
            count = half;
        }
    }
    double x;
    dtype_to_f64(&x, data + from * size, t->type, 1);
    return err_set(e, "%s: tensor %s has %g at value %zu", w->path, t->name, x, from);
}

const Weight *weights_need_finite(const Weights *w, const char *name, int ndim, const int64_t *dim, Err *e)
{
    const Weight *t = weights_need(w, name, ndim, dim, e);
    return t && weights_finite(w, t, e) == 0 ? t : NULL;
}

float *weights_floats(const Weights *w, const char *name, int ndim, const int64_t *dim, Err *e)
{
    const Weight *t = weights_need(w, name, ndim, dim, e);
    if (!t)
        return NULL;
    const size_t n = weight_count(t), bytes = (n * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
    float *y = aligned_alloc(ALIGN, bytes ? bytes : ALIGN);
    if (y)
        dtype_to_f32(y, t->data, t->type, n);
    else
        err_set(e, "%s: out of memory for tensor %s", w->path, name);
    return y;
}
