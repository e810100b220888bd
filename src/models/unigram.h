/* SPDX-License-Identifier: MIT */
/* unigram.h -- T5's tokenizer, SentencePiece's unigram model: the pieces of a word whose scores have the largest sum.
 * transformers' T5TokenizerFast of 5.x (models/t5/tokenization_t5.py), whose ids it gives. */
#ifndef SRC_MODELS_UNIGRAM_H
#define SRC_MODELS_UNIGRAM_H

#include <stdint.h>
#include "formats/err.h"

typedef struct Unigram Unigram;

/* Reads DIR/part/{tokenizer.json or spiece.model, tokenizer_config.json, special_tokens_map.json,
 * added_tokens.json}. */
int unigram_load(Unigram **u, const char *dir, const char *part, Err *e);
void unigram_free(Unigram *u);
/* ids[S], S > 0: the text's tokens, cut to S - 1, </s>, and padding. *left: how many were cut off. Time and memory are
 * linear in the text. An error where it is not valid UTF-8. */
int unigram_encode(const Unigram *u, const char *text, int32_t *ids, int S, long *left, Err *e);

#endif
