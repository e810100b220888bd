/* SPDX-License-Identifier: MIT */
/* torch_zip.c -- the zip of torch.save: its directory, then a tensor for each that the pickle describes.
 *
 *     [local header, bytes]...  [central directory]  ([zip64 end][its locator])  [end: 22 bytes, comment]
 *
 * A tensor is element offset + sum_i n_i*stride_i of its storage; where that is not the order of its own elements they
 * are copied into it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "formats/affix.h"
#include "formats/fdio.h"
#include "formats/little.h"
#include "formats/torch_zip.h"
#include "formats/unpickle.h"

enum { MAX_NAME = 512, MAX_DEPTH = 8, MAX_TENSORS = 1 << 16, MAX_VISITS = 1 << 20 };

typedef struct Entry { const char *name; size_t length; const uint8_t *data; uint64_t size; } Entry;

typedef struct Torch {
    const char *path;
    uint8_t *map;
    size_t size;                    /* of the file */
    Entry *entry;                   /* sorted by name */
    size_t entries;
    const char *stem;               /* folder in the zip */
    int stem_length;
    Pickle *pickle;
    void **owned;                   /* names and copies of tensors */
    size_t owns, owned_room;
    uint64_t copied;                /* bytes */
    Weight *tensor;
    size_t tensors, room, visits;
} Torch;

static void release(void *owner)
{
    Torch *t = owner;
    for (size_t i = 0; i < t->owns; i++)
        free(t->owned[i]);
    free(t->owned);
    free(t->entry);
    pickle_free(t->pickle);
    if (t->map)
        munmap(t->map, t->size);
    free(t);
}

/* ---- the zip ---- */

/* The end record, searched backwards over the longest comment; NULL when there is none. */
static const uint8_t *find_end(const Torch *t)
{
    for (uint64_t back = 22; back <= t->size && back <= 22 + 65535; back++) {
        const uint8_t *p = t->map + t->size - back;
        if (memcmp(p, "PK\5\6", 4) == 0 && little(p + 20, 2) == back - 22)
            return p;
    }
    return NULL;
}

static int find_directory(const Torch *t, uint64_t *at, uint64_t *size, uint64_t *count, Err *e)
{
    const uint8_t *end = find_end(t);
    if (!end)
        return err_set(e, "%s: has no end of a zip: not a file of torch.save, or cut", t->path);
    *count = little(end + 10, 2);
    *size = little(end + 12, 4);
    *at = little(end + 16, 4);
    const uint64_t before = (uint64_t)(end - t->map);
    if (before >= 76 && memcmp(end - 20, "PK\6\7", 4) == 0) {
        const uint64_t place = little(end - 12, 8);
        if (place > before - 76 || memcmp(t->map + place, "PK\6\6", 4) != 0)
            return err_set(e, "%s: the zip64 end is not at byte %llu", t->path, (unsigned long long)place);
        *count = little(t->map + place + 32, 8);
        *size = little(t->map + place + 40, 8);
        *at = little(t->map + place + 48, 8);
    }
    if (*at > t->size || *size > t->size - *at || *count > *size/46)
        return err_set(e, "%s: the zip's directory (%llu entries in %llu bytes at %llu) does not fit the file", t->path,
                       (unsigned long long)*count, (unsigned long long)*size, (unsigned long long)*at);
    return 0;
}

/* Sizes and offset of a large entry, from its extra field 1: those of them, in this order, that are 0xffffffff. */
static void read_zip64(const uint8_t *extra, size_t n, uint64_t *value[3])
{
    for (size_t at = 0; at + 4 <= n;) {
        const size_t id = little(extra + at, 2), length = little(extra + at + 2, 2);
        const uint8_t *p = extra + (at += 4);
        if (length > n - at)
            return;
        for (size_t used = 0, i = 0; id == 1 && i < 3; i++)
            if (*value[i] == 0xffffffff && used + 8 <= length) {
                *value[i] = little(p + used, 8);
                used += 8;
            }
        at += length;
    }
}

/* One record of the directory at p (room bytes are left); *length is its own. */
static int read_entry(const Torch *t, const uint8_t *p, uint64_t room, Entry *entry, uint64_t *length, Err *e)
{
    if (room < 46 || memcmp(p, "PK\1\2", 4) != 0)
        return err_set(e, "%s: the zip's directory is damaged at byte %llu", t->path,
                       (unsigned long long)(p - t->map));
    const size_t name = little(p + 28, 2), extra = little(p + 30, 2), comment = little(p + 32, 2);
    uint64_t packed = little(p + 20, 4), size = little(p + 24, 4), at = little(p + 42, 4);
    *length = 46 + name + extra + comment;
    if (*length > room || memchr(p + 46, 0, name))
        return err_set(e, "%s: the zip's directory is damaged at byte %llu", t->path,
                       (unsigned long long)(p - t->map));
    read_zip64(p + 46 + name, extra, (uint64_t *[]){&size, &packed, &at});
    *entry = (Entry){(const char *)p + 46, name, NULL, size};
    if (little(p + 8, 2) & 1)
        return err_set(e, "%s: %.*s is encrypted", t->path, (int)name, entry->name);
    if (little(p + 10, 2) != 0 || packed != size)
        return err_set(e, "%s: %.*s is compressed (method %d), torch stores", t->path, (int)name, entry->name,
                       (int)little(p + 10, 2));
    if (at > t->size || t->size - at < 30 || memcmp(t->map + at, "PK\3\4", 4) != 0)
        return err_set(e, "%s: %.*s does not begin at byte %llu", t->path, (int)name, entry->name,
                       (unsigned long long)at);
    const uint64_t begin = at + 30 + little(t->map + at + 26, 2) + little(t->map + at + 28, 2);
    if (begin > t->size || size > t->size - begin)
        return err_set(e, "%s: %.*s is %llu bytes at %llu, the file ends at %llu", t->path, (int)name, entry->name,
                       (unsigned long long)size, (unsigned long long)begin, (unsigned long long)t->size);
    entry->data = t->map + begin;
    return 0;
}

static int entry_order(const void *x, const void *y)
{
    const Entry *a = x, *b = y;
    const int order = memcmp(a->name, b->name, a->length < b->length ? a->length : b->length);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static int read_directory(Torch *t, Err *e)
{
    uint64_t at = 0, size = 0, count = 0, length = 0;
    if (t->size < 4 || memcmp(t->map, "PK\3\4", 4) != 0)
        return err_set(e, "%s: is no zip: files of torch before 1.6 are not read (load and save them with a newer one)",
                       t->path);
    if (find_directory(t, &at, &size, &count, e))
        return -1;
    if (!(t->entry = calloc(count + 1, sizeof *t->entry)))
        return err_set(e, "out of memory");
    for (const uint64_t end = at + size; t->entries < count; at += length)
        if (read_entry(t, t->map + at, end - at, &t->entry[t->entries++], &length, e))
            return -1;
    qsort(t->entry, t->entries, sizeof *t->entry, entry_order);
    for (size_t i = 1; i < t->entries; i++)
        if (entry_order(&t->entry[i - 1], &t->entry[i]) == 0)
            return err_set(e, "%s: %.*s comes twice", t->path, (int)t->entry[i].length, t->entry[i].name);
    return 0;
}

/* The entry STEM/name, NULL when there is none. */
static const Entry *find_entry(const Torch *t, const char *name)
{
    char whole[2*MAX_NAME];
    const int n = snprintf(whole, sizeof whole, "%.*s/%s", t->stem_length, t->stem, name);
    const Entry key = {whole, (size_t)n, NULL, 0};
    return n < (int)sizeof whole ? bsearch(&key, t->entry, t->entries, sizeof key, entry_order) : NULL;
}

static int find_stem(Torch *t, Err *e)
{
    static const char wanted[] = "/data.pkl";
    const size_t n = sizeof wanted - 1;
    for (size_t i = 0; i < t->entries; i++) {
        const Entry *entry = &t->entry[i];
        if (entry->length <= n || entry->length - n > MAX_NAME
            || memcmp(entry->name + entry->length - n, wanted, n) != 0 || memchr(entry->name, '/', entry->length - n))
            continue;
        if (t->stem)
            return err_set(e, "%s: holds two files data.pkl", t->path);
        t->stem = entry->name;
        t->stem_length = (int)(entry->length - n);
    }
    if (!t->stem)
        return err_set(e, "%s: the zip has no data.pkl: not a file of torch.save", t->path);
    const Entry *order = find_entry(t, "byteorder");
    if (order && (order->size != 6 || memcmp(order->data, "little", 6) != 0))
        return err_set(e, "%s: byteorder is %.*s, expected little", t->path, (int)(order->size < 20 ? order->size : 20),
                       (const char *)order->data);
    return 0;
}

/* ---- tensors ---- */

static void *own(Torch *t, void *p)
{
    if (p && t->owns == t->owned_room) {
        const size_t room = t->owned_room ? 2*t->owned_room : 64;
        void **grown = realloc(t->owned, room*sizeof *grown);
        if (!grown) {
            free(p);
            return NULL;
        }
        t->owned = grown;
        t->owned_room = room;
    }
    if (p)
        t->owned[t->owns++] = p;
    return p;
}

/* Copies the tensor's elements in their own order, from src, whose bounds are checked. */
static void gather(uint8_t *to, const uint8_t *src, const Weight *w, const int64_t *stride)
{
    const size_t bytes = dtype_size(w->type), count = weight_count(w);
    int64_t index[8] = {0}, at = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(to + i*bytes, src + (size_t)at*bytes, bytes);
        int d = w->ndim - 1;
        for (; d >= 0 && index[d] == w->dim[d] - 1; d--) {
            at -= stride[d]*index[d];
            index[d] = 0;
        }
        if (d >= 0) {
            at += stride[d];
            index[d]++;
        }
    }
}

/* Shape and strides of v; *count elements, of which the last is *last, from the tensor's first. -1: they overflow */
static int measure(const PickleValue *v, Weight *w, int64_t *stride, uint64_t *count, uint64_t *last)
{
    const PickleValue *size = v->item[1];
    *count = 1;
    *last = 0;
    w->ndim = (int)size->count;
    for (int i = 0; i < w->ndim; i++) {
        w->dim[i] = size->item[i]->number;
        stride[i] = w->dim[i] == 1 ? 0 : v->item[2]->item[i]->number;
        if (__builtin_mul_overflow(*count, (uint64_t)w->dim[i], count))
            return -1;
    }
    for (int i = 0; i < w->ndim && *count > 0; i++) {
        uint64_t reach;
        if (__builtin_mul_overflow((uint64_t)(w->dim[i] - 1), (uint64_t)stride[i], &reach)
            || __builtin_add_overflow(*last, reach, last))
            return -1;
    }
    return 0;
}

static int is_contiguous(const Weight *w, const int64_t *stride)
{
    int64_t expected = 1;
    for (int i = w->ndim; i-- > 0;) {
        if (w->dim[i] != 1 && stride[i] != expected)
            return 0;
        expected *= w->dim[i];
    }
    return 1;
}

/* The data of a tensor at src: there where it may stay, else a copy. NULL on error. */
static const void *place(Torch *t, const uint8_t *src, const Weight *w, const int64_t *stride, Err *e)
{
    const uint64_t bytes = weight_count(w)*dtype_size(w->type);
    if (bytes == 0 || (is_contiguous(w, stride) && (uintptr_t)src % dtype_size(w->type) == 0))
        return src;
    t->copied += bytes;
    void *copy = t->copied <= t->size ? own(t, malloc(bytes)) : NULL;
    if (copy)
        gather(copy, src, w, stride);
    else
        err_set(e, "%s: tensor %s: the copies of strided tensors need %llu bytes, more than the file or the memory",
                t->path, w->name, (unsigned long long)t->copied);
    return copy;
}

static int add_tensor(Torch *t, const char *name, const PickleValue *v, Err *e)
{
    const PickleValue *storage = v->item[0];
    char key[MAX_NAME];
    Weight w = {.type = storage->type};
    int64_t stride[8] = {0};
    uint64_t count = 0, last = 0, bytes = 0;
    const size_t size = dtype_size(w.type);
    snprintf(key, sizeof key, "data/%.400s", storage->text);
    const Entry *entry = find_entry(t, key);
    if (!entry)
        return err_set(e, "%s: tensor %s: its storage %s is missing", t->path, name, key);
    if (__builtin_mul_overflow((uint64_t)storage->number, size, &bytes) || bytes > entry->size)
        return err_set(e, "%s: tensor %s: its storage claims %lld elements of %zu bytes, %s is %llu bytes", t->path,
                       name, (long long)storage->number, size, key, (unsigned long long)entry->size);
    const uint64_t offset = (uint64_t)v->number, all = (uint64_t)storage->number;
    if (measure(v, &w, stride, &count, &last) || count > all || offset > all || (count > 0 && last >= all - offset))
        return err_set(e, "%s: tensor %s: its shape and strides reach out of its storage of %llu elements", t->path,
                       name, (unsigned long long)all);
    if (t->tensors == t->room) {
        const size_t room = t->room ? 2*t->room : 64;
        Weight *grown = room <= MAX_TENSORS ? realloc(t->tensor, room*sizeof *grown) : NULL;
        if (!grown)
            return err_set(e, "%s: more than %zu tensors", t->path, t->room);
        t->tensor = grown;
        t->room = room;
    }
    if (!(w.name = own(t, strdup(name))))
        return err_set(e, "out of memory");
    if (!(w.data = place(t, entry->data + offset*size, &w, stride, e)))
        return -1;
    t->tensor[t->tensors++] = w;
    return 0;
}

/* Walks the dicts and lists in v; name is that of v, in a buffer of MAX_NAME. */
static int walk(Torch *t, char *name, const PickleValue *v, int depth, Err *e)
{
    if (v->kind == PICKLE_TENSOR)
        return add_tensor(t, name, v, e);
    if (v->kind != PICKLE_DICT && v->kind != PICKLE_LIST && v->kind != PICKLE_TUPLE)
        return 0;
    if (depth == MAX_DEPTH || t->visits + v->count > MAX_VISITS)
        return err_set(e, "%s: %.100s: dicts nested deeper than %d, or with more than %d values in all", t->path, name,
                       MAX_DEPTH, MAX_VISITS);
    t->visits += v->count;
    const size_t length = strlen(name), pace = v->kind == PICKLE_DICT ? 2 : 1;
    for (size_t i = 0; i < v->count; i += pace) {
        const PickleValue *key = pace == 2 ? v->item[i] : NULL;
        const int text = key && key->kind == PICKLE_TEXT;
        if (key && key->kind == PICKLE_NAME)
            continue;                                   /* a trainer's callbacks are keyed by their class */
        if (key && !text && key->kind != PICKLE_INT)
            return err_set(e, "%s: %.100s: a key is neither text nor an integer", t->path, name);
        char number_text[32];
        snprintf(number_text, sizeof number_text, "%lld", (long long)(key ? key->number : (int64_t)i));
        const int n = snprintf(name + length, MAX_NAME - length, "%s%s", length ? "." : "",
                               text ? key->text : number_text);
        if (n >= (int)(MAX_NAME - length))
            return err_set(e, "%s: %.100s...: a name of more than %d bytes", t->path, name, MAX_NAME - 1);
        if (walk(t, name, v->item[i + pace - 1], depth + 1, e))
            return -1;
        name[length] = 0;
    }
    return 0;
}

static int read_pickle(Torch *t, Err *e)
{
    char where[5000], name[MAX_NAME] = "";
    const Entry *entry = find_entry(t, "data.pkl");
    snprintf(where, sizeof where, "%.4096s: data.pkl", t->path);
    return unpickle(&t->pickle, entry->data, entry->size, where, e) || walk(t, name, pickle_root(t->pickle), 0, e)
         ? -1 : 0;
}

/* An object of the texts that lie in the outermost dict; those that are no UTF-8 are left out. NULL: out of memory */
static json_t *root_texts(const PickleValue *root)
{
    json_t *texts = json_object();
    for (size_t i = 0; texts && root->kind == PICKLE_DICT && i + 1 < root->count; i += 2)
        if (root->item[i]->kind == PICKLE_TEXT && root->item[i + 1]->kind == PICKLE_TEXT)
            json_object_set_new(texts, root->item[i]->text, json_string(root->item[i + 1]->text));
    return texts;
}

bool torch_file_named(const char *name)
{
    return ends_with(name, ".bin") || ends_with(name, ".ckpt") || ends_with(name, ".pth") || ends_with(name, ".pt");
}

int torch_zip_open(Weights **w, const char *path, Err *e)
{
    json_t *texts = NULL;
    *w = NULL;
    Torch *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, "out of memory");
    t->path = path;
    if (file_map(&t->map, &t->size, path, "a file of torch.save", e) || read_directory(t, e) || find_stem(t, e)
        || read_pickle(t, e)
        || (!(texts = root_texts(pickle_root(t->pickle))) && err_set(e, "out of memory"))) {
        free(t->tensor);
        release(t);
        return -1;
    }
    return weights_adopt(w, path, t->tensor, t->tensors, texts, t, release, e);
}
