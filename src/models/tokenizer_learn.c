/* SPDX-License-Identifier: MIT */
/* tokenizer_learn.c -- words that a textual inversion has learned join the tokenizer's special tokens, with
 * "normalized": true. transformers tokenization_utils_tokenizers.py (_add_tokens, 5.x); tokenizers'
 * added_vocabulary.rs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/tokenizer_parts.h"
#include "src/models/tokenizer_text.h"

enum { MOST_NAME = 255 };           /* bytes */

/* The id after all others. */
static int64_t next_id(const Tokenizer *t)
{
    const char *token;
    json_t *id;
    int64_t most = -1;
    json_object_foreach(t->vocab, token, id)
        if (json_is_integer(id) && json_integer_value(id) > most)
            most = json_integer_value(id);
    for (int i = 0; i < t->specials; i++) {
        const int64_t last = (int64_t)t->special[i].id + t->special[i].count - 1;
        most = last > most ? last : most;
    }
    return most + 1;
}

static int add(Tokenizer *t, const char *name, int32_t id, int count, Err *e)
{
    if (special_find(t, name) < t->specials || json_object_get(t->vocab, name))
        return err_set(e, "the word '%s' is a token already, of the vocabulary or learned before", name);
    char *text = text_normalise(name, strlen(name), e);
    if (!text)
        return -1;
    for (int i = 0; i < t->specials; i++)
        if (t->special[i].normalized && strcmp(t->special[i].text, text) == 0) {
            free(text);
            return err_set(e, "the word '%s' is '%s' but for its letter case, which is a token already", name,
                           t->special[i].name);
        }
    Special *s = special_place(t, name, e);
    if (!s) {
        free(text);
        return -1;
    }
    *s = (Special){.name = s->name, .text = text, .length = strlen(text), .id = id, .count = count, .normalized = true};
    return 0;
}

int tokenizer_learn(Tokenizer *t, const char *name, int count, int32_t *first, Err *e)
{
    char part[MOST_NAME + 16];
    const int64_t id = next_id(t);
    const size_t length = strlen(name);
    if (length > MOST_NAME || strspn(name, " \t\r\n") == length)
        return err_set(e, "a word of %zu bytes ('%.40s'), expected 1 to %d that are no space", length, name, MOST_NAME);
    if (id > INT32_MAX - count)
        return err_set(e, "the word '%s' has no id: the vocabulary's last is %lld", name, (long long)id - 1);
    if (add(t, name, (int32_t)id, count, e))
        return -1;
    for (int i = 1; i < count; i++) {
        snprintf(part, sizeof part, "%s_%d", name, i);
        if (add(t, part, (int32_t)id + i, 1, e))
            return -1;
    }
    *first = (int32_t)id;
    return 0;
}
