/* SPDX-License-Identifier: MIT */
/* gguf.c -- the container: what is before the tensors, and where each is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "formats/fdio.h"
#include "formats/gguf.h"
#include "formats/gguf_types.h"
#include "formats/little.h"
#include "formats/spans.h"

enum { MAX_DIMS = 8, MAX_DEPTH = 8, MAX_NAME = 512, MAX_TENSORS = 1 << 16 };
static const uint64_t MAX_VALUES = INT64_MAX/8;         /* of a tensor, whose bytes then do not overflow */
/* Bytes of the smallest pair (a key of no letters, a u8) and tensor (of no dimensions). */
enum { LEAST_PAIR = 13, LEAST_TENSOR = 24 };
/* Types of values of pairs. */
enum { TYPE_U32 = 4, TYPE_I32 = 5, TYPE_TEXT = 8, TYPE_ARRAY = 9, TYPES = 13 };
static const uint8_t sizes[TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static const char SHAPE_KEY[] = "comfy.gguf.orig_shape.";

typedef struct Text { const char *data; uint64_t size; } Text;          /* in the mapping, without a 0 at its end */
typedef struct Shape { Text name; const uint8_t *dim; uint64_t ndim; } Shape;       /* dim: i32 each */

typedef struct Gguf {
    const char *path;
    uint8_t *map;
    size_t size, at;                /* of the file, and what has been read of it */
    uint64_t alignment;
    uint64_t shapes, tensors;
    Shape *shape;                   /* sorted by name */
    Weight *tensor;
    char **name;
    uint64_t *offset;               /* of each tensor, in the data */
} Gguf;

static void release(void *owner)
{
    Gguf *g = owner;
    for (uint64_t i = 0; i < g->tensors && g->name; i++)
        free(g->name[i]);
    if (g->map)
        munmap(g->map, g->size);
    free(g->name);
    free(g->shape);
    free(g->offset);
    free(g);
}

/* ---- numbers and texts ---- */

/* The next n bytes, NULL with an error where the file ends before. */
static const uint8_t *take(Gguf *g, uint64_t n, const char *what, Err *e)
{
    if (n > g->size - g->at) {
        err_set(e, "%s: %llu bytes of %s should follow byte %zu, the file ends after %zu: it was cut, or is damaged",
                g->path, (unsigned long long)n, what, g->at, g->size);
        return NULL;
    }
    const uint8_t *p = g->map + g->at;
    g->at += n;
    return p;
}

static int take_number(Gguf *g, int bytes, uint64_t *n, const char *what, Err *e)
{
    const uint8_t *p = take(g, (uint64_t)bytes, what, e);
    *n = p ? little(p, bytes) : 0;
    return p ? 0 : -1;
}

static int take_text(Gguf *g, Text *text, const char *what, Err *e)
{
    if (take_number(g, 8, &text->size, what, e))
        return -1;
    text->data = (const char *)take(g, text->size, what, e);
    return text->data ? 0 : -1;
}

/* ---- pairs ---- */

static int bad_type(const Gguf *g, uint64_t type, Err *e)
{
    return err_set(e, "%s: a value before byte %zu is of type %llu, expected 0 to %d", g->path, g->at,
                   (unsigned long long)type, TYPES - 1);
}

static int skip_value(Gguf *g, uint64_t type, int depth, Err *e)
{
    uint64_t of, count, bytes;
    Text text;
    if (type >= TYPES)
        return bad_type(g, type, e);
    if (type == TYPE_TEXT)
        return take_text(g, &text, "a value", e);
    if (type != TYPE_ARRAY)
        return take(g, sizes[type], "a value", e) ? 0 : -1;
    if (depth == MAX_DEPTH)
        return err_set(e, "%s: arrays nested deeper than %d at byte %zu", g->path, MAX_DEPTH, g->at);
    if (take_number(g, 4, &of, "an array", e) || take_number(g, 8, &count, "an array", e))
        return -1;
    if (of >= TYPES)
        return bad_type(g, of, e);
    if (!sizes[of]) {                           /* each value is some bytes, so that the file's end ends this */
        for (uint64_t i = 0; i < count; i++)
            if (skip_value(g, of, depth + 1, e))
                return -1;
        return 0;
    }
    if (__builtin_mul_overflow(count, (uint64_t)sizes[of], &bytes))
        bytes = UINT64_MAX;
    return take(g, bytes, "an array", e) ? 0 : -1;
}

static int read_alignment(Gguf *g, uint64_t type, Err *e)
{
    if (type != TYPE_U32)
        return err_set(e, "%s: general.alignment is of type %llu, expected %d (u32)", g->path, (unsigned long long)type,
                       TYPE_U32);
    if (take_number(g, 4, &g->alignment, "general.alignment", e))
        return -1;
    if (g->alignment < 8 || (g->alignment & (g->alignment - 1)))
        return err_set(e, "%s: general.alignment is %llu, expected a power of two from 8 on", g->path,
                       (unsigned long long)g->alignment);
    return 0;
}

static int read_shape(Gguf *g, Text name, uint64_t type, Err *e)
{
    const size_t at = g->at;
    if (skip_value(g, type, 0, e))
        return -1;
    const uint8_t *p = g->map + at;
    const uint64_t ndim = type == TYPE_ARRAY ? little(p + 4, 8) : 0;
    if (type != TYPE_ARRAY || little(p, 4) != TYPE_I32 || ndim > MAX_DIMS)
        return err_set(e, "%s: %s%.*s is no array of at most %d i32", g->path, SHAPE_KEY, (int)name.size, name.data,
                       MAX_DIMS);
    g->shape[g->shapes++] = (Shape){name, p + 12, ndim};
    return 0;
}

static int text_order(Text a, Text b)
{
    const int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int shape_order(const void *x, const void *y)
{
    return text_order(((const Shape *)x)->name, ((const Shape *)y)->name);
}

static int read_pairs(Gguf *g, uint64_t count, Err *e)
{
    static const Text alignment = {"general.alignment", sizeof "general.alignment" - 1};
    const size_t start = sizeof SHAPE_KEY - 1;
    for (uint64_t i = 0; i < count; i++) {
        Text key;
        uint64_t type;
        if (take_text(g, &key, "a key", e) || take_number(g, 4, &type, "a key's type", e))
            return -1;
        const bool shape = key.size > start && key.size - start < MAX_NAME && memcmp(key.data, SHAPE_KEY, start) == 0;
        const int failed = shape ? read_shape(g, (Text){key.data + start, key.size - start}, type, e)
                         : text_order(key, alignment) == 0 ? read_alignment(g, type, e) : skip_value(g, type, 0, e);
        if (failed)
            return -1;
    }
    qsort(g->shape, g->shapes, sizeof *g->shape, shape_order);
    return 0;
}

/* ---- tensors ---- */

/* The shape that a tensor had before it was stored in rows. */
static int restore_shape(const Gguf *g, Weight *w, uint64_t count, Err *e)
{
    const Shape key = {.name = {w->name, strlen(w->name)}};
    const Shape *s = bsearch(&key, g->shape, g->shapes, sizeof key, shape_order);
    uint64_t n = 1;
    bool fits = true;
    if (!s)
        return 0;
    w->ndim = (int)s->ndim;
    for (int i = 0; i < w->ndim; i++) {
        w->dim[i] = (int32_t)little(s->dim + 4*i, 4);
        fits = fits && w->dim[i] >= 0 && !__builtin_mul_overflow(n, (uint64_t)w->dim[i], &n);
    }
    char text[SHAPE_SIZE];
    return fits && n == count ? 0
         : err_set(e, "%s: %s%s is %s, and %s has %llu values", g->path, SHAPE_KEY, w->name,
                   shape_text(text, w->ndim, w->dim), w->name, (unsigned long long)count);
}

static int set_type(const Gguf *g, Weight *w, uint64_t number, Err *e)
{
    const GgufType *t = gguf_type((uint32_t)number);
    if (!t)
        return err_set(e, "%s: tensor %s is of type %llu, which is unknown", g->path, w->name,
                       (unsigned long long)number);
    if (!t->values)
        return err_set(e, "%s: tensor %s is of type %s, expected plain values, q4_0 to q8_0, q2_k to q6_k, iq4_nl or "
                       "iq4_xs", g->path, w->name, t->name);
    w->type = t->type;
    w->blocks = t->unpack ? t : NULL;
    return 0;
}

/* Dimensions, and how many values they are; *count is 1 before. */
static int read_dims(Gguf *g, Weight *w, uint64_t *count, Err *e)
{
    uint64_t ndim, dim;
    if (take_number(g, 4, &ndim, w->name, e))
        return -1;
    if (ndim > MAX_DIMS)
        return err_set(e, "%s: tensor %s has %llu dimensions, at most %d are read", g->path, w->name,
                       (unsigned long long)ndim, MAX_DIMS);
    w->ndim = (int)ndim;
    for (int i = w->ndim; i-- > 0;) {
        if (take_number(g, 8, &dim, w->name, e))
            return -1;
        if (dim > MAX_VALUES || __builtin_mul_overflow(*count, dim, count) || *count > MAX_VALUES)
            return err_set(e, "%s: tensor %s: its shape overflows", g->path, w->name);
        w->dim[i] = (int64_t)dim;
    }
    return 0;
}

static int read_tensor(Gguf *g, uint64_t i, Err *e)
{
    Weight *w = &g->tensor[i];
    Text name;
    uint64_t count = 1, type;
    if (take_text(g, &name, "a tensor's name", e))
        return -1;
    if (name.size >= MAX_NAME || memchr(name.data, 0, name.size))
        return err_set(e, "%s: a name of %llu bytes at byte %zu, expected less than %d and none of them 0", g->path,
                       (unsigned long long)name.size, g->at, MAX_NAME);
    if (!(w->name = g->name[i] = strndup(name.data, name.size)))
        return err_set(e, "out of memory");
    if (read_dims(g, w, &count, e) || take_number(g, 4, &type, w->name, e)
        || take_number(g, 8, &g->offset[i], w->name, e) || set_type(g, w, type, e))
        return -1;
    const int64_t row = w->ndim ? w->dim[w->ndim - 1] : 1;
    if (w->blocks && row % w->blocks->values)
        return err_set(e, "%s: tensor %s: rows of %lld values are no whole blocks of %s, which are %d", g->path,
                       w->name, (long long)row, w->blocks->name, w->blocks->values);
    return restore_shape(g, w, count, e);
}

/* Where each tensor is, once all that stands before the data is read. */
static int place_tensors(Gguf *g, Span *span, Err *e)
{
    const uint64_t begin = (g->at + g->alignment - 1) / g->alignment*g->alignment;
    for (uint64_t i = 0; i < g->tensors; i++) {
        Weight *w = &g->tensor[i];
        const uint64_t at = g->offset[i], bytes = weight_bytes(w);
        if (at % g->alignment)
            return err_set(e, "%s: tensor %s: its offset %llu is no multiple of %llu", g->path, w->name,
                           (unsigned long long)at, (unsigned long long)g->alignment);
        if (bytes && (begin > g->size || at > g->size - begin || bytes > g->size - begin - at))
            return err_set(e, "%s: tensor %s is %llu bytes at %llu of the data, the file holds %llu: it was cut, or is "
                           "damaged", g->path, w->name, (unsigned long long)bytes, (unsigned long long)at,
                           (unsigned long long)(begin > g->size ? 0 : g->size - begin));
        w->data = g->map + (bytes ? begin + at : 0);
        span[i] = (Span){bytes ? at : 0, bytes ? at + bytes : 0, w->name};
    }
    return spans_sort(span, g->tensors, g->path, e);
}

static int read_all(Gguf *g, Err *e)
{
    uint64_t version, pairs;
    const uint8_t *magic = take(g, 4, "a beginning", e);
    if (!magic)
        return -1;
    if (memcmp(magic, "GGUF", 4) != 0)
        return err_set(e, "%s: does not begin with GGUF: is no GGUF file", g->path);
    if (take_number(g, 4, &version, "a version", e))
        return -1;
    if (version != 2 && version != 3)
        return err_set(e, "%s: is GGUF of version %llu%s, expected 2 or 3", g->path, (unsigned long long)version,
                       version && !(version & 0xffff) ? " (big-endian?)" : "");
    if (take_number(g, 8, &g->tensors, "a count", e) || take_number(g, 8, &pairs, "a count", e))
        return -1;
    const uint64_t left = g->size - g->at, tensors = g->tensors;
    g->tensors = 0;                                     /* until there are names to release */
    if (tensors > left/LEAST_TENSOR || pairs > left/LEAST_PAIR || tensors > MAX_TENSORS)
        return err_set(e, "%s: claims %llu tensors and %llu keys, in %llu bytes; of tensors at most %d are read",
                       g->path, (unsigned long long)tensors, (unsigned long long)pairs, (unsigned long long)left,
                       MAX_TENSORS);
    Span *span = calloc(tensors + 1, sizeof *span);
    g->shape = calloc(pairs + 1, sizeof *g->shape);
    g->tensor = calloc(tensors + 1, sizeof *g->tensor);
    g->name = calloc(tensors + 1, sizeof *g->name);
    g->offset = calloc(tensors + 1, sizeof *g->offset);
    int failed = !span || !g->shape || !g->tensor || !g->name || !g->offset
               ? err_set(e, "%s: out of memory for %llu tensors", g->path, (unsigned long long)tensors)
               : read_pairs(g, pairs, e);
    for (; g->tensors < tensors && !failed;)
        failed = read_tensor(g, g->tensors++, e);
    failed = failed || place_tensors(g, span, e);
    free(span);
    return failed;
}

int gguf_open(Weights **w, const char *path, Err *e)
{
    *w = NULL;
    Gguf *g = calloc(1, sizeof *g);
    if (!g)
        return err_set(e, "out of memory");
    g->path = path;
    g->alignment = 32;
    if (file_map(&g->map, &g->size, path, "a GGUF file", e) || read_all(g, e)) {
        free(g->tensor);
        release(g);
        return -1;
    }
    return weights_adopt(w, path, g->tensor, g->tensors, NULL, g, release, e);
}
