/* SPDX-License-Identifier: MIT */
/* tokenizer.c -- CLIP's tokenizer: special tokens cut out of the text, the rest normalised, in words, in byte pairs.
 *
 *   text --special tokens--> parts --NFC, lower case, special tokens marked "normalized"--> parts
 *                                  --pattern--> words --BPE--> ids
 *
 * Which special tokens there are: added_tokens_decoder of tokenizer_config.json; where it has none, bos, eos, unk and
 * pad tokens of tokenizer_config.json, replaced by those of special_tokens_map.json. A token named by its text alone is
 * found in the text as it stands, one with "normalized": true in its normal form. transformers
 * models/clip/tokenization_clip.py and tokenization_utils_base.py (5.x); tokenizers' added_vocabulary.rs. */
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/json_file.h"
#include "src/models/tokenizer.h"
#include "src/models/tokenizer_bpe.h"
#include "src/models/tokenizer_text.h"

enum { DEFAULT_LENGTH = 77, MAX_LENGTH = 4096 };

typedef struct Special {
    char *text;
    size_t length;
    int32_t id;
    bool normalized;
} Special;

struct Tokenizer {
    Bpe *bpe;
    Special *special;
    int specials;
    int length;
    int32_t begin, end, pad, unknown;
};

typedef struct Sink {               /* where ids go: the first `room` are kept, all are counted */
    int32_t *ids;
    int room, count;
} Sink;

/* ---- loading ---- */

typedef struct Loading {
    char folder[PATH_MAX];
    json_t *vocab, *config, *map;
} Loading;

static json_t *load_file(const Loading *l, const char *name, bool needed, Err *e)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", l->folder, name);
    if (!needed && access(path, F_OK) != 0)
        return json_object();
    return json_file_load(path, e);
}

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
        return err_set(e, "%s: special token '%s' is not in vocab.json", l->folder, text);

    int at = 0;                     /* a later one of the same text replaces it */
    while (at < t->specials && strcmp(t->special[at].text, text) != 0)
        at++;
    if (at == t->specials) {
        Special *grown = realloc(t->special, (t->specials + 1) * sizeof *grown);
        if (!grown || !(grown[at].text = strdup(text))) {
            t->special = grown ? grown : t->special;
            return err_set(e, "out of memory");
        }
        t->special = grown;
        t->special[at].length = strlen(text);
        t->specials++;
    }
    t->special[at].id = id >= 0 ? id : (int32_t)json_integer_value(known);
    t->special[at].normalized = json_is_true(json_object_get(token, "normalized"));
    return 0;
}

static const char *token_text(const json_t *token)
{
    return json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
}

static int32_t special_id(const Tokenizer *t, const char *text)
{
    for (int i = 0; text && i < t->specials; i++)
        if (strcmp(t->special[i].text, text) == 0)
            return t->special[i].id;
    return -1;
}

static int read_specials(Tokenizer *t, const Loading *l, Err *e)
{
    const struct { const char *key, *text; int32_t *id; } named[] = {
        {"bos_token", "<|startoftext|>", &t->begin}, {"eos_token", "<|endoftext|>", &t->end},
        {"unk_token", "<|endoftext|>", &t->unknown}, {"pad_token", "<|endoftext|>", &t->pad},
    };
    const json_t *decoder = json_object_get(l->config, "added_tokens_decoder");
    const char *key;
    json_t *token;
    json_object_foreach((json_t *)decoder, key, token)
        if (add_special(t, l, token, (int32_t)strtol(key, NULL, 10), e))
            return -1;
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        const json_t *found = decoder ? NULL : json_object_get(l->map, named[i].key);
        json_t *fallback = json_string(named[i].text);
        if (!found || json_is_null(found))
            found = json_object_get(l->config, named[i].key);
        if (!found || json_is_null(found))
            found = fallback;
        int failed = 0;
        if (!decoder || special_id(t, token_text(found)) < 0)
            failed = add_special(t, l, found, -1, e);
        *named[i].id = special_id(t, token_text(found));
        json_decref(fallback);
        if (failed)
            return -1;
    }
    return 0;
}

static int read_all(Tokenizer *t, Loading *l, Err *e)
{
    if (!(l->vocab = load_file(l, "vocab.json", true, e))
        || !(l->config = load_file(l, "tokenizer_config.json", false, e))
        || !(l->map = load_file(l, "special_tokens_map.json", false, e)) || read_specials(t, l, e))
        return -1;
    const json_t *length = json_object_get(l->config, "model_max_length");
    t->length = DEFAULT_LENGTH;
    if (length && !json_is_null(length) && !json_is_number(length))
        return err_set(e, "%s/tokenizer_config.json: \"model_max_length\" is %s, expected an integer", l->folder,
                       json_type_text(length));
    if (json_is_integer(length) && json_integer_value(length) <= MAX_LENGTH)        /* more stands for "no limit" */
        t->length = (int)json_integer_value(length);
    if (t->length < 2)
        return err_set(e, "%s/tokenizer_config.json: \"model_max_length\" is %d, expected 2 or more", l->folder,
                       t->length);
    char merges[PATH_MAX + 64];
    snprintf(merges, sizeof merges, "%s/merges.txt", l->folder);
    return bpe_create(&t->bpe, l->vocab, merges, t->unknown, e);
}

int tokenizer_load(Tokenizer **out, const char *dir, Err *e)
{
    *out = NULL;
    Loading l = {0};
    Tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, "out of memory");
    snprintf(l.folder, sizeof l.folder, "%.4000s/tokenizer", dir);
    const int failed = read_all(t, &l, e);
    json_decref(l.vocab);
    json_decref(l.config);
    json_decref(l.map);
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
    for (int i = 0; i < t->specials; i++)
        free(t->special[i].text);
    free(t->special);
    bpe_free(t->bpe);
    free(t);
}

int tokenizer_length(const Tokenizer *t)
{
    return t->length;
}

int tokenizer_end(const Tokenizer *t)
{
    return t->end;
}

/* ---- encoding ---- */

static void emit(Sink *sink, int32_t id)
{
    if (sink->count < sink->room)
        sink->ids[sink->count] = id;
    sink->count++;
}

static int encode_word(const Tokenizer *t, const char *word, size_t n, int32_t *scratch, Sink *sink, Err *e)
{
    const long count = bpe_word(t->bpe, word, n, scratch, e);
    for (long i = 0; i < count; i++)
        emit(sink, scratch[i]);
    return count < 0 ? -1 : 0;
}

/* A word that spells a special token without being one is cut in three by the byte level: "<|", "endoftext", "|>". */
static int encode_words(const Tokenizer *t, const char *text, size_t n, Sink *sink, Err *e)
{
    int32_t *scratch = malloc((n + 1) * sizeof *scratch);
    if (!scratch)
        return err_set(e, "out of memory for a text of %zu bytes", n);
    int failed = 0;
    size_t start, end;
    for (size_t at = 0; !failed && text_word(text, n, at, &start, &end); at = end) {
        const char *word = text + start;
        const size_t length = end - start;
        if (length > 4 && word[0] == '<' && word[1] == '|' && word[2] >= 'a' && word[2] <= 'z')
            failed = encode_word(t, word, 2, scratch, sink, e) || encode_word(t, word + 2, length - 4, scratch, sink, e)
                  || encode_word(t, word + length - 2, 2, scratch, sink, e);
        else
            failed = encode_word(t, word, length, scratch, sink, e);
    }
    free(scratch);
    return failed ? -1 : 0;
}

/* The first special token of the kind in the text, the longest where several begin; NULL when there is none. */
static const Special *find_special(const Tokenizer *t, bool normalized, const char *text, size_t n, size_t *at)
{
    for (size_t i = 0; i < n; i++) {
        const Special *longest = NULL;
        for (int k = 0; k < t->specials; k++) {
            const Special *s = &t->special[k];
            if (s->normalized == normalized && s->length <= n - i && memcmp(s->text, text + i, s->length) == 0
                && (!longest || s->length > longest->length))
                longest = s;
        }
        if (longest) {
            *at = i;
            return longest;
        }
    }
    return NULL;
}

static int encode_part(const Tokenizer *t, bool normalized, const char *text, size_t n, Sink *sink, Err *e);

static int encode_between(const Tokenizer *t, bool normalized, const char *text, size_t n, Sink *sink, Err *e)
{
    if (normalized)
        return encode_words(t, text, n, sink, e);
    char *form = text_normalise(text, n, e);
    const int failed = form ? encode_part(t, true, form, strlen(form), sink, e) : -1;
    free(form);
    return failed;
}

/* Text before normalisation, or after: cut at the special tokens that are looked for there. */
static int encode_part(const Tokenizer *t, bool normalized, const char *text, size_t n, Sink *sink, Err *e)
{
    size_t at;
    const Special *s;
    while ((s = find_special(t, normalized, text, n, &at))) {
        if (encode_between(t, normalized, text, at, sink, e))
            return -1;
        emit(sink, s->id);
        text += at + s->length;
        n -= at + s->length;
    }
    return encode_between(t, normalized, text, n, sink, e);
}

int tokenizer_encode(const Tokenizer *t, const char *text, int32_t *ids, Err *e)
{
    Sink sink = {ids + 1, t->length - 2, 0};
    if (encode_part(t, false, text, strlen(text), &sink, e))
        return -1;
    const int kept = sink.count < sink.room ? sink.count : sink.room;
    ids[0] = t->begin;
    ids[1 + kept] = t->end;
    for (int i = kept + 2; i < t->length; i++)
        ids[i] = t->pad;
    return sink.count;
}
