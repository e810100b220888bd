/* SPDX-License-Identifier: MIT */
/* unpack.c -- msgpack maps to records. The bytes are hostile until shown otherwise; mp_scan has bounded their sizes. */
#include <math.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>
#include "formats/pack.h"

enum { ALIGN = 64 };

static bool is_key(const msgpack_object *key, msgpack_object_type type, const char *name)
{
    const size_t n = strlen(name);
    return key->type == type && key->via.str.size == n && memcmp(key->via.str.ptr, name,
                                                                 n) == 0;   /* str and bin are alike */
}

/* ---- fields ---- */

/* Its bytes: msgpack-c may point nowhere where there are none. */
static const char *bytes_of(const msgpack_object *text)
{
    return text->via.str.size ? text->via.str.ptr : "";
}

static json_t *to_json(const msgpack_object *o, const char **why);

static json_t *map_to_json(const msgpack_object *o, const char **why)
{
    json_t *object = json_object();
    for (uint32_t i = 0; i < o->via.map.size; i++) {
        const msgpack_object *key = &o->via.map.ptr[i].key;
        json_t *value = NULL;
        if (key->type != MSGPACK_OBJECT_STR)
            *why = "holds a map with a key that is not text";
        else if (json_object_getn(object, bytes_of(key), key->via.str.size))
            *why = "holds a map with the same key twice";
        else if ((value = to_json(&o->via.map.ptr[i].val, why))
                 && json_object_setn_new(object, bytes_of(key), key->via.str.size, value)) {
            *why = "holds a key that is not UTF-8";
            value = NULL;
        }
        if (!value) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *array_to_json(const msgpack_object *o, const char **why)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < o->via.array.size; i++) {
        json_t *value = to_json(&o->via.array.ptr[i], why);
        if (!value) {
            json_decref(array);
            return NULL;
        }
        json_array_append_new(array, value);
    }
    return array;
}

static json_t *to_json(const msgpack_object *o, const char **why)
{
    switch (o->type) {
    case MSGPACK_OBJECT_NIL:              return json_null();
    case MSGPACK_OBJECT_BOOLEAN:          return json_boolean(o->via.boolean);
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: return json_integer(o->via.i64);
    case MSGPACK_OBJECT_MAP:              return map_to_json(o, why);
    case MSGPACK_OBJECT_ARRAY:            return array_to_json(o, why);
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        *why = "is an integer over 2^63 - 1";
        return o->via.u64 <= INT64_MAX ? json_integer((json_int_t)o->via.u64) : NULL;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        *why = "is not a finite number";
        return isfinite(o->via.f64) ? json_real(o->via.f64) : NULL;
    case MSGPACK_OBJECT_STR:
        *why = "is not UTF-8 text";
        return json_stringn(bytes_of(o), o->via.str.size);
    default:
        *why = "is binary, expected a small field or a tensor";
        return NULL;
    }
}

/* ---- tensors ---- */

static const msgpack_object *part(const msgpack_object *map, const char *name)
{
    for (uint32_t i = 0; i < map->via.map.size; i++)
        if (is_key(&map->via.map.ptr[i].key, MSGPACK_OBJECT_BIN, name))
            return &map->via.map.ptr[i].val;
    return NULL;
}

static int parse_type(const msgpack_object *type)
{
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (is_key(type, MSGPACK_OBJECT_STR, dtype_numpy((DType)t)))
            return t;
    return -1;
}

/* Data as it lies where that is aligned, else a copy in the arena, which has been made large enough. */
static const void *aligned(const char *data, size_t bytes, Arena *arena)
{
    if (bytes == 0 || (uintptr_t)data % ALIGN == 0)
        return data;
    void *copy = arena->data + arena->used;
    memcpy(copy, data, bytes);
    arena->used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return copy;
}

/* A numpy scalar, {nd: false, type, data}, as a number. */
static json_t *scalar_to_json(const msgpack_object *map, const char **why)
{
    const msgpack_object *type = part(map, "type"), *data = part(map, "data");
    const int t = type ? parse_type(type) : -1;
    *why = "is a numpy scalar of an unknown type";
    if (t < 0 || !data || data->type != MSGPACK_OBJECT_BIN || data->via.bin.size != dtype_size((DType)t))
        return NULL;
    const char *p = data->via.bin.ptr;
    float small = 0;
    double real = 0;
    int64_t whole = 0;
    *why = "is not a finite number";
    if (t == F64 || dtype_is_float((DType)t)) {
        dtype_to_f32(&small, p, (DType)t, 1);
        real = (double)small;
        if (t == F64)
            memcpy(&real, p, sizeof real);
        return isfinite(real) ? json_real(real) : NULL;
    }
    memcpy(&whole, p, dtype_size((DType)t));            /* little-endian, as the format and the machines are */
    if (t != U8) {
        const int unused = 64 - 8 * (int)dtype_size((DType)t);
        whole = (int64_t)((uint64_t)whole << unused) >> unused;
    }
    return json_integer(whole);
}

static const char *tensor_shape(StreamTensor *t, const msgpack_object *shape)
{
    if (!shape || shape->type != MSGPACK_OBJECT_ARRAY)
        return "has no shape";
    if (shape->via.array.size > STREAM_MAX_DIMS)
        return "has more than 6 dimensions";
    t->ndim = (int)shape->via.array.size;
    size_t bytes = dtype_size(t->type);
    for (int i = 0; i < t->ndim; i++) {
        const msgpack_object *d = &shape->via.array.ptr[i];
        if (d->type != MSGPACK_OBJECT_POSITIVE_INTEGER || d->via.u64 > INT32_MAX)
            return "has a dimension that is not a count under 2^31";
        t->dim[i] = (int64_t)d->via.u64;
        if (__builtin_mul_overflow(bytes, (size_t)d->via.u64, &bytes))
            return "has a shape that overflows";
    }
    return bytes == t->bytes ? NULL : "has a shape that does not agree with its bytes";
}

/* Fills t (but its data's place) from a msgpack-numpy map; returns what is wrong, NULL when all is well. */
static const char *to_tensor(StreamTensor *t, const msgpack_object *key, const msgpack_object *map)
{
    const msgpack_object *type = part(map, "type"), *kind = part(map, "kind"), *data = part(map, "data");
    if (key->via.str.size >= sizeof t->name || memchr(bytes_of(key), 0, key->via.str.size))
        return "has a name of over 39 bytes, or with a zero byte";
    memcpy(t->name, bytes_of(key), key->via.str.size);
    if (kind && !(kind->type == MSGPACK_OBJECT_BIN && kind->via.bin.size == 0))
        return "is a structured or pickled array, which is never read";
    const int known = type ? parse_type(type) : -1;
    if (known < 0)
        return "has an element type that is not one of <f4 <f2 bfloat16 <f8 |i1 |u1 <i2 <i4 <i8";
    if (!data || data->type != MSGPACK_OBJECT_BIN)
        return "has no data";
    t->type = (DType)known;
    t->data = data->via.bin.ptr;
    t->bytes = data->via.bin.size;
    return tensor_shape(t, part(map, "shape"));
}

/* ---- records ---- */

static int arena_hold(Arena *arena, const Record *rec)
{
    size_t wanted = 0;
    for (int i = 0; i < rec->tensors; i++)
        wanted += (rec->tensor[i].bytes + ALIGN - 1) / ALIGN * ALIGN;
    arena->used = 0;
    if (wanted <= arena->capacity)
        return 0;
    free(arena->data);
    arena->data = aligned_alloc(ALIGN, wanted);
    arena->capacity = arena->data ? wanted : 0;
    return arena->data ? 0 : -1;
}

static int unpack_entry(Record *rec, const msgpack_object_kv *entry, const char *where, Err *e)
{
    const msgpack_object *key = &entry->key, *value = &entry->val;
    if (key->type != MSGPACK_OBJECT_STR)
        return err_set(e, "%s: holds a key that is not text", where);
    const char *name = bytes_of(key);
    const size_t length = key->via.str.size;
    const int shown = length < 64 ? (int)length : 64;
    const char *why = NULL;
    const msgpack_object *nd = value->type == MSGPACK_OBJECT_MAP ? part(value, "nd") : NULL;
    if (nd && nd->type == MSGPACK_OBJECT_BOOLEAN && nd->via.boolean) {
        if (rec->tensors == STREAM_MAX_TENSORS)
            return err_set(e, "%s: holds more than %d tensors", where, STREAM_MAX_TENSORS);
        StreamTensor *t = &rec->tensor[rec->tensors];
        if ((why = to_tensor(t, key, value)))
            return err_set(e, "%s: tensor %.*s %s", where, shown, name, why);
        if (record_tensor(rec, t->name))
            return err_set(e, "%s: holds %s twice", where, t->name);
        rec->tensors++;
        return 0;
    }
    json_t *field = nd ? scalar_to_json(value, &why) : to_json(value, &why);
    if (!field)
        return err_set(e, "%s: field %.*s %s", where, shown, name, why);
    const bool zero = memchr(name, 0, length);
    if (zero || json_object_getn(rec->fields, name, length)) {
        json_decref(field);
        return zero ? err_set(e, "%s: holds a field with a zero byte in its name", where)
                    : err_set(e, "%s: holds field %.*s twice", where, shown, name);
    }
    if (json_object_setn_new(rec->fields, name, length, field))
        return err_set(e, "%s: holds a key that is not UTF-8", where);
    return 0;
}

static int unpack_map(Record *rec, long long *count, const msgpack_object *map, Arena *arena, const char *where, Err *e)
{
    const msgpack_object_kv *entry = map->via.map.ptr;
    if (map->via.map.size == 0)
        return err_set(e, "%s: is an empty map", where);
    if (is_key(&entry->key, MSGPACK_OBJECT_STR, "end")) {
        if (map->via.map.size != 1 || entry->val.type != MSGPACK_OBJECT_POSITIVE_INTEGER
            || entry->val.via.u64 > INT64_MAX)
            return err_set(e, "%s: is an end record without a count", where);
        *count = (long long)entry->val.via.u64;
        return UNPACK_END;
    }
    if (!(rec->fields = json_object()))
        return err_set(e, "%s: out of memory", where);
    const bool header = is_key(&entry->key, MSGPACK_OBJECT_STR, "stream");
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        if (unpack_entry(rec, entry + i, where, e))
            return -1;
        if (!header && (is_key(&entry[i].key, MSGPACK_OBJECT_STR, "stream")
                        || is_key(&entry[i].key, MSGPACK_OBJECT_STR, "end")))
            return err_set(e, "%s: holds a field named %.*s, which the format keeps", where,
                           (int)entry[i].key.via.str.size, entry[i].key.via.str.ptr);
    }
    for (int i = 0; i < rec->tensors; i++)
        if (json_object_get(rec->fields, rec->tensor[i].name))
            return err_set(e, "%s: holds %s twice", where, rec->tensor[i].name);
    if (arena_hold(arena, rec))
        return err_set(e, "%s: out of memory for its tensors", where);
    for (int i = 0; i < rec->tensors; i++)
        rec->tensor[i].data = aligned(rec->tensor[i].data, rec->tensor[i].bytes, arena);
    return header ? UNPACK_HEADER : UNPACK_RECORD;
}

int unpack_object(Record *rec, long long *count, const uint8_t *p, size_t n, Arena *arena, const char *where, Err *e)
{
    msgpack_unpacked whole;
    msgpack_unpacked_init(&whole);
    memset(rec, 0, sizeof *rec);
    size_t at = 0;
    int kind = -1;
    if (msgpack_unpack_next(&whole, (const char *)p, n, &at) != MSGPACK_UNPACK_SUCCESS
        || whole.data.type != MSGPACK_OBJECT_MAP)
        err_set(e, "%s: is not a msgpack map", where);
    else
        kind = unpack_map(rec, count, &whole.data, arena, where, e);
    msgpack_unpacked_destroy(&whole);
    if (kind < 0)
        record_clear(rec);
    return kind;
}
