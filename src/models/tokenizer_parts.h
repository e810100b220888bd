/* SPDX-License-Identifier: MIT */
/* tokenizer_parts.h -- the tokenizer from within: shared by tokenizer_load.c, which makes it, and tokenizer.c. */
#ifndef SRC_MODELS_TOKENIZER_PARTS_H
#define SRC_MODELS_TOKENIZER_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include "src/models/tokenizer.h"
#include "src/models/tokenizer_bpe.h"

typedef struct Special {
    char *name, *text;              /* as the files have it, and as it is looked for */
    size_t length;                  /* of text */
    int32_t id;
    bool normalized;
} Special;

struct Tokenizer {
    Bpe *bpe;
    Special *special;
    int specials;
    int length;
    int32_t begin, end, pad, unknown;
};

#endif
