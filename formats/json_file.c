/* SPDX-License-Identifier: MIT */
/* json_file.c -- JSON files by jansson, with one message for each way a file or a key can be wrong. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "formats/aside.h"
#include "formats/fdio.h"
#include "formats/json_file.h"

static const long long MAX_BYTES = 256ll << 20;

json_t *json_file_load(const char *path, Err *e)
{
    FILE *file = fopen(path, "rbe");
    if (!file) {
        err_set(e, "%s: %s", path, strerror(errno));
        return NULL;
    }
    struct stat st;
    json_t *value = NULL;
    json_error_t why;
    if (fstat(fileno(file), &st) == 0 && S_ISDIR(st.st_mode))
        err_set(e, "%s: is a folder, expected a JSON file", path);
    else if (st.st_size > MAX_BYTES)
        err_set(e, "%s: is %lld bytes long, a JSON file has at most %lld", path, (long long)st.st_size, MAX_BYTES);
    else if (!(value = json_loadf(file, JSON_REJECT_DUPLICATES, &why)))
        err_set(e, "%s: line %d, column %d: %s", path, why.line, why.column, why.text);
    fclose(file);
    if (value && !json_is_object(value)) {
        err_set(e, "%s: holds %s, expected an object", path, json_type_text(value));
        json_decref(value);
        return NULL;
    }
    return value;
}

int json_file_write(const char *path, const json_t *value, Err *e)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    if (!text)
        return err_set(e, "%s: the value cannot be written as JSON", path);
    Aside *out = aside_open(path, e);
    int failed = !out || fd_write(aside_fd(out), path, text, strlen(text), e) || fd_write(aside_fd(out), path, "\n", 1,
                                                                                          e);
    free(text);
    if (failed) {
        aside_abandon(out);
        return -1;
    }
    return aside_commit(out, true, e);
}

const char *json_type_text(const json_t *value)
{
    if (!value)
        return "missing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:  return "an object";
    case JSON_ARRAY:   return "an array";
    case JSON_STRING:  return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL:    return "a number";
    case JSON_NULL:    return "null";
    default:           return "true or false";
    }
}

/* The value of key when it is one of the types wanted (a bit each), else NULL with an error. */
static const json_t *need(const char *file, const json_t *object, const char *key, unsigned wanted,
                          const char *expected, Err *e)
{
    const json_t *value = json_object_get(object, key);
    if (value && (wanted >> json_typeof(value) & 1))
        return value;
    err_set(e, "%s: \"%s\" is %s, expected %s", file, key, json_type_text(value), expected);
    return NULL;
}

static bool absent(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return !value || json_is_null(value);
}

int json_need_int(const char *file, const json_t *object, const char *key, int64_t *value, Err *e)
{
    const json_t *v = need(file, object, key, 1u << JSON_INTEGER, "an integer", e);
    if (v)
        *value = json_integer_value(v);
    return v ? 0 : -1;
}

int json_need_number(const char *file, const json_t *object, const char *key, double *value, Err *e)
{
    const json_t *v = need(file, object, key, 1u << JSON_INTEGER | 1u << JSON_REAL, "a number", e);
    if (v)
        *value = json_number_value(v);
    return v ? 0 : -1;
}

int json_need_bool(const char *file, const json_t *object, const char *key, bool *value, Err *e)
{
    const json_t *v = need(file, object, key, 1u << JSON_TRUE | 1u << JSON_FALSE, "true or false", e);
    if (v)
        *value = json_is_true(v);
    return v ? 0 : -1;
}

int json_need_text(const char *file, const json_t *object, const char *key, const char **value, Err *e)
{
    const json_t *v = need(file, object, key, 1u << JSON_STRING, "a string", e);
    if (v)
        *value = json_string_value(v);
    return v ? 0 : -1;
}

int json_need_array(const char *file, const json_t *object, const char *key, const json_t **value, Err *e)
{
    const json_t *v = need(file, object, key, 1u << JSON_ARRAY, "an array", e);
    if (v)
        *value = v;
    return v ? 0 : -1;
}

int json_need_object(const char *file, const json_t *object, const char *key, const json_t **value, Err *e)
{
    const json_t *v = need(file, object, key, 1u << JSON_OBJECT, "an object", e);
    if (v)
        *value = v;
    return v ? 0 : -1;
}

int json_get_int(const char *file, const json_t *object, const char *key, int64_t fallback, int64_t *value, Err *e)
{
    *value = fallback;
    return absent(object, key) ? 0 : json_need_int(file, object, key, value, e);
}

int json_get_number(const char *file, const json_t *object, const char *key, double fallback, double *value, Err *e)
{
    *value = fallback;
    return absent(object, key) ? 0 : json_need_number(file, object, key, value, e);
}

int json_get_bool(const char *file, const json_t *object, const char *key, bool fallback, bool *value, Err *e)
{
    *value = fallback;
    return absent(object, key) ? 0 : json_need_bool(file, object, key, value, e);
}

int json_get_text(const char *file, const json_t *object, const char *key, const char *fallback, const char **value,
                  Err *e)
{
    *value = fallback;
    return absent(object, key) ? 0 : json_need_text(file, object, key, value, e);
}
