/* SPDX-License-Identifier: MIT */
/* unigram_added.c -- the tokens that T5's tokenizer finds in a text before it cuts it in words.
 *
 * In this order: added_tokens_decoder of tokenizer_config.json, or where it has none, those of added_tokens.json and
 * tokenizer.json, by their ids; the named ones (eos_token, ...) of tokenizer_config.json or, without a decoder, of
 * special_tokens_map.json; the extra ones of either, else spiece.model's own with <extra_id_0> to <extra_id_99>. One
 * that is a piece has its id, another the next that is free, whichever id its file gives it. transformers
 * tokenization_utils_base.py, _from_pretrained, and tokenization_utils_tokenizers.py, TokenizersBackend (5.x). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "src/models/tokenizer_parts.h"
#include "src/models/unigram_parts.h"

typedef struct Adding {
    Unigram *u;
    const UnigramFiles *f;
    ByteTrie names;                 /* index into u->added of a token's text */
    int32_t appended;               /* tokens that are no pieces */
} Adding;

static const char *const named[] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token",
                                    "mask_token"};
enum { NAMED = sizeof named / sizeof named[0], EOS = 1, PAD = 4 };

int unigram_extra(char text[EXTRA_TEXT], int64_t i)
{
    return snprintf(text, EXTRA_TEXT, "<extra_id_%lld>", (long long)i);
}

static AddedToken *new_token(Adding *a, const char *text, size_t n, Err *e)
{
    Unigram *u = a->u;
    AddedToken *grown = realloc(u->added, ((size_t)u->addeds + 1) * sizeof *grown);
    u->added = grown ? grown : u->added;
    char *copy = grown ? strdup(text) : NULL;
    if (!copy) {
        err_set(e, "out of memory");
        return NULL;
    }
    const int32_t piece = trie_find(&u->piece, text, n);
    grown[u->addeds] = (AddedToken){.text = copy, .id = piece >= 0 ? piece : u->pieces + a->appended++};
    return trie_add(&a->names, text, n, u->addeds, e) ? NULL : &grown[u->addeds++];
}

/* The index of a token, which is its text or an object with more; -1 on error. One that is there already stays as it
 * is, but where `anew`. special: it is one even if it does not say so. */
static int32_t add_token(Adding *a, const json_t *token, bool special, bool anew, Err *e)
{
    const char *text = token_text(token);
    const size_t n = text ? strlen(text) : 0;
    if (n == 0 || n > UNIGRAM_PIECE_MOST)
        return err_set(e, "%s: an added token has a text of %zu bytes, expected 1 to %d", a->f->folder, n,
                       UNIGRAM_PIECE_MOST);
    if (json_is_true(json_object_get(token, "single_word")))
        return err_set(e, "%s: added token '%s' has \"single_word\": true, expected false", a->f->folder, text);
    const int32_t at = trie_find(&a->names, text, n);
    if (at >= 0 && !anew)
        return at;
    AddedToken *to = at >= 0 ? &a->u->added[at] : new_token(a, text, n, e);
    if (!to)
        return -1;
    const json_t *normalized = json_object_get(token, "normalized");
    special |= json_is_true(json_object_get(token, "special"));
    to->normalized = json_is_boolean(normalized) ? json_is_true(normalized) : !special;
    to->lstrip = json_is_true(json_object_get(token, "lstrip"));
    to->rstrip = json_is_true(json_object_get(token, "rstrip"));
    return (int32_t)(to - a->u->added);
}

/* ---- named and extra tokens ---- */

/* As the files have it or T5 does, fresh; NULL: there is none. */
static json_t *find_named(const UnigramFiles *f, int i)
{
    const json_t *found = json_object_get(f->map, named[i]);
    found = found ? found : json_object_get(f->config, named[i]);
    if (found && !json_is_null(found))
        return json_incref((json_t *)found);
    return strcmp(named[i], "eos_token") == 0 ? json_string("</s>")
         : strcmp(named[i], "unk_token") == 0 ? json_string("<unk>")
         : strcmp(named[i], "pad_token") == 0 ? json_string("<pad>") : NULL;
}

static int append_list(json_t *to, const json_t *from, const char *key, const char *path, Err *e)
{
    const json_t *list = json_object_get(from, key);
    if (list && !json_is_null(list) && !json_is_array(list))
        return err_set(e, "%s: \"%s\" is %s, expected a list of tokens", path, key, json_type_text(list));
    return list && json_is_array(list) && json_array_extend(to, (json_t *)list) ? err_set(e, "out of memory") : 0;
}

/* T5's own: the model's or those of special_tokens_map.json, and <extra_id_N> unless one of them is such. */
static int default_extras(json_t *to, const UnigramFiles *f, Err *e)
{
    const bool whole = json_object_size(f->whole) > 0;
    const json_t *one;
    size_t k;
    if (whole ? append_list(to, f->map, "additional_special_tokens", f->folder, e)
        : json_array_extend(to, f->controls))
        return err_set(e, "out of memory");
    json_array_foreach(to, k, one)
        if (token_text(one) && strstr(token_text(one), "<extra_id_"))
            return 0;
    for (int64_t i = 0; i < f->extra_ids; i++) {
        char text[EXTRA_TEXT];
        unigram_extra(text, i);
        if (json_array_append_new(to, json_string(text)))
            return err_set(e, "out of memory");
    }
    return 0;
}

/* Onto `to`: extra_special_tokens, in whose place older files have additional_special_tokens. */
static int find_extras(json_t *to, const UnigramFiles *f, Err *e)
{
    static const char *const keys[] = {"extra_special_tokens", "additional_special_tokens"};
    const json_t *first = json_object_get(f->config, keys[0]);
    const bool older = json_object_get(f->config, keys[1]) && (!first || json_is_null(first)
                                                              || (json_is_array(first) && json_array_size(first) == 0));
    if (!first && !older && !json_object_get(f->map, keys[0]))
        return default_extras(to, f, e);
    return append_list(to, f->config, keys[older], f->config_path, e)
        || append_list(to, f->map, keys[0], f->folder, e) ? -1 : 0;
}

/* ---- listed tokens ---- */

typedef struct Listed { json_int_t id; size_t order; json_t *token; } Listed;

typedef struct List { Listed *one; size_t count; } List;

static int by_id(const void *a, const void *b)
{
    const Listed *x = a, *y = b;
    return x->id != y->id ? (x->id > y->id) - (x->id < y->id) : (x->order > y->order) - (x->order < y->order);
}

/* token: taken; NULL: out of memory */
static int put(List *l, json_int_t id, json_t *token, Err *e)
{
    Listed *grown = token ? realloc(l->one, (l->count + 1) * sizeof *grown) : NULL;
    if (!grown) {
        json_decref(token);
        return err_set(e, "out of memory");
    }
    l->one = grown;
    grown[l->count] = (Listed){id, l->count, token};
    l->count++;
    return 0;
}

/* An entry of added_tokens.json: found in the text as it stands where it is a named token or an extra one too. */
static int put_added(List *l, const UnigramFiles *f, const char *text, const json_t *id, const json_t *extras, Err *e)
{
    const json_t *one;
    size_t k;
    bool special = false;
    if (!json_is_integer(id))
        return err_set(e, "%s/added_tokens.json: the id of '%s' is %s, expected an integer", f->folder, text,
                       json_type_text(id));
    json_array_foreach(extras, k, one)
        special |= token_text(one) && strcmp(token_text(one), text) == 0;
    for (int i = 0; i < NAMED; i++) {
        json_t *name = find_named(f, i);
        special |= name && token_text(name) && strcmp(token_text(name), text) == 0;
        json_decref(name);
    }
    return put(l, json_integer_value(id), json_pack("{s:s, s:b}", "content", text, "normalized", !special), e);
}

static int find_listed(List *l, const UnigramFiles *f, const json_t *extras, Err *e)
{
    json_t *decoder = json_object_get(f->config, "added_tokens_decoder"), *token;
    const char *key;
    char *end;
    size_t i;
    json_object_foreach(decoder, key, token) {
        const long id = strtol(key, &end, 10);
        if (*end || end == key)
            return err_set(e, "%s: \"added_tokens_decoder\" has a token at '%.40s', expected its id", f->config_path,
                           key);
        if (put(l, id, json_incref(token), e))
            return -1;
    }
    if (decoder)
        return 0;
    json_object_foreach(f->added, key, token)
        if (put_added(l, f, key, token, extras, e))
            return -1;
    json_array_foreach(json_object_get(f->whole, "added_tokens"), i, token) {
        const json_t *id = json_object_get(token, "id");
        if (!json_is_integer(id))
            return err_set(e, "%s: entry %zu of \"added_tokens\" has no id", f->whole_path, i);
        if (put(l, json_integer_value(id), json_incref(token), e))
            return -1;
    }
    return 0;
}

static int add_all(Adding *a, List *l, json_t *extras, Err *e)
{
    int32_t id[NAMED] = {0};
    json_t *token;
    size_t i;
    if (find_extras(extras, a->f, e) || find_listed(l, a->f, extras, e))
        return -1;
    if (l->count)
        qsort(l->one, l->count, sizeof *l->one, by_id);
    for (i = 0; i < l->count; i++)
        if (add_token(a, l->one[i].token, false, true, e) < 0)
            return -1;
    for (int k = 0; k < NAMED; k++) {
        token = find_named(a->f, k);
        const int32_t at = token ? add_token(a, token, true, false, e) : 0;
        json_decref(token);
        if (at < 0)
            return -1;
        id[k] = token ? a->u->added[at].id : -1;
    }
    a->u->end = id[EOS];
    a->u->pad = id[PAD];
    json_array_foreach(extras, i, token)
        if (add_token(a, token, json_is_string(token), false, e) < 0)
            return -1;
    return 0;
}

/* Where each is looked for: in the text, or by its normal form in the text's. */
static int make_tries(Unigram *u, Err *e)
{
    for (int32_t i = 0; i < u->addeds; i++) {
        const AddedToken *token = &u->added[i];
        size_t n = strlen(token->text);
        char *form = token->normalized ? charsmap_normalise(u->charsmap, token->text, n, &n, e) : NULL;
        if (token->normalized && !form)
            return -1;
        const int failed = n > 0 && trie_add(form ? &u->normal : &u->raw, form ? form : token->text, n, i, e);
        free(form);
        if (failed)
            return -1;
    }
    return 0;
}

int unigram_add_tokens(Unigram *u, const UnigramFiles *f, Err *e)
{
    Adding a = {.u = u, .f = f};
    List l = {0};
    json_t *extras = json_array();
    const int failed = !extras ? err_set(e, "out of memory") : add_all(&a, &l, extras, e) || make_tries(u, e) ? -1 : 0;
    for (size_t i = 0; i < l.count; i++)
        json_decref(l.one[i].token);
    free(l.one);
    json_decref(extras);
    trie_free(&a.names);
    return failed;
}
