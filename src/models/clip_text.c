/* SPDX-License-Identifier: MIT */
/* clip_text.c -- one text at a time through tokenizer and text tower. */
#include <stdlib.h>
#include "src/models/clip_text.h"
#include "src/models/text_encoder.h"
#include "src/models/tokenizer.h"

struct ClipText {
    Tokenizer *tokenizer;
    TextEncoder *encoder;
    int32_t *ids;
};

int clip_text_open(ClipText **out, const char *dir, DType type, Err *e)
{
    ClipText *t = *out = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, "out of memory");
    int failed = tokenizer_load(&t->tokenizer, dir, e) || text_encoder_load(&t->encoder, dir, TEXT_CLIP, type, e);
    if (!failed && tokenizer_length(t->tokenizer) > text_encoder_length(t->encoder))
        failed = err_set(e, "%s: the tokenizer gives %d tokens, the text encoder takes %d", dir,
                         tokenizer_length(t->tokenizer), text_encoder_length(t->encoder));
    if (!failed && !(t->ids = malloc(sizeof *t->ids * (size_t)tokenizer_length(t->tokenizer))))
        failed = err_set(e, "out of memory");
    if (failed) {
        clip_text_close(t);
        *out = NULL;
    }
    return failed ? -1 : 0;
}

void clip_text_close(ClipText *t)
{
    if (!t)
        return;
    tokenizer_free(t->tokenizer);
    text_encoder_free(t->encoder);
    free(t->ids);
    free(t);
}

int clip_text_width(const ClipText *t)
{
    return text_encoder_projection(t->encoder);
}

int clip_text_embed(ClipText *t, const char *text, float *embedding, Err *e)
{
    if (tokenizer_encode(t->tokenizer, text, t->ids, e) < 0 || text_embed(t->encoder, t->ids, 1, embedding, e))
        return -1;
    return dtype_finite(embedding, F32, (size_t)clip_text_width(t)) ? 0
         : err_set(e, "the embedding of '%.100s' is no number: values leave the range of --dtype", text);
}
