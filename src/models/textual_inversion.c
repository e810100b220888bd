/* SPDX-License-Identifier: MIT */
/* textual_inversion.c -- which tensors of a file a word's vectors are, and what the word is. */
#include <stdlib.h>
#include <string.h>
#include "formats/affix.h"
#include "formats/weights_either.h"
#include "src/models/textual_inversion.h"

static const char *const of_xl[] = {"clip_l", "clip_g"};
static const char webui[] = "string_to_param.", webui_plain[] = "emb_params";

/* webui's one parameter in a .pt: "string_to_param.*", in older files "string_to_param._parameters.*", or another name
 * than *; NULL: none, or several. */
static const Weight *find_webui(const Weights *w)
{
    const Weight *found = NULL;
    for (size_t i = 0; i < weights_count(w); i++) {
        const Weight *t = weights_at(w, i);
        if (!starts_with(t->name, webui))
            continue;
        if (found)
            return NULL;
        found = t;
    }
    return found;
}

/* The tensor of a file for one text encoder. NULL on error. */
static const Weight *find_one(const Weights *w, Err *e)
{
    const Weight *found = find_webui(w);
    found = found ? found : weights_find(w, webui_plain);
    if (found)
        return found;
    const char *path = weights_path(w), *unread = weights_unread(w);
    if (weights_count(w) == 1 && !unread)
        return weights_at(w, 0);
    if (unread)
        err_set(e, "%s: tensor %.60s is of a type that is not read, expected F32, F16 or BF16", path, unread);
    else
        err_set(e, "%s: no textual inversion: it holds %zu tensors, expected one (or webui's string_to_param {\"*\"} "
                "or emb_params, or SDXL's clip_l and clip_g)", path, weights_count(w));
    return NULL;
}

static int find_tensors(const Weights *w, int encoders, const Weight *tensor[2], Err *e)
{
    const char *path = weights_path(w);
    const bool first = weights_has(w, of_xl[0]), second = weights_has(w, of_xl[1]);
    if (encoders == 1 && (first || second))
        return err_set(e, "%s: holds %s: a textual inversion for SDXL, the model has one text encoder", path,
                       of_xl[!first]);
    if (encoders == 1)
        return (tensor[0] = find_one(w, e)) ? 0 : -1;
    if (!first && !second)
        return err_set(e, "%s: no clip_l and clip_g: the model has two text encoders, expected a tensor for each",
                       path);
    if (!first || !second)
        return err_set(e, "%s: holds %s and no %s: expected both, the model has two text encoders", path, of_xl[!first],
                       of_xl[first]);
    for (int i = 0; i < 2; i++)
        if (!(tensor[i] = weights_find(w, of_xl[i])))
            return err_set(e, "%s: tensor %s is of a type that is not read, expected F32, F16 or BF16", path, of_xl[i]);
    return 0;
}

/* The rows of tensor t; *count of them. */
static int read_rows(const Weights *w, const Weight *t, int width, float **rows, int *count, Err *e)
{
    char found[SHAPE_SIZE];
    const bool many = t->ndim == 2;
    const int64_t n = many ? t->dim[0] : 1, dim[] = {n, width};
    if ((t->ndim != 1 && !many) || t->dim[t->ndim - 1] != width)
        return err_set(e, "%s: tensor %.60s is %s, the text encoder takes vectors of %d: (n, %d) or (%d)",
                       weights_path(w), t->name, shape_text(found, t->ndim, t->dim), width, width, width);
    if (n < 1 || n > WORD_MOST_TOKENS)
        return err_set(e, "%s: tensor %.60s has %lld vectors, expected 1 to %d", weights_path(w), t->name, (long long)n,
                       WORD_MOST_TOKENS);
    *count = (int)n;
    if (!weights_need_finite(w, t->name, t->ndim, many ? dim : dim + 1, e))
        return -1;
    *rows = weights_floats(w, t->name, t->ndim, many ? dim : dim + 1, e);
    return *rows ? 0 : -1;
}

/* The word that the file says, NULL where it says none: the key of its one tensor, or webui's name. */
static const char *name_within(const Weights *w, const Weight *t)
{
    if (starts_with(t->name, webui))
        return json_string_value(json_object_get(weights_metadata(w), "name"));
    return weights_count(w) == 1 && *t->name && strcmp(t->name, webui_plain) != 0 ? t->name : NULL;
}

/* The file's name without folder and ending; the caller's. NULL: out of memory */
static char *stem_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    return dot && dot > name ? strndup(name, (size_t)(dot - name)) : strdup(name);
}

static int read_file(LearnedWord *word, const Weights *w, int encoders, const int width[2], Err *e)
{
    const Weight *tensor[2];
    int count[2] = {0};
    if (find_tensors(w, encoders, tensor, e))
        return -1;
    for (int i = 0; i < encoders; i++)
        if (read_rows(w, tensor[i], width[i], &word->rows[i], &count[i], e))
            return -1;
    if (encoders == 2 && count[0] != count[1])
        return err_set(e, "%s: clip_l has %d vectors and clip_g %d, expected as many", weights_path(w), count[0],
                       count[1]);
    word->count = count[0];
    if (word->name)
        return 0;
    const char *within = name_within(w, tensor[0]);
    word->name = within && *within ? strdup(within) : stem_of(weights_path(w));
    return word->name ? 0 : err_set(e, "out of memory");
}

const char *learned_word_file(const char *said)
{
    const char *equals = starts_with(said, "/") || starts_with(said, "./") || starts_with(said, "../")
        ? NULL : strchr(said, '=');
    return equals ? equals + 1 : said;
}

int learned_word_read(LearnedWord *word, const char *said, int encoders, const int width[2], Err *e)
{
    const char *path = learned_word_file(said);
    Weights *w = NULL;
    *word = (LearnedWord){0};
    if (path == said + 1 || !*path)                 /* no NAME, or no FILE */
        return err_misuse(e, "--embedding '%s' is not FILE or NAME=FILE", said);
    if (path > said && !(word->name = strndup(said, (size_t)(path - said - 1))))
        return err_set(e, "out of memory");
    const int failed = weights_open_either(&w, path, e) || read_file(word, w, encoders, width, e) ? -1 : 0;
    weights_close(w);
    return failed;
}

void learned_word_clear(LearnedWord *word)
{
    free(word->name);
    free(word->rows[0]);
    free(word->rows[1]);
    *word = (LearnedWord){0};
}
