/* SPDX-License-Identifier: MIT */
/* text_capture.h -- keeps what hooked modules of the text encoders compute of prompts, as records of an activation
 * stream: one a prompt and module, of step 0 and t 0, half cond.
 *
 * A record's act (chunks (S-1), E) has a prompt's tokens in order, the padding too, without the start token of each
 * chunk: under causal attention its state is the same in every text. Of T5, which has none, act is (S,E). */
#ifndef SRC_MODELS_TEXT_CAPTURE_H
#define SRC_MODELS_TEXT_CAPTURE_H

#include "src/models/capture.h"
#include "src/models/prompt_states.h"

typedef struct TextCaptureOptions {
    const char *const *patterns;    /* module paths or globs */
    int pattern_count;
    Take take;
    DType type;                     /* of the stream; I8: with a scale a token (act_tensor.h) */
} TextCaptureOptions;

typedef struct TextCapture TextCapture;

/* Hooks the encoder, and has states keep what comes of it. Both stay the caller's. */
int text_capture_create(TextCapture **c, PromptEncoder *encoder, PromptStates *states,
                        const TextCaptureOptions *options, Err *e);
void text_capture_free(TextCapture *c);                     /* NULL is fine */
/* Header fields: hooks [paths], take, half. */
void text_capture_describe(const TextCapture *c, Record *header);
/* Writes the records of an encoded prompt, with the fields of rec. */
int text_capture_write(TextCapture *c, const PromptText *text, const Record *rec, StreamOut *out, Err *e);

#endif
