/* SPDX-License-Identifier: MIT */
/* model_folder.c -- copies the small parts of a model folder. What model_index.json names beyond them (safety_checker,
 * image_encoder, ...), which no program here reads, becomes null there, as diffusers writes what a pipeline lacks. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "formats/aside.h"
#include "formats/fdio.h"
#include "formats/json_file.h"
#include "formats/torch_zip.h"
#include "src/models/model_folder.h"

static int add_file(ModelFolder *f, const char *folder, const char *name, Err *e)
{
    char **grown = realloc(f->file, (size_t)(f->files + 1)*sizeof *grown), *file;
    if (grown)
        f->file = grown;
    if (!grown || asprintf(&file, "%s%s%s", folder, *folder ? "/" : "", name) < 0)
        return err_set(e, "out of memory");
    grown[f->files++] = file;
    return 0;
}

/* The regular files of BASE/folder, in the order of their names; of one that need not be there, none. */
static int add_folder(ModelFolder *f, const char *folder, bool needed, Err *e)
{
    char path[4096];
    struct stat st;
    struct dirent **list = NULL;
    if (snprintf(path, sizeof path, "%s/%s", f->base, folder) >= (int)sizeof path)
        return err_set(e, "%s: the name of the folder is too long", f->base);
    const int n = scandir(path, &list, NULL, alphasort);
    int failed = n < 0 && (needed || errno != ENOENT) ? err_set(e, "%s: %s", path, strerror(errno)) : 0;
    for (int i = 0; i < n; i++) {
        char file[4096 + 300];
        snprintf(file, sizeof file, "%s/%s", path, list[i]->d_name);
        if (!failed && stat(file, &st) == 0 && S_ISREG(st.st_mode) && !torch_file_named(list[i]->d_name))
            failed = add_file(f, folder, list[i]->d_name, e);
        free(list[i]);
    }
    free(list);
    return failed;
}

static bool is_one_of(const char *name, const char *const *list, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(name, list[i]) == 0)
            return true;
    return false;
}

/* Tokenizers, each beside the text encoder of its number. */
static const char *const tokenizers[][2] = {{"tokenizer", "text_encoder"}, {"tokenizer_2", "text_encoder_2"},
                                            {"tokenizer_3", "text_encoder_3"}};
enum { TOKENIZERS = sizeof tokenizers / sizeof *tokenizers };

static bool is_tokenizer(const char *name, const char *const *parts, int count)
{
    for (int i = 0; i < TOKENIZERS; i++)
        if (strcmp(tokenizers[i][0], name) == 0)
            return is_one_of(tokenizers[i][1], parts, count);
    return false;
}

/* Takes out of the index what the new folder will not have. */
static int settle_index(ModelFolder *f, const char *path, const char *const *parts, int count, Err *e)
{
    static const char *const kept[] = {"scheduler", "feature_extractor"};
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(f->index, next, key, value) {
        if (is_one_of(key, kept, 2) || is_tokenizer(key, parts, count) || is_one_of(key, parts, count)
            || json_array_size(value) != 2 || json_is_null(json_array_get(value, 1)))
            continue;
        if (strcmp(key, "text_encoder_2") == 0)
            return err_set(e, "%s: \"text_encoder_2\": a model of two text encoders that is neither "
                           "StableDiffusionXLPipeline nor StableDiffusion3Pipeline, the ones of these that are "
                           "implemented", path);
        const size_t n = strlen(f->dropped);
        snprintf(f->dropped + n, sizeof f->dropped - n, "%s%s", n ? ", " : "", key);
        if (strcmp(key, "safety_checker") == 0 && json_object_get(f->index, "requires_safety_checker"))
            json_object_set_new(f->index, "requires_safety_checker", json_false());
        json_object_set_new(f->index, key, json_pack("[n, n]"));
    }
    return 0;
}

int model_folder_plan(ModelFolder *f, const char *base, const char *const *parts, const char *const *written, int count,
                      Err *e)
{
    char path[4096];
    struct stat st;
    *f = (ModelFolder){.base = base};
    if (stat(base, &st) || !S_ISDIR(st.st_mode))
        return err_set(e, "%s: no such folder; a model is a folder in diffusers layout", base);
    snprintf(path, sizeof path, "%s/model_index.json", base);
    if (!(f->index = json_file_load(path, e)) || settle_index(f, path, parts, count, e))
        return -1;
    int failed = 0;
    for (int i = 0; i < TOKENIZERS && !failed; i++)
        failed = is_one_of(tokenizers[i][1], parts, count) && add_folder(f, tokenizers[i][0], true, e);
    failed = failed || add_folder(f, "scheduler", true, e) || add_folder(f, "feature_extractor", false, e)
          || add_folder(f, "clip", false, e);
    for (int i = 0; i < count; i++)
        failed = failed || add_file(f, parts[i], "config.json", e);
    f->copied = f->files;
    failed = failed || add_file(f, "", "model_index.json", e);
    for (int i = 0; i < count; i++)
        failed = failed || add_file(f, "", written[i], e);
    return failed ? -1 : 0;
}

static int copy_bytes(int in, const char *from, int out, const char *to, Err *e)
{
    enum { ROOM = 1 << 20 };
    char *room = malloc(ROOM);
    ssize_t n = room ? 1 : err_set(e, "out of memory");
    while (n > 0 && (n = fd_read(in, from, room, ROOM, e)) > 0)
        if (fd_write(out, to, room, (size_t)n, e))
            n = -1;
    free(room);
    return n < 0 ? -1 : 0;
}

static int copy_file(const char *from, const char *to, Err *e)
{
    const int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return err_set(e, "%s: %s", from, strerror(errno));
    Aside *out = aside_open(to, e);
    const int failed = !out || copy_bytes(in, from, aside_fd(out), to, e);
    close(in);
    if (!failed)
        return aside_commit(out, true, e);
    aside_abandon(out);
    return -1;
}

int model_folder_copy(const ModelFolder *f, const char *to, Err *e)
{
    char *from, *into;
    int failed = 0;
    for (int i = 0; i < f->copied && !failed; i++) {
        from = into = NULL;
        if (asprintf(&from, "%s/%s", f->base, f->file[i]) < 0 || asprintf(&into, "%s/%s", to, f->file[i]) < 0)
            failed = err_set(e, "out of memory");
        failed = failed || copy_file(from, into, e);
        free(from);
        free(into);
    }
    if (failed)
        return -1;
    if (asprintf(&into, "%s/model_index.json", to) < 0)
        return err_set(e, "out of memory");
    failed = json_file_write(into, f->index, e);
    free(into);
    return failed;
}

void model_folder_free(ModelFolder *f)
{
    json_decref(f->index);
    for (int i = 0; i < f->files; i++)
        free(f->file[i]);
    free(f->file);
    *f = (ModelFolder){0};
}
