/* SPDX-License-Identifier: MIT */
/* tokenizer_load.c -- CLIP's tokenizer from its folder.
 *
 * Vocabulary and merges are those of tokenizer.json (transformers 5 writes no other file of them), or of vocab.json and
 * merges.txt. Which special tokens there are: added_tokens_decoder of tokenizer_config.json; where it has none, those
 * of added_tokens.json and tokenizer.json, and bos, eos, unk and pad tokens of tokenizer_config.json, replaced by those
 * of special_tokens_map.json. A token named by its text alone is found in the text as it stands, one with "normalized":
 * true by its normal form in the text's. transformers models/clip/tokenization_clip.py and tokenization_utils_base.py
 * (5.x); tokenizers' added_vocabulary.rs. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/json_file.h"
#include "formats/number.h"
#include "src/models/tokenizer_parts.h"
#include "src/models/tokenizer_text.h"

enum { DEFAULT_LENGTH = 77, MAX_LENGTH = 4096 };

typedef struct Loading {
    char folder[PATH_MAX];
    json_t *whole;                  /* tokenizer.json */
    json_t *vocab, *config, *map, *added;
} Loading;

json_t *tokenizer_file(const char *folder, const char *name, bool needed, Err *e)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!needed && access(path, F_OK) != 0)
        return json_object();
    return json_file_load(path, e);
}

int special_find(const Tokenizer *t, const char *name)
{
    int i = 0;
    while (i < t->specials && (!name || strcmp(t->special[i].name, name) != 0))
        i++;
    return i;
}

Special *special_place(Tokenizer *t, const char *name, Err *e)
{
    const int at = special_find(t, name);
    if (at < t->specials)
        return &t->special[at];
    Special *grown = realloc(t->special, (t->specials + 1) * sizeof *grown);
    char *copy = strdup(name);
    t->special = grown ? grown : t->special;
    if (!grown || !copy) {
        free(copy);
        err_set(e, "out of memory");
        return NULL;
    }
    grown[t->specials] = (Special){.name = copy};
    return &grown[t->specials++];
}

/* token: its text or an object with more; one of the same name is replaced. id: where vocab.json does not have it. */
static int add_special(Tokenizer *t, const Loading *l, const json_t *token, int32_t id, Err *e)
{
    const json_t *content = json_is_object(token) ? json_object_get(token, "content") : token;
    if (!json_is_string(content) || json_string_length(content) == 0)
        return err_set(e, "%s: a special token has no text", l->folder);
    const char *text = json_string_value(content);
    static const char *const unsupported[] = {"lstrip", "rstrip", "single_word"};
    for (int i = 0; i < 3; i++)
        if (json_is_true(json_object_get(token, unsupported[i])))
            return err_set(e, "%s: special token '%s' has \"%s\": true, expected false", l->folder, text,
                           unsupported[i]);
    const json_t *known = json_object_get(l->vocab, text);
    if (id < 0 && !json_is_integer(known))
        return err_set(e, "%s: special token '%s' is not in the vocabulary", l->folder, text);

    Special *s = special_place(t, text, e);
    if (!s)
        return -1;
    s->count = 1;
    s->normalized = json_is_true(json_object_get(token, "normalized"));
    s->id = json_is_integer(known) ? (int32_t)json_integer_value(known) : id;
    free(s->text);
    s->text = s->normalized ? text_normalise(text, strlen(text), e) : strdup(text);
    s->length = s->text ? strlen(s->text) : 0;
    return s->length ? 0 : err_set(e, "out of memory");
}

const char *token_text(const json_t *token)
{
    return json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
}

static const char *const named[] = {"bos_token", "eos_token", "unk_token", "pad_token"};

/* A named token as the files have it, NULL where they do not. */
static const json_t *find_named(const Loading *l, int i)
{
    const json_t *found = json_object_get(l->config, "added_tokens_decoder") ? NULL : json_object_get(l->map, named[i]);
    if (!found || json_is_null(found))
        found = json_object_get(l->config, named[i]);
    return json_is_null(found) ? NULL : found;
}

/* An entry of added_tokens.json, text and id: found in the text as it stands where it is also a named token or an
 * additional one, else by its normal form. */
static int add_added(Tokenizer *t, const Loading *l, const char *text, const json_t *id, Err *e)
{
    const json_t *more = json_object_get(l->config, "additional_special_tokens"), *one;
    bool special = false;
    size_t i;
    json_array_foreach(more, i, one)
        special |= json_is_string(one) && strcmp(json_string_value(one), text) == 0;
    for (int k = 0; k < 4; k++) {
        const char *name = token_text(find_named(l, k));
        special |= name && strcmp(name, text) == 0;
    }
    json_t *token = json_pack("{s:s, s:b}", "content", text, "normalized", !special);
    int32_t value;
    const int failed = !token ? err_set(e, "out of memory") : !token_id(id, &value)
                     ? err_set(e, "%s/added_tokens.json: the id of '%s' is %s, expected one of 0 to %d", l->folder,
                               text, json_is_integer(id) ? "out of range" : json_type_text(id), INT32_MAX)
                     : add_special(t, l, token, value, e);
    json_decref(token);
    return failed;
}

/* Tokens that are listed with their ids. */
static int read_listed(Tokenizer *t, const Loading *l, Err *e)
{
    const json_t *decoder = json_object_get(l->config, "added_tokens_decoder");
    const char *key;
    json_t *token;
    size_t i;
    json_object_foreach((json_t *)decoder, key, token) {
        int64_t id;
        if (number_whole(key, &id) || id < 0 || id > INT32_MAX)
            return err_set(e, "%s/tokenizer_config.json: added_tokens_decoder has '%s', expected an id", l->folder,
                           key);
        if (add_special(t, l, token, (int32_t)id, e))
            return -1;
    }
    if (decoder)
        return 0;
    json_object_foreach(l->added, key, token)
        if (add_added(t, l, key, token, e))
            return -1;
    json_array_foreach(json_object_get(l->whole, "added_tokens"), i, token) {
        int32_t id;
        if (add_special(t, l, token, token_id(json_object_get(token, "id"), &id) ? id : -1, e))
            return -1;
    }
    return 0;
}

static int read_specials(Tokenizer *t, const Loading *l, Err *e)
{
    int32_t *const id[] = {&t->begin, &t->end, &t->unknown, &t->pad};
    if (read_listed(t, l, e))
        return -1;
    const int listed = t->specials;
    for (int i = 0; i < 4; i++) {
        json_t *fallback = json_string(i == 0 ? "<|startoftext|>" : "<|endoftext|>");
        const json_t *found = find_named(l, i);
        found = found ? found : fallback;
        const int failed = special_find(t, token_text(found)) >= listed && add_special(t, l, found, -1, e);
        *id[i] = failed ? -1 : t->special[special_find(t, token_text(found))].id;
        json_decref(fallback);
        if (failed)
            return -1;
    }
    return 0;
}

/* Vocabulary, and merges where they are a list. */
static int read_vocab(Loading *l, const json_t **merges, Err *e)
{
    if (!(l->whole = tokenizer_file(l->folder, "tokenizer.json", false, e)))
        return -1;
    const json_t *model = json_object_get(l->whole, "model");
    *merges = json_object_get(model, "merges");
    if (json_object_size(l->whole) == 0)
        return (l->vocab = tokenizer_file(l->folder, "vocab.json", true, e)) ? 0 : -1;
    const char *suffix = json_string_value(json_object_get(model, "end_of_word_suffix"));
    l->vocab = json_incref(json_object_get(model, "vocab"));
    if (!json_is_object(l->vocab) || !json_is_array(*merges) || !suffix || strcmp(suffix, "</w>") != 0)
        return err_set(e, "%s/tokenizer.json: not CLIP's tokenizer: \"model\" needs a vocab, merges, and \"</w>\" as "
                       "end_of_word_suffix", l->folder);
    return 0;
}

/* An integer beyond 64 bits, which json_file_load makes a text: transformers' VERY_LARGE_INTEGER, "no limit". */
static bool is_huge(const json_t *value)
{
    const char *text = json_string_value(value);
    return text && strlen(text) >= 19 && text[strspn(text, "0123456789")] == 0;
}

static int read_all(Tokenizer *t, Loading *l, Err *e)
{
    const json_t *merges;
    if (read_vocab(l, &merges, e) || !(l->config = tokenizer_file(l->folder, "tokenizer_config.json", false, e))
        || !(l->map = tokenizer_file(l->folder, "special_tokens_map.json", false, e))
        || !(l->added = tokenizer_file(l->folder, "added_tokens.json", false, e)) || read_specials(t, l, e))
        return -1;
    const json_t *length = json_object_get(l->config, "model_max_length");
    t->length = DEFAULT_LENGTH;
    if (length && !json_is_null(length) && !json_is_number(length) && !is_huge(length))
        return err_set(e, "%s/tokenizer_config.json: \"model_max_length\" is %s, expected an integer", l->folder,
                       json_type_text(length));
    if (json_is_integer(length) && json_integer_value(length) <= MAX_LENGTH)        /* more stands for "no limit" */
        t->length = (int)json_integer_value(length);
    if (t->length < 2)
        return err_set(e, "%s/tokenizer_config.json: \"model_max_length\" is %d, expected 2 or more", l->folder,
                       t->length);
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", l->folder, merges ? "tokenizer.json" : "merges.txt");
    return bpe_create(&t->bpe, l->vocab, path, merges, t->unknown, e);
}

int tokenizer_load(Tokenizer **t, const char *dir, Err *e)
{
    return tokenizer_load_part(t, dir, "tokenizer", e);
}

int tokenizer_load_part(Tokenizer **out, const char *dir, const char *name, Err *e)
{
    *out = NULL;
    Loading l = {0};
    Tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, "out of memory");
    snprintf(l.folder, sizeof l.folder, "%.4000s/%.32s", dir, name);
    const int failed = read_all(t, &l, e);
    t->vocab = l.vocab;
    json_decref(l.config);
    json_decref(l.map);
    json_decref(l.added);
    json_decref(l.whole);
    if (failed)
        tokenizer_free(t);
    else
        *out = t;
    return failed;
}

void tokenizer_free(Tokenizer *t)
{
    if (!t)
        return;
    for (int i = 0; i < t->specials; i++) {
        free(t->special[i].name);
        free(t->special[i].text);
    }
    free(t->special);
    bpe_free(t->bpe);
    json_decref(t->vocab);
    free(t);
}
