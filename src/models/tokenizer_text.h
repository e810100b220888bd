/* SPDX-License-Identifier: MIT */
/* tokenizer_text.h -- Unicode for the tokenizer: normal form, lower case, and CLIP's pattern of words. */
#ifndef SRC_MODELS_TOKENIZER_TEXT_H
#define SRC_MODELS_TOKENIZER_TEXT_H

#include <stddef.h>
#include "formats/err.h"

/* NFC, then white space in a row as one space and each character's lower case, of n bytes; the caller frees. NULL with
 * an error where they are not valid UTF-8. */
char *text_normalise(const char *text, size_t n, Err *e);

/* The next match at or after `from` of the pattern, in normalised text of n bytes that is valid UTF-8; 0 at the end,
 * else 1:
 *   <|startoftext|> | <|endoftext|> | 's | 't | 're | 've | 'm | 'll | 'd | letters | one number | others but spaces */
int text_word(const char *text, size_t n, size_t from, size_t *start, size_t *end);

#endif
