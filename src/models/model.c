/* SPDX-License-Identifier: MIT */
/* model.c -- a model folder in diffusers layout: configs, weights, identity.
 *
 * Which weight files a part has, first match wins, BASE being diffusion_pytorch_model or model:
 *   BASE.safetensors                   one file
 *   BASE.safetensors.index.json        shards, named by its "weight_map"
 *   BASE.VARIANT.safetensors           one file of another precision (fp16, ...), the first by name
 *   BASE.safetensors.index.VARIANT.json
 * diffusers pipelines/pipeline_loading_utils.py, transformers modeling_utils.py. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "formats/affix.h"
#include "formats/json_file.h"
#include "formats/torch_zip.h"
#include "kernels/op.h"
#include "src/models/model.h"

static const char *const bases[] = {"diffusion_pytorch_model", "model"};

/* ---- finding the files ---- */

/* BASE + middle + anything + end, with something in between unless exact. */
static int matches(const char *name, const char *base, const char *middle, const char *end)
{
    char prefix[128];
    snprintf(prefix, sizeof prefix, "%s%s", base, middle);
    return starts_with(name, prefix) && ends_with(name, end) && strlen(name) > strlen(prefix) + strlen(end);
}

static int is_shard(const char *name)
{
    return strstr(name, "-of-") != NULL;
}

/* The weight or index file to open, by the order above; NULL when there is none. */
static const char *choose(struct dirent **list, int n)
{
    static const struct { const char *middle, *end; int exact; } kinds[] = {
        {"", ".safetensors", 1}, {"", ".safetensors.index.json", 1},
        {".", ".safetensors", 0}, {".safetensors.index.", ".json", 0},
    };
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++)
        for (size_t b = 0; b < sizeof bases / sizeof bases[0]; b++)
            for (int i = 0; i < n; i++) {
                const char *name = list[i]->d_name;
                char exact[128];
                snprintf(exact, sizeof exact, "%s%s", bases[b], kinds[kind].end);
                if (kinds[kind].exact ? strcmp(name, exact) == 0
                                      : matches(name, bases[b], kinds[kind].middle, kinds[kind].end) && !is_shard(name))
                    return name;
            }
    return NULL;
}

static int add_file(Part *part, const char *name, Err *e)
{
    char path[sizeof part->path + 300];
    snprintf(path, sizeof path, "%s/%s", part->path, name);
    Weights **files = realloc(part->files, (part->count + 1) * sizeof *files);
    if (!files)
        return err_set(e, "out of memory");
    part->files = files;
    if (weights_open(&files[part->count], path, e))
        return -1;
    part->count++;
    return 0;
}

/* Every file that the index's weight_map names, once each, in the order of their names. */
static int add_shards(Part *part, const char *index_name, Err *e)
{
    char path[sizeof part->path + 300];
    snprintf(path, sizeof path, "%s/%s", part->path, index_name);
    json_t *index = json_file_load(path, e);
    if (!index)
        return -1;
    json_t *names = json_object(), *file;
    const char *key;
    int failed = 0;
    json_object_foreach(json_object_get(index, "weight_map"), key, file) {
        const char *name = json_string_value(file);
        if (!name || strchr(name, '/'))
            failed = err_set(e, "%s: weight_map of '%s' is not the name of a file in this folder", path, key);
        else
            json_object_set_new(names, name, json_null());
    }
    json_object_foreach(names, key, file)
        failed = failed || add_file(part, key, e);
    if (!failed && part->count == 0)
        failed = err_set(e, "%s: weight_map names no file", path);
    json_decref(names);
    json_decref(index);
    return failed;
}

int part_open_weights(Part *part, Err *e)
{
    struct dirent **list = NULL;
    const int n = scandir(part->path, &list, NULL, alphasort);
    if (n < 0)
        return err_set(e, "%s: the folder cannot be read: %s", part->path, strerror(errno));
    const char *chosen = choose(list, n), *pickle = NULL;
    for (int i = 0; i < n; i++)
        if (torch_file_named(list[i]->d_name))
            pickle = list[i]->d_name;
    int failed;
    if (chosen)
        failed = ends_with(chosen, ".json") ? add_shards(part, chosen, e) : add_file(part, chosen, e);
    else if (pickle)
        failed = err_set(e, "%s/%s: a pickle file can run code and is not opened; save the model as safetensors "
                         "(save_pretrained(DIR, safe_serialization=True))", part->path, pickle);
    else
        failed =
            err_set(e, "%s: no weights; expected model.safetensors or diffusion_pytorch_model.safetensors", part->path);
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
    return failed;
}

static int is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- a part ---- */

bool part_exists(const char *dir, const char *name)
{
    char path[sizeof (Part){0}.path];
    return snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path && is_folder(path);
}

int part_open_config(Part *part, const char *dir, const char *name, Err *e)
{
    *part = (Part){0};
    if (!is_folder(dir))
        return err_set(e, "%s: no such folder; a model is a folder in diffusers layout", dir);
    if (snprintf(part->path, sizeof part->path, "%s/%s", dir, name) >= (int)sizeof part->path)
        return err_set(e, "%s: the name of the folder is too long", dir);
    if (!is_folder(part->path))
        return err_set(e, "%s: no such folder; a model in diffusers layout has one for its %s", part->path, name);
    char path[sizeof part->path + 16];
    snprintf(path, sizeof path, "%s/config.json", part->path);
    return (part->config = json_file_load(path, e)) ? 0 : -1;
}

int part_open(Part *part, const char *dir, const char *name, Err *e)
{
    if (part_open_config(part, dir, name, e) == 0 && part_open_weights(part, e) == 0)
        return 0;
    part_close(part);
    return -1;
}

void part_close(Part *part)
{
    for (int i = 0; i < part->count; i++)
        weights_close(part->files[i]);
    free(part->files);
    json_decref(part->config);
    *part = (Part){0};
}

const Weight *part_find(const Part *part, const char *name)
{
    const Weight *found = NULL;
    for (int i = 0; i < part->count && !found; i++)
        found = weights_find(part->files[i], name);
    return found;
}

bool part_has(const Part *part, const char *name)
{
    bool has = false;
    for (int i = 0; i < part->count && !has; i++)
        has = weights_has(part->files[i], name);
    return has;
}

/* The file that holds the tensor; where none does, the first, which then says what is missing. */
static const Weights *holder(const Part *part, const char *name)
{
    for (int i = 0; i < part->count; i++)
        if (weights_has(part->files[i], name))
            return part->files[i];
    return part->files[0];
}

const Weight *part_need(const Part *part, const char *name, int ndim, const int64_t *dim, Err *e)
{
    return weights_need_finite(holder(part, name), name, ndim, dim, e);
}

float *part_upload(const Part *part, const char *name, int ndim, const int64_t *dim, Err *e)
{
    const Weight *w = part_need(part, name, ndim, dim, e);
    float *host = w ? weights_floats(holder(part, name), name, ndim, dim, e) : NULL;
    if (!host)
        return NULL;
    const size_t bytes = weight_count(w) * sizeof *host;
    float *device = op->alloc(bytes, e);
    if (device)
        op->upload(device, host, bytes);
    free(host);
    return device;
}

/* ---- configs ---- */

int part_int(const Part *part, const char *key, const int *fallback, int *value, Err *e)
{
    char file[sizeof part->path + 16];
    int64_t number;
    snprintf(file, sizeof file, "%s/config.json", part->path);
    if (fallback ? json_get_int(file, part->config, key, *fallback, &number, e)
                 : json_need_int(file, part->config, key, &number, e))
        return -1;
    if (number < INT32_MIN || number > INT32_MAX)
        return err_set(e, "%s: \"%s\" is %lld, more than an int holds", file, key, (long long)number);
    *value = (int)number;
    return 0;
}

int part_in_range(const Part *part, const char *key, int value, int low, int high, Err *e)
{
    return value >= low && value <= high ? 0
        : err_set(e, "%s/config.json: \"%s\" is %d, expected %d to %d", part->path, key, value, low, high);
}

int part_number(const Part *part, const char *key, const double *fallback, double *value, Err *e)
{
    char file[sizeof part->path + 16];
    snprintf(file, sizeof file, "%s/config.json", part->path);
    return fallback ? json_get_number(file, part->config, key, *fallback, value, e)
                    : json_need_number(file, part->config, key, value, e);
}

int part_bool(const Part *part, const char *key, bool fallback, bool *value, Err *e)
{
    char file[sizeof part->path + 16];
    snprintf(file, sizeof file, "%s/config.json", part->path);
    return json_get_bool(file, part->config, key, fallback, value, e);
}

int part_text(const Part *part, const char *key, const char *fallback, const char **value, Err *e)
{
    char file[sizeof part->path + 16];
    snprintf(file, sizeof file, "%s/config.json", part->path);
    return json_get_text(file, part->config, key, fallback, value, e);
}

int part_check_silu(const Part *part, Err *e)
{
    const char *act;
    if (part_text(part, "act_fn", "silu", &act, e))
        return -1;
    if (strcasecmp(act, "silu") != 0 && strcasecmp(act, "swish") != 0)
        return err_set(e, "%s/config.json: \"act_fn\" is \"%.40s\"; only \"silu\" is implemented", part->path, act);
    return 0;
}

int part_epsilon(const Part *part, const char *key, float *value, Err *e)
{
    double number;
    if (part_number(part, key, &(double){1e-5}, &number, e))
        return -1;
    *value = (float)number;
    return number >= 0 && number <= 1 ? 0
        : err_set(e, "%s/config.json: \"%s\" is %g, expected 0 to 1", part->path, key, number);
}

/* A layer of one weight: its making says whether the backend multiplies f16. */
static int try_f16(Err *e)
{
    const float one = 1;
    const Weight w = {.name = "--dtype f16", .type = F32, .ndim = 2, .dim = {1, 1}, .data = &one}, *parts[] = {&w};
    const ConvSpec spec = {.in = 1, .out = 1, .kernel = 1, .stride = 1, .x_type = F16, .y_type = F32};
    Conv *c = NULL;
    const int failed = op->conv_create(&c, &spec, parts, NULL, 1, e);
    op->conv_free(c);
    return failed;
}

int model_dtype(DType *type, const char *name, Err *e)
{
    const int parsed = strcmp(name, "auto") == 0 ? (int)op->best : dtype_parse(name);
    if (parsed != F32 && parsed != BF16 && parsed != F16)
        return err_misuse(e, "--dtype %s: products are made in f32, bf16 or f16", name);
    if (parsed == BF16 && op->best != BF16)
        return err_set(e, "--dtype bf16: the %s backend has no fast bf16 products on this machine; use f32", op->name);
    *type = (DType)parsed;
    return parsed == F16 ? try_f16(e) : 0;
}
