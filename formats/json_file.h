/* SPDX-License-Identifier: MIT */
/* json_file.h -- JSON files (config.json of models, cfg.json of autoencoders) with messages that name file, line and
 * key.
 *
 *     json_t *config = json_file_load("unet/config.json", &e);
 *     int failed = !config || json_need_int("unet/config.json", config, "in_channels", &channels, &e)
 *                || json_get_number("unet/config.json", config, "norm_eps", 1e-5, &eps, &e);
 *
 * need: a missing key is an error. get: a missing key, or null, gives the fallback. A value of another type is an error
 * in both. `file` is for the message only. All return 0 or -1. */
#ifndef FORMATS_JSON_FILE_H
#define FORMATS_JSON_FILE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "formats/err.h"

/* The object in a file of at most 256 MiB; the caller drops it with json_decref. NULL on error ("path: line 3: ..."),
 * also when the outermost value is not an object or a key comes twice. */
json_t *json_file_load(const char *path, Err *e);
/* Writes value to path (aside, then renamed), indented by two, keys in their order. */
int json_file_write(const char *path, const json_t *value, Err *e);

int json_need_int(const char *file, const json_t *object, const char *key, int64_t *value, Err *e);
int json_need_number(const char *file, const json_t *object, const char *key, double *value, Err *e);
int json_need_bool(const char *file, const json_t *object, const char *key, bool *value, Err *e);
/* A text, an array and an object live in `object`. */
int json_need_text(const char *file, const json_t *object, const char *key, const char **value, Err *e);
int json_need_array(const char *file, const json_t *object, const char *key, const json_t **value, Err *e);
int json_need_object(const char *file, const json_t *object, const char *key, const json_t **value, Err *e);

int json_get_int(const char *file, const json_t *object, const char *key, int64_t fallback, int64_t *value, Err *e);
int json_get_number(const char *file, const json_t *object, const char *key, double fallback, double *value, Err *e);
int json_get_bool(const char *file, const json_t *object, const char *key, bool fallback, bool *value, Err *e);
int json_get_text(const char *file, const json_t *object, const char *key, const char *fallback, const char **value,
                  Err *e);

/* A field's value as people read it: a text as it is, all else as JSON, numbers of 15 digits (0.1, not
 * 0.10000000000000001). NULL of NULL, and when out of memory; the caller frees it. */
char *json_value_text(const json_t *value);
/* A number, or null where it is none that JSON has: NaN, infinite. */
json_t *json_real_or_null(double x);
/* "a string", "an integer", ... for messages; NULL: "missing" */
const char *json_type_text(const json_t *value);

#endif
