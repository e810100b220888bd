/* SPDX-License-Identifier: MIT */
/* clip_text.h -- texts to embeddings: the tokenizer and CLIP's text tower of a model folder. */
#ifndef SRC_MODELS_CLIP_TEXT_H
#define SRC_MODELS_CLIP_TEXT_H

#include "formats/dtype.h"
#include "formats/err.h"

typedef struct ClipText ClipText;

/* dir: model folder with clip/ and tokenizer/. *t is NULL on failure. */
int clip_text_open(ClipText **t, const char *dir, DType type, Err *e);
void clip_text_close(ClipText *t);                  /* NULL is fine */
int clip_text_width(const ClipText *t);             /* P */
/* embedding [P], not normalised; an error where it is no number. A text beyond the tokenizer's length is cut. */
int clip_text_embed(ClipText *t, const char *text, float *embedding, Err *e);

#endif
