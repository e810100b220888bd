/* SPDX-License-Identifier: MIT */
/* model_id.c -- a name for a model that changes when the model does, without reading all of it.
 *
 *   "minisd-1a2b3c4d5e6f": the folder's name (where DIR is a part or is called "model", that of the folder above), and
 *   48 bits of FNV-1a (64 bits, Fowler, Noll and Vo) over: configs, key-sorted and without keys that begin with "_"
 *   (names and versions); merges.txt, or where there is none tokenizer.json; and of every tensor its name, type, shape
 *   and SAMPLES values spread evenly over it. Of Stable Diffusion XL also tokenizer_2's merges, and that
 *   force_zeros_for_empty_prompt is false; of Stable Diffusion 3 tokenizer_2's and, unless T5 is left out,
 *   text_encoder_3 and tokenizer_3. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/fnv.h"
#include "formats/folder.h"
#include "formats/json_file.h"
#include "formats/lines.h"
#include "src/models/model.h"
#include "src/models/pipeline.h"

enum { SAMPLES = 64 };

static void hash_bytes(uint64_t *hash, const void *data, size_t n)
{
    *hash = fnv_bytes(*hash, data, n);
}

static void hash_json(uint64_t *hash, json_t *config)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(config, next, key, value)
        if (key[0] == '_')
            json_object_del(config, key);
    /* With as many digits as releases of jansson before 2.14.1 print unasked. */
    char *text = json_dumps(config, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(17));
    if (text)
        hash_bytes(hash, text, strlen(text));
    free(text);
}

static int hash_json_file(uint64_t *hash, const char *path, Err *e)
{
    json_t *config = json_file_load(path, e);
    if (!config)
        return -1;
    hash_json(hash, config);
    json_decref(config);
    return 0;
}

static int hash_file(uint64_t *hash, const char *path, Err *e)
{
    char block[65536];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set(e, "%s: %s", path, strerror(errno));
    while ((n = fread(block, 1, sizeof block, f)) > 0)
        hash_bytes(hash, block, n);
    const int failed = ferror(f) ? err_set(e, "%s: reading: %s", path, strerror(errno)) : 0;
    fclose(f);
    return failed;
}

static void hash_tensor(uint64_t *hash, const Weight *w)
{
    const size_t n = weight_count(w), size = dtype_size(w->type), samples = n < SAMPLES ? n : SAMPLES;
    hash_bytes(hash, w->name, strlen(w->name));
    hash_bytes(hash, dtype_name(w->type), strlen(dtype_name(w->type)));
    hash_bytes(hash, w->dim, w->ndim * sizeof w->dim[0]);
    for (size_t i = 0; i < samples; i++)
        hash_bytes(hash, (const char *)w->data + n / samples * i * size, size);
}

static int hash_part(uint64_t *hash, const char *dir, const char *name, Err *e)
{
    Part part;
    if (part_open(&part, dir, name, e))
        return -1;
    hash_json(hash, part.config);
    for (int f = 0; f < part.count; f++)
        for (size_t i = 0; i < weights_count(part.files[f]); i++)
            hash_tensor(hash, weights_at(part.files[f], i));
    part_close(&part);
    return 0;
}

static int hash_tokenizer(uint64_t *hash, const char *dir, const char *folder, Err *e)
{
    static const char *const files[] = {"merges.txt", "tokenizer.json", "spiece.model"};
    char name[64], path[PATH_MAX];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(name, sizeof name, "%s/%s", folder, files[i]);
        if (folder_has(dir, name, path))
            return hash_file(hash, path, e);
    }
    return 0;
}

static int hash_kind(uint64_t *hash, const char *dir, Err *e)
{
    Pipeline pipeline;
    if (pipeline_read(&pipeline, dir, e))
        return -1;
    if (!pipeline.xl && !pipeline.sd3)
        return 0;
    if (pipeline.xl && !pipeline.zeros)
        hash_bytes(hash, "encoded", 7);
    if (pipeline.t5 && (hash_part(hash, dir, "text_encoder_3", e) || hash_tokenizer(hash, dir, "tokenizer_3", e)))
        return -1;
    return hash_tokenizer(hash, dir, "tokenizer_2", e);
}

/* The pipeline's parts; clip/, which only scores pictures, is one of them only where it is alone. */
static int hash_pipeline(uint64_t *hash, const char *dir, Err *e)
{
    static const char *const parts[] = {"text_encoder", "unet", "vae", "text_encoder_2", "transformer"};
    char path[PATH_MAX];
    int found = 0, failed = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && !failed; i++)
        if (folder_has(dir, parts[i], path)) {
            failed = hash_part(hash, dir, parts[i], e);
            found++;
        }
    if (!failed && folder_has(dir, "scheduler/scheduler_config.json", path))
        failed = hash_json_file(hash, path, e);
    failed = failed || hash_tokenizer(hash, dir, "tokenizer", e) || hash_kind(hash, dir, e);
    if (!failed && !found && folder_has(dir, "clip", path))
        return hash_part(hash, dir, "clip", e);
    if (!failed && !found)
        failed = err_set(e, "%s: not a model in diffusers layout: no text_encoder, unet, transformer, vae or clip",
                         dir);
    return failed;
}

/* The last name of the path that tells models apart: a part's own name and "model" do not. Cuts path. */
static const char *telling_name(char *path, int is_part)
{
    char *slash = strrchr(path, '/');
    for (int up = 0; up < 2; up++)
        if ((up == 0 && is_part) || (up == 1 && strcmp(slash + 1, "model") == 0)) {
            *slash = '\0';
            if (!(slash = strrchr(path, '/')))
                return "model";
        }
    return slash[1] ? slash + 1 : "model";
}

void folder_id(char *id, int most, const char *name, uint64_t hash)
{
    const size_t length = strnlen(name, (size_t)most);
    memcpy(id, name, length);
    id[length] = 0;
    utf8_mend(id);
    sprintf(id + length, "-%012" PRIx64, (hash ^ hash >> 48) & 0xffffffffffffu);
}

bool folder_same(const char *a, const char *b)
{
    const char *x = strrchr(a, '-'), *y = strrchr(b, '-');
    return strcmp(x && y ? x : a, x && y ? y : b) == 0;
}

int model_id(char text[128], const char *dir, Err *e)
{
    char whole[PATH_MAX], path[PATH_MAX];
    if (!realpath(dir, whole))
        return err_set(e, "%s: %s; a model is a folder in diffusers layout", dir,
                       errno == ENOENT ? "no such folder" : strerror(errno));
    uint64_t hash = FNV_BASIS;
    const int is_part = folder_has(whole, "config.json", path);
    if (is_part ? hash_part(&hash, dir, ".", e) : hash_pipeline(&hash, dir, e))
        return -1;
    folder_id(text, 100, telling_name(whole, is_part), hash);
    return 0;
}
