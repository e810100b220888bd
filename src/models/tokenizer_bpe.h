/* SPDX-License-Identifier: MIT */
/* tokenizer_bpe.h -- byte-pair encoding of one word: its bytes as symbols, the last with "</w>", merged by rank. */
#ifndef SRC_MODELS_TOKENIZER_BPE_H
#define SRC_MODELS_TOKENIZER_BPE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include "formats/err.h"

typedef struct Bpe Bpe;

/* vocab: object {token: id}, read and not kept. Merges, best first: "left right" or [left, right] of the list, or with
 * NULL the lines of the file `path`. unknown: id of a byte that vocab lacks. Errors name the file and the line or
 * merge. */
int bpe_create(Bpe **b, const json_t *vocab, const char *path, const json_t *merges, int32_t unknown, Err *e);
void bpe_free(Bpe *b);
/* ids (room for n) of a word of n > 0 bytes. Returns how many, -1 with an error. Time is n log n. */
long bpe_word(const Bpe *b, const char *word, size_t n, int32_t *ids, Err *e);

/* An id as a JSON integer from 0 to 2^31 - 1. */
static inline bool token_id(const json_t *value, int32_t *id)
{
    const json_int_t found = json_is_integer(value) ? json_integer_value(value) : -1;
    *id = found >= 0 && found <= INT32_MAX ? (int32_t)found : -1;
    return *id >= 0;
}

#endif
