/* SPDX-License-Identifier: MIT */
/* json_file.c -- JSON files by jansson, with one message for each way a file or a key can be wrong.
 *
 * Python's json writes numbers that JSON does not have: NaN, Infinity, -Infinity (diffusers' DPM-Solver configs) and
 * integers beyond 64 bits (transformers' "no limit" is 10^30). They are read as texts, so that a file is read for its
 * other keys, and one that is asked for such a number says what it found. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "formats/aside.h"
#include "formats/fdio.h"
#include "formats/json_file.h"

static const long long MAX_BYTES = 256ll << 20;

static bool begins_number(char c)
{
    return c == '-' || (c >= '0' && c <= '9');
}

/* Length of what Python writes and JSON does not have, at a place outside texts; 0: nothing of the kind. */
static size_t python_number(const char *text)
{
    static const char *const names[] = {"NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(text, names[i], strlen(names[i])) == 0)
            return strlen(names[i]);
    if (!begins_number(*text))
        return 0;
    char *end;
    errno = 0;
    (void)strtoll(text, &end, 10);
    return errno == ERANGE && !strchr(".eE", *end) ? (size_t)(end - text) : 0;
}

/* Length of what stands at text as one: a text with its quotes, a number, else a character. */
static size_t token_length(const char *text)
{
    size_t n = 1;
    if (*text == '"') {
        while (text[n] && text[n] != '"')
            n += text[n] == '\\' && text[n + 1] ? 2 : 1;
        return text[n] ? n + 1 : n;
    }
    return begins_number(*text) ? n + strspn(text + n, "0123456789.eE+-") : n;
}

/* text (n bytes and a zero behind them) with Python's numbers between quotes: fresh, *quoted bytes. NULL: out of
 * memory. */
static char *quote_numbers(const char *text, size_t n, size_t *quoted)
{
    char *y = malloc(2*n + 1), *to = y;         /* no such number is shorter than its two quotes */
    for (const char *from = text; y && from < text + n;) {
        const size_t number = python_number(from), length = number ? number : token_length(from);
        if (number)
            *to++ = '"';
        memcpy(to, from, length);
        to += length;
        from += length;
        if (number)
            *to++ = '"';
    }
    *quoted = (size_t)(to - y);
    return y;
}

/* The rest of a file, *n bytes, and a zero behind them. NULL with an error. */
static char *read_text(FILE *file, const char *path, size_t *n, Err *e)
{
    char *text = NULL;
    size_t room = 0;
    *n = 0;
    do {
        room = room ? 2*room : 1 << 16;
        char *more = realloc(text, room + 1);
        if (!more) {
            free(text);
            err_set(e, "%s: out of memory", path);
            return NULL;
        }
        text = more;
        *n += fread(text + *n, 1, room - *n, file);
    } while (*n == room && room < (size_t)MAX_BYTES);
    text[*n] = '\0';
    if (!ferror(file))
        return text;
    err_set(e, "%s: %s", path, strerror(errno));
    free(text);
    return NULL;
}

static json_t *parse(FILE *file, const char *path, Err *e)
{
    json_error_t why;
    json_t *value = NULL;
    size_t n, length;
    char *text = read_text(file, path, &n, e), *quoted = text ? quote_numbers(text, n, &length) : NULL;
    if (text && !quoted)
        err_set(e, "%s: out of memory", path);
    else if (text && !(value = json_loadb(quoted, length, JSON_REJECT_DUPLICATES, &why)))
        err_set(e, "%s: line %d, column %d: %s", path, why.line, why.column, why.text);
    free(quoted);
    free(text);
    return value;
}

json_t *json_file_load(const char *path, Err *e)
{
    FILE *file = fopen(path, "rbe");
    if (!file) {
        err_set(e, "%s: %s", path, strerror(errno));
        return NULL;
    }
    struct stat st;
    json_t *value = NULL;
    if (fstat(fileno(file), &st))
        err_set(e, "%s: %s", path, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        err_set(e, "%s: is a folder, expected a JSON file", path);
    else if (st.st_size > MAX_BYTES)
        err_set(e, "%s: is %lld bytes long, a JSON file has at most %lld", path, (long long)st.st_size, MAX_BYTES);
    else
        value = parse(file, path, e);
    fclose(file);
    if (value && !json_is_object(value)) {
        err_set(e, "%s: holds %s, expected an object", path, json_type_text(value));
        json_decref(value);
        return NULL;
    }
    return value;
}

char *json_value_text(const json_t *value)
{
    if (json_is_string(value))
        return strdup(json_string_value(value));
    return value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
}

int json_file_write(const char *path, const json_t *value, Err *e)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    if (!text)
        return err_set(e, "%s: the value cannot be written as JSON", path);
    Aside *out = aside_open(path, e);
    const int failed = !out || fd_write(aside_fd(out), path, text, strlen(text), e)
                    || fd_write(aside_fd(out), path, "\n", 1, e);
    free(text);
    if (failed) {
        aside_abandon(out);
        return -1;
    }
    return aside_commit(out, true, e);
}

json_t *json_real_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
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
