/* SPDX-License-Identifier: MIT */
/* pack.c -- a record as a msgpack map: fields in their order, then tensors as msgpack-numpy writes them. */
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>
#include "formats/mpscan.h"
#include "formats/pack.h"

int bytes_reserve(Bytes *b, size_t more)
{
    if (b->capacity - b->size >= more)
        return 0;
    size_t capacity = b->capacity + b->capacity / 2;
    if (capacity < b->size + more)
        capacity = b->size + more;
    uint8_t *data = realloc(b->data, capacity);
    if (!data)
        return -1;
    b->data = data;
    b->capacity = capacity;
    return 0;
}

static int append(void *to, const char *data, size_t n)
{
    Bytes *b = to;
    if (bytes_reserve(b, n))
        return -1;
    memcpy(b->data + b->size, data, n);
    b->size += n;
    return 0;
}

static int pack_text(msgpack_packer *pk, const char *text, size_t length)
{
    return msgpack_pack_str(pk, length) || msgpack_pack_str_body(pk, text, length);
}

static int pack_bin(msgpack_packer *pk, const char *text)
{
    return msgpack_pack_bin(pk, strlen(text)) || msgpack_pack_bin_body(pk, text, strlen(text));
}

static int pack_value(msgpack_packer *pk, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:    return msgpack_pack_nil(pk);
    case JSON_TRUE:    return msgpack_pack_true(pk);
    case JSON_FALSE:   return msgpack_pack_false(pk);
    case JSON_INTEGER: return msgpack_pack_int64(pk, json_integer_value(value));
    case JSON_REAL:    return msgpack_pack_double(pk, json_real_value(value));
    case JSON_STRING:  return pack_text(pk, json_string_value(value), json_string_length(value));
    case JSON_ARRAY: {
        int failed = msgpack_pack_array(pk, json_array_size(value));
        for (size_t i = 0; i < json_array_size(value) && !failed; i++)
            failed = pack_value(pk, json_array_get(value, i));
        return failed;
    }
    case JSON_OBJECT: {
        const char *name;
        size_t length;
        json_t *item;
        int failed = msgpack_pack_map(pk, json_object_size(value));
        json_object_keylen_foreach((json_t *)value, name, length, item)
            failed = failed || pack_text(pk, name, length) || pack_value(pk, item);
        return failed;
    }
    }
    return -1;
}

/* Everything of a tensor but its data's bytes. */
static int pack_tensor(msgpack_packer *pk, const StreamTensor *t)
{
    const char *type = dtype_numpy(t->type);
    int failed = pack_text(pk, t->name, strlen(t->name)) || msgpack_pack_map(pk, 5)
              || pack_bin(pk, "nd") || msgpack_pack_true(pk)
              || pack_bin(pk, "type") || pack_text(pk, type, strlen(type))
              || pack_bin(pk, "kind") || pack_bin(pk, "")
              || pack_bin(pk, "shape") || msgpack_pack_array(pk, (size_t)t->ndim);
    for (int i = 0; i < t->ndim && !failed; i++)
        failed = msgpack_pack_int64(pk, t->dim[i]);
    return failed || pack_bin(pk, "data") || msgpack_pack_bin(pk, t->bytes);
}

int pack_record(Bytes *b, const Record *rec, const StreamTensor **tail, const char *where, Err *e)
{
    msgpack_packer pk;
    msgpack_packer_init(&pk, b, append);
    size_t total = b->size;
    for (int i = 0; i < rec->tensors; i++) {
        total += rec->tensor[i].bytes;
        if (rec->tensor[i].bytes > MP_MAX_OBJECT || total - b->size > MP_MAX_OBJECT)
            return err_set(e, "%s: tensor %s makes the record larger than 1 GiB, the most that a stream holds", where,
                           rec->tensor[i].name);
    }
    if (bytes_reserve(b, total - b->size + 1024))
        return err_set(e, "%s: out of memory for a record of %zu bytes", where, total - b->size);

    const char *name, *why;
    json_t *value;
    const size_t start = b->size;
    MpScan scan = {0};          /* what a reader would refuse is not written */
    size_t hidden = 0;          /* labels of a tensor's name, which a stage has put in their place */
    json_object_foreach(rec->fields, name, value)
        hidden += record_tensor(rec, name) != NULL;
    int failed = msgpack_pack_map(&pk, json_object_size(rec->fields) - hidden + (size_t)rec->tensors);
    json_object_foreach(rec->fields, name, value) {
        if (hidden && record_tensor(rec, name))
            continue;
        failed = failed || pack_text(&pk, name, strlen(name)) || pack_value(&pk, value);
        if (!failed && mp_scan(&scan, b->data + start, b->size - start, &why) < 0)
            return err_set(e, "%s: field %s %s, more than a stream holds", where, name, why);
    }
    if (tail)
        *tail = NULL;
    for (int i = 0; i < rec->tensors && !failed; i++) {
        const StreamTensor *t = &rec->tensor[i];
        failed = pack_tensor(&pk, t);
        if (tail && i == rec->tensors - 1)
            *tail = t;
        else
            failed = failed || msgpack_pack_bin_body(&pk, t->data, t->bytes);
    }
    if (!failed && mp_scan(&scan, b->data + start, b->size - start, &why) < 0)
        return err_set(e, "%s: the record %s, more than a stream holds", where, why);
    return failed ? err_set(e, "%s: out of memory", where) : 0;
}

int pack_end(Bytes *b, long count)
{
    msgpack_packer pk;
    msgpack_packer_init(&pk, b, append);
    return msgpack_pack_map(&pk, 1) || pack_text(&pk, "end", 3) || msgpack_pack_int64(&pk, count) ? -1 : 0;
}
