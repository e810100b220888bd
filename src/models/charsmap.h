/* SPDX-License-Identifier: MIT */
/* charsmap.h -- the normal form of a text by SentencePiece's precompiled_charsmap, as tokenizers' Precompiled does. */
#ifndef SRC_MODELS_CHARSMAP_H
#define SRC_MODELS_CHARSMAP_H

#include <stddef.h>
#include <stdint.h>
#include "formats/err.h"

typedef struct Charsmap Charsmap;

/* n bytes, copied. An error begins with `where`, the file and key. */
int charsmap_create(Charsmap **c, const uint8_t *data, size_t n, const char *where, Err *e);
void charsmap_free(Charsmap *c);
/* Of n bytes of valid UTF-8; fresh, *length bytes and a NUL: the caller frees. c NULL: a copy. NULL when out of
 * memory. */
char *charsmap_normalise(const Charsmap *c, const char *text, size_t n, size_t *length, Err *e);

#endif
