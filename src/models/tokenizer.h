/* SPDX-License-Identifier: MIT */
/* tokenizer.h -- CLIP's byte-pair encoding: lower case, cleaned whitespace, NFC, word pattern, byte symbols, merges.
 * transformers CLIPTokenizer (models/clip/tokenization_clip*.py), whose ids it gives for every Unicode text. */
#ifndef SRC_MODELS_TOKENIZER_H
#define SRC_MODELS_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>
#include "formats/err.h"

typedef struct Tokenizer Tokenizer;

/* Reads DIR/tokenizer/{tokenizer.json or vocab.json and merges.txt, tokenizer_config.json, special_tokens_map.json,
 * added_tokens.json}. */
int tokenizer_load(Tokenizer **t, const char *dir, Err *e);
/* The same of DIR/name. */
int tokenizer_load_part(Tokenizer **t, const char *dir, const char *name, Err *e);
void tokenizer_free(Tokenizer *t);
/* Adds a word that is `count` tokens in a row, whose ids, *first and on, come after all others. It is found wherever
 * its normal form stands in the text's, in any letter case and inside a longer word too, and where several words begin
 * at one place the longest is. NAME_1, ... NAME_(count - 1) are words too, of the one token. Refused: a word that is a
 * token already, or is one but for its letter case.
 * As diffusers' load_textual_inversion adds tokens (loaders/textual_inversion.py) and CLIPTokenizer finds them; but
 * maybe_convert_prompt there, which puts all of a word's tokens in its place, finds it only where its name and the
 * prompt have it in lower case (else it is its first token alone), and spoils two words of which one is in the
 * other. */
int tokenizer_learn(Tokenizer *t, const char *name, int count, int32_t *first, Err *e);
int tokenizer_length(const Tokenizer *t);           /* model_max_length, 77 */
/* ids[tokenizer_length]: start, the text's tokens (cut to length - 2), end, padding. Returns the number of the text's
 * own tokens before cutting, or -1 with an error where text is not valid UTF-8. */
int tokenizer_encode(const Tokenizer *t, const char *text, int32_t *ids, Err *e);
/* ids[room]: the first tokens of n bytes of text, nothing before or behind them. Returns as tokenizer_encode. */
int tokenizer_tokens(const Tokenizer *t, const char *text, size_t n, int32_t *ids, int room, Err *e);
/* ids[tokenizer_length]: start before the `count` tokens that lie at ids + 1, end and padding behind them. */
void tokenizer_frame(const Tokenizer *t, int32_t *ids, int count);

#endif
