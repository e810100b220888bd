/* SPDX-License-Identifier: MIT */
/* tokenizer_text.h -- Unicode for the tokenizers: code points; normal form, lower case, and CLIP's pattern of words. */
#ifndef SRC_MODELS_TOKENIZER_TEXT_H
#define SRC_MODELS_TOKENIZER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "formats/err.h"

/* An error where n bytes are not valid UTF-8, with the place. */
int text_valid(const char *text, size_t n, Err *e);
/* The code point at byte `at` < n, and where the next one begins; -1, and the next byte, where there is none. */
int32_t text_code(const char *text, size_t n, size_t at, size_t *next);
bool text_is_space(int32_t code);       /* Unicode's White_Space */

/* NFC, then white space in a row as one space and each character's lower case, of n bytes; the caller frees. NULL with
 * an error where they are not valid UTF-8. */
char *text_normalise(const char *text, size_t n, Err *e);

/* The next match at or after `from` of the pattern, in normalised text of n bytes that is valid UTF-8; 0 at the end,
 * else 1:
 *   <|startoftext|> | <|endoftext|> | 's | 't | 're | 've | 'm | 'll | 'd | letters | one number | others but spaces */
int text_word(const char *text, size_t n, size_t from, size_t *start, size_t *end);

#endif
