/* SPDX-License-Identifier: MIT */
/* tokenizer_parts.h -- the tokenizer from within: shared by tokenizer_load.c, which makes it, tokenizer_learn.c,
 * which adds words to it, and tokenizer.c; with what unigram_load.c reads files by. */
#ifndef SRC_MODELS_TOKENIZER_PARTS_H
#define SRC_MODELS_TOKENIZER_PARTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "src/models/tokenizer.h"
#include "src/models/tokenizer_bpe.h"

typedef struct Special {
    char *name, *text;              /* as the files have it, and as it is looked for */
    size_t length;                  /* of text */
    int32_t id;                     /* the first of `count` in a row */
    int count;
    bool normalized;
} Special;

struct Tokenizer {
    Bpe *bpe;
    json_t *vocab;                  /* token to id */
    Special *special;
    int specials;
    int length;
    int32_t begin, end, pad, unknown;
};

/* The object in FOLDER/name, an empty one where the file is not there and not needed; the caller drops it. */
json_t *tokenizer_file(const char *folder, const char *name, bool needed, Err *e);
/* Of a token that is its text or an object with more; NULL where it has none. */
const char *token_text(const json_t *token);
/* The index of the special token of this name, t->specials where there is none. */
int special_find(const Tokenizer *t, const char *name);
/* The place of the special token of this name, a new one where there is none; NULL on error. */
Special *special_place(Tokenizer *t, const char *name, Err *e);

#endif
