/* SPDX-License-Identifier: MIT */
/* unigram_load.c -- T5's tokenizer from its folder.
 *
 * Pieces and normalizer are those of tokenizer.json, or where there is none of spiece.model, behind whose pieces come
 * <extra_id_99> to <extra_id_0>. T5Tokenizer takes no more of a tokenizer.json than these and the added tokens, and
 * sets id and pre-tokenizer itself, so that a file that asks for others is refused. transformers
 * models/t5/tokenization_t5.py and tokenization_utils_tokenizers.py (5.x). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/base64.h"
#include "formats/json_file.h"
#include "src/models/tokenizer_parts.h"
#include "src/models/unigram_parts.h"

enum { EXTRA_IDS = 100, EXTRA_MOST = 10000 };

int unigram_add_piece(Unigram *u, const char *text, size_t n, double score, const char *where, Err *e)
{
    if (n == 0 || n > UNIGRAM_PIECE_MOST)
        return err_set(e, "%s: piece %d has %zu bytes, expected 1 to %d", where, u->pieces, n, UNIGRAM_PIECE_MOST);
    if (u->pieces == u->room) {
        const int32_t room = u->room ? 2 * u->room : 1024;
        double *grown = room < 1 << 28 ? realloc(u->score, (size_t)room * sizeof *grown) : NULL;
        if (!grown)
            return err_set(e, "%s: out of memory for %d pieces", where, room);
        u->score = grown;
        u->room = room;
    }
    u->least = u->pieces == 0 || score < u->least ? score : u->least;
    u->score[u->pieces] = score;
    return trie_add(&u->piece, text, n, u->pieces++, e);
}

/* ---- tokenizer.json ---- */

static int read_vocab(Unigram *u, const UnigramFiles *f, const json_t *model, Err *e)
{
    const json_t *vocab, *one;
    size_t i;
    if (json_need_array(f->whole_path, model, "vocab", &vocab, e))
        return -1;
    json_array_foreach(vocab, i, one) {
        const json_t *text = json_array_get(one, 0), *score = json_array_get(one, 1);
        if (!json_is_string(text) || !json_is_number(score))
            return err_set(e, "%s: entry %zu of \"vocab\" is no text with a number", f->whole_path, i);
        if (unigram_add_piece(u, json_string_value(text), json_string_length(text), json_number_value(score),
                              f->whole_path, e))
            return -1;
    }
    return 0;
}

static int read_json_model(Unigram *u, const UnigramFiles *f, Err *e)
{
    const json_t *model;
    const char *type;
    int64_t unknown;
    bool bytes;
    if (json_need_object(f->whole_path, f->whole, "model", &model, e)
        || json_get_text(f->whole_path, model, "type", "Unigram", &type, e)
        || json_get_int(f->whole_path, model, "unk_id", UNIGRAM_UNKNOWN, &unknown, e)
        || json_get_bool(f->whole_path, model, "byte_fallback", false, &bytes, e))
        return -1;
    if (strcmp(type, "Unigram") != 0)
        return err_set(e, "%s: \"type\" of the model is \"%.40s\", expected Unigram", f->whole_path, type);
    if (unknown != UNIGRAM_UNKNOWN)
        return err_set(e, "%s: \"unk_id\" is %lld, expected %d, as T5 has it", f->whole_path, (long long)unknown,
                       UNIGRAM_UNKNOWN);
    if (bytes)
        return err_set(e, "%s: \"byte_fallback\" is true, expected false", f->whole_path);
    return read_vocab(u, f, model, e);
}

/* What one step of a normalizer or pre-tokenizer does. */
typedef int StepFn(Unigram *u, const UnigramFiles *f, const json_t *step, const char *type, Err *e);

/* Calls fn for what whole[key] does: it alone, or each of a Sequence's, which are in its `list`. */
static int each_step(Unigram *u, const UnigramFiles *f, const char *key, const char *list, StepFn *fn, Err *e)
{
    const json_t *step = json_object_get(f->whole, key), *steps = NULL;
    const char *type = json_string_value(json_object_get(step, "type"));
    if (!step || json_is_null(step))
        return 0;
    if (type && strcmp(type, "Sequence") == 0 && json_need_array(f->whole_path, step, list, &steps, e))
        return -1;
    const size_t count = steps ? json_array_size(steps) : 1;
    for (size_t i = 0; i < count; i++) {
        step = steps ? json_array_get(steps, i) : step;
        if (!(type = json_string_value(json_object_get(step, "type"))))
            return err_set(e, "%s: a step of \"%s\" has no \"type\"", f->whole_path, key);
        if (fn(u, f, step, type, e))
            return -1;
    }
    return 0;
}

/* Strip and Replace see to white space, as cutting in words does. */
static int normalizer_step(Unigram *u, const UnigramFiles *f, const json_t *step, const char *type, Err *e)
{
    const char *regex = json_string_value(json_object_get(json_object_get(step, "pattern"), "Regex"));
    if (strcmp(type, "Strip") == 0 || (strcmp(type, "Replace") == 0 && regex && strcmp(regex, " {2,}") == 0))
        return 0;
    if (strcmp(type, "Precompiled") != 0 || u->charsmap)
        return err_set(e, "%s: \"normalizer\" has a %.40s, expected one Precompiled, Strip, and Replace of \" {2,}\"",
                       f->whole_path, type);
    const char *text;
    char where[4200];
    uint8_t *data;
    size_t n;
    snprintf(where, sizeof where, "%s: \"precompiled_charsmap\"", f->whole_path);
    if (json_get_text(f->whole_path, step, "precompiled_charsmap", "", &text, e)
        || base64_decode(&data, &n, text, where, e))
        return -1;
    const int failed = charsmap_create(&u->charsmap, data, n, where, e);
    free(data);
    return failed;
}

static int pre_tokenizer_step(Unigram *u, const UnigramFiles *f, const json_t *step, const char *type, Err *e)
{
    (void)u;
    const char *mark = json_string_value(json_object_get(step, "replacement"));
    const char *scheme = json_string_value(json_object_get(step, "prepend_scheme"));
    if (strcmp(type, "WhitespaceSplit") == 0)
        return 0;
    if (strcmp(type, "Metaspace") != 0)
        return err_set(e, "%s: \"pre_tokenizer\" has a %.40s, expected WhitespaceSplit and Metaspace", f->whole_path,
                       type);
    if (!mark || strcmp(mark, "\xe2\x96\x81") != 0 || (scheme && strcmp(scheme, "never") == 0)
        || json_is_false(json_object_get(step, "split")) || json_is_false(json_object_get(step, "add_prefix_space")))
        return err_set(e, "%s: Metaspace expects \"replacement\" U+2581, put before each word, and \"split\"",
                       f->whole_path);
    return 0;
}

/* ---- the folder ---- */

static int read_options(UnigramFiles *f, Err *e)
{
    static const char *const sides[] = {"padding_side", "truncation_side"};
    const char *side;
    bool split;
    for (int i = 0; i < 2; i++) {
        if (json_get_text(f->config_path, f->config, sides[i], "right", &side, e))
            return -1;
        if (strcmp(side, "right") != 0)
            return err_set(e, "%s: \"%s\" is \"%.40s\", expected right", f->config_path, sides[i], side);
    }
    if (json_get_bool(f->config_path, f->config, "split_special_tokens", false, &split, e)
        || json_get_int(f->config_path, f->config, "extra_ids", EXTRA_IDS, &f->extra_ids, e))
        return -1;
    if (split)
        return err_set(e, "%s: \"split_special_tokens\" is true, expected false", f->config_path);
    if (f->extra_ids < 0 || f->extra_ids > EXTRA_MOST)
        return err_set(e, "%s: \"extra_ids\" is %lld, expected 0 to %d", f->config_path, (long long)f->extra_ids,
                       EXTRA_MOST);
    return 0;
}

static int read_spiece(Unigram *u, UnigramFiles *f, Err *e)
{
    char path[sizeof f->whole_path];
    snprintf(path, sizeof path, "%s/spiece.model", f->folder);
    if (access(path, F_OK) != 0)
        return err_set(e, "%s: neither tokenizer.json nor spiece.model is there", f->folder);
    if (unigram_read_model(u, path, f->controls, e))
        return -1;
    for (int64_t i = f->extra_ids; i-- > 0;) {
        char text[EXTRA_TEXT];
        const int n = unigram_extra(text, i);
        if (unigram_add_piece(u, text, (size_t)n, 0, path, e))
            return -1;
    }
    return 0;
}

static int read_all(Unigram *u, UnigramFiles *f, Err *e)
{
    f->controls = json_array();
    if (!(f->whole = tokenizer_file(f->folder, "tokenizer.json", false, e))
        || !(f->config = tokenizer_file(f->folder, "tokenizer_config.json", false, e))
        || read_options(f, e))
        return -1;
    const bool decoder = json_object_get(f->config, "added_tokens_decoder");
    if (!(f->map = decoder ? json_object() : tokenizer_file(f->folder, "special_tokens_map.json", false, e))
        || !(f->added = decoder ? json_object() : tokenizer_file(f->folder, "added_tokens.json", false, e)))
        return -1;
    const bool whole = json_object_size(f->whole) > 0;
    const int failed = !whole ? read_spiece(u, f, e)
        : read_json_model(u, f, e) || each_step(u, f, "normalizer", "normalizers", normalizer_step, e)
          || each_step(u, f, "pre_tokenizer", "pretokenizers", pre_tokenizer_step, e) ? -1 : 0;
    if (failed)
        return -1;
    if (u->pieces <= UNIGRAM_UNKNOWN)
        return err_set(e, "%s: a vocabulary of %d pieces, expected <unk> at %d", f->folder, u->pieces, UNIGRAM_UNKNOWN);
    return unigram_add_tokens(u, f, e);
}

int unigram_load(Unigram **out, const char *dir, const char *part, Err *e)
{
    *out = NULL;
    Unigram *u = calloc(1, sizeof *u);
    UnigramFiles *f = calloc(1, sizeof *f);
    if (!u || !f) {
        free(u);
        free(f);
        return err_set(e, "out of memory");
    }
    snprintf(f->folder, sizeof f->folder, "%.4000s/%.32s", dir, part);
    snprintf(f->whole_path, sizeof f->whole_path, "%s/tokenizer.json", f->folder);
    snprintf(f->config_path, sizeof f->config_path, "%s/tokenizer_config.json", f->folder);
    const int failed = read_all(u, f, e);
    json_decref(f->whole);
    json_decref(f->config);
    json_decref(f->map);
    json_decref(f->added);
    json_decref(f->controls);
    free(f);
    if (failed)
        unigram_free(u);
    else
        *out = u;
    return failed;
}

void unigram_free(Unigram *u)
{
    if (!u)
        return;
    for (int32_t i = 0; i < u->addeds; i++)
        free(u->added[i].text);
    free(u->added);
    free(u->score);
    trie_free(&u->piece);
    trie_free(&u->raw);
    trie_free(&u->normal);
    charsmap_free(u->charsmap);
    free(u);
}
