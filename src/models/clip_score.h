/* SPDX-License-Identifier: MIT */
/* clip_score.h -- how well a picture fits its prompt: 100 cos(image embedding, text embedding), 0 where that is
 * negative (Hessel et al. 2021, arXiv 2104.08718, without its factor of 2.5). */
#ifndef SRC_MODELS_CLIP_SCORE_H
#define SRC_MODELS_CLIP_SCORE_H

#include <stdbool.h>
#include "formats/dtype.h"
#include "formats/err.h"

typedef struct ClipScore ClipScore;

/* dir: model folder with clip/ and tokenizer/. weights: prompts say weights, and are scored by what
 * prompt_weights_text leaves of them. */
int clip_score_create(ClipScore **s, const char *dir, bool weights, DType type, Err *e);
void clip_score_free(ClipScore *s);
int clip_score_width(const ClipScore *s);           /* P of the embeddings it takes */
/* Of a prompt with weights, an error where they cannot be read. Every prompt is encoded once; memory grows by 4 P bytes
 * a different prompt. */
int clip_score(ClipScore *s, const char *prompt, const float *embedding, double *score, Err *e);

#endif
