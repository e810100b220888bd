/* SPDX-License-Identifier: MIT */
/* prompt_chunks.h -- a prompt of any length as chunks of what the text encoder takes: each has a start, S - 2 tokens of
 * the text, an end, and the tokenizer's padding where the text ran out.
 *
 *   ids (count, encoders, S)      weight (count, encoders, S), 1 of start, end and padding
 *
 * Of Stable Diffusion 3, whose texts are one chunk, T5's ids follow those.
 *
 * With weights each piece of the prompt (prompt_weights.h) is tokenized by itself, and chunks take no notice of where
 * pieces meet; BREAK ends a chunk. As stable-diffusion-webui's modules/sd_hijack_clip.py (tokenize_line, with 0 for
 * comma_padding_backtrack, so that a chunk ends at its last token and not at the comma before) and
 * lpw_stable_diffusion.py (get_prompts_with_weights, with no_boseos_middle false). */
#ifndef SRC_MODELS_PROMPT_CHUNKS_H
#define SRC_MODELS_PROMPT_CHUNKS_H

#include "src/models/prompt_encoder.h"

typedef struct PromptChunks {
    const PromptEncoder *encoder;
    int most;                       /* chunks there is room for */
    int count;                      /* of the text, 1 or more */
    long left;                      /* tokens of the text without room, by the first tokenizer, or T5's */
    bool weighted;                  /* a weight is not 1 */
    int32_t *ids;
    float *weight;
    int32_t *token;                 /* [most*(S - 2)] of one piece */
} PromptChunks;

/* most: 1 where the encoder has rows of T5. The encoder stays the caller's. */
int prompt_chunks_create(PromptChunks *c, const PromptEncoder *encoder, int most, Err *e);
void prompt_chunks_clear(PromptChunks *c);
/* The text's chunks, of which the first `most` are kept. weights: read them, else brackets are text. */
int prompt_chunks_read(PromptChunks *c, const char *text, bool weights, Err *e);

#endif
