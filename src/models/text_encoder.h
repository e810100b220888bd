/* SPDX-License-Identifier: MIT */
/* text_encoder.h -- CLIPTextModel and the text tower of CLIPModel, shapes from config.json. */
#ifndef SRC_MODELS_TEXT_ENCODER_H
#define SRC_MODELS_TEXT_ENCODER_H

#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"

typedef struct TextEncoder TextEncoder;

/* DIR/text_encoder, or the text tower of DIR/clip when clip is 1 (then text_embed works). type: of the products. */
int text_encoder_load(TextEncoder **t, const char *dir, int clip, DType type, Err *e);
void text_encoder_free(TextEncoder *t);
int text_encoder_width(const TextEncoder *t);       /* E */
int text_encoder_length(const TextEncoder *t);      /* S, max_position_embeddings */
int text_encoder_projection(const TextEncoder *t);  /* P, 0 without */
/* state (B,S,E) = last_hidden_state of ids (B,S), host memory both. */
int text_encode(TextEncoder *t, const int32_t *ids, int64_t B, float *state, Err *e);
/* embedding (B,P): projected state at the end token (as CLIPModel.get_text_features, not normalised), eos_token_id from
 * config (id 2 of old configs means: the largest id's position, as transformers does). */
int text_embed(TextEncoder *t, const int32_t *ids, int64_t B, float *embedding, Err *e);

#endif
