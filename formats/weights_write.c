/* SPDX-License-Identifier: MIT */
/* weights_write.c -- writes safetensors files: larger elements first, so that every tensor is aligned to its own, and a
 * header padded with spaces, so that the data begins at a multiple of 64. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "formats/aside.h"
#include "formats/fdio.h"
#include "formats/weights.h"

enum { ALIGN = 64 };

/* The tensors as they will lie: by element size, each size in the order given. NULL: out of memory */
static const Weight **layout(const Weight *tensors, size_t count)
{
    const Weight **order = malloc((count + 1) * sizeof *order);
    size_t placed = 0;
    for (size_t size = 8; order && size > 0; size /= 2)
        for (size_t i = 0; i < count; i++)
            if (dtype_size(tensors[i].type) == size)
                order[placed++] = &tensors[i];
    return order;
}

static char *header_text(const Weight **order, size_t count, const json_t *metadata)
{
    json_t *header = json_object();
    if (metadata)
        json_object_set(header, "__metadata__", (json_t *)metadata);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        json_t *shape = json_array();
        for (int d = 0; d < order[i]->ndim; d++)
            json_array_append_new(shape, json_integer(order[i]->dim[d]));
        const size_t end = at + weight_bytes(order[i]);
        json_object_set_new(header, order[i]->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_safetensors(order[i]->type),
                                      "shape", shape, "data_offsets", (json_int_t)at, (json_int_t)end));
        at = end;
    }
    char *text = json_object_size(header) == count + (metadata ? 1 : 0) ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    return text;
}

typedef struct Contents {
    const Weight *tensors, **order;
    size_t count;
    WeightData *data;
    void *context;
} Contents;

static int write_all(int fd, const char *path, const char *text, const Contents *c, Err *e)
{
    const size_t length = strlen(text), padded = (8 + length + ALIGN - 1) / ALIGN * ALIGN - 8;
    uint8_t size[8], spaces[ALIGN];
    for (int i = 0; i < 8; i++)
        size[i] = (uint8_t)((uint64_t)padded >> 8*i);
    memset(spaces, ' ', sizeof spaces);
    if (fd_write(fd, path, size, 8, e) || fd_write(fd, path, text, length, e)
        || fd_write(fd, path, spaces, padded - length, e))
        return -1;
    for (size_t i = 0; i < c->count; i++) {
        const void *data = c->data(c->context, (size_t)(c->order[i] - c->tensors), e);
        const size_t bytes = weight_bytes(c->order[i]);
        if (bytes > 0 && (!data || fd_write(fd, path, data, bytes, e)))
            return -1;
    }
    return 0;
}

int weights_write_each(const char *path, const Weight *tensors, size_t count, const json_t *metadata, WeightData *data,
                       void *context, Err *e)
{
    const Weight **order = layout(tensors, count);
    char *text = order ? header_text(order, count, metadata) : NULL;
    Aside *out = text ? aside_open(path, e) : NULL;
    const Contents contents = {tensors, order, count, data, context};
    if (!text)
        err_set(e, "%s: the header cannot be made: a name comes twice or is not UTF-8, or memory ran out", path);
    const int failed = !out || write_all(aside_fd(out), path, text, &contents, e);
    free(text);
    free(order);
    if (failed) {
        aside_abandon(out);
        return -1;
    }
    return aside_commit(out, true, e);
}

static const void *own_data(void *context, size_t i, Err *e)
{
    (void)e;
    const Weight *tensors = context;
    return tensors[i].data;
}

int weights_write(const char *path, const Weight *tensors, size_t count, const json_t *metadata, Err *e)
{
    return weights_write_each(path, tensors, count, metadata, own_data, (void *)tensors, e);
}
