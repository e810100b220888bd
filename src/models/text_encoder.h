/* SPDX-License-Identifier: MIT */
/* text_encoder.h -- CLIPTextModel, with and without a projection, and the text tower of CLIPModel, shapes from
 * config.json. */
#ifndef SRC_MODELS_TEXT_ENCODER_H
#define SRC_MODELS_TEXT_ENCODER_H

#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"
#include "src/models/hooks.h"

typedef struct TextEncoder TextEncoder;

/* Where a text encoder lies: DIR/text_encoder; the text tower of DIR/clip; the second one of SDXL and Stable
 * Diffusion 3 in DIR/text_encoder_2; Stable Diffusion 3's first in DIR/text_encoder. The last three have a
 * projection. */
typedef enum { TEXT_ENCODER, TEXT_CLIP, TEXT_ENCODER_2, TEXT_ENCODER_PROJECTED } TextPart;

/* type: of the products. */
int text_encoder_load(TextEncoder **t, const char *dir, TextPart part, DType type, Err *e);
void text_encoder_free(TextEncoder *t);
int text_encoder_width(const TextEncoder *t);       /* E */
int text_encoder_length(const TextEncoder *t);      /* S, max_position_embeddings */
int text_encoder_projection(const TextEncoder *t);  /* P, 0 without */
int text_encoder_layers(const TextEncoder *t);
/* Tokens of ids first to first + count - 1 are rows (count,E) from now on, in host memory; once. */
int text_encoder_learn(TextEncoder *t, int32_t first, int count, const float *rows, Err *e);
/* state (B,S,E) = last_hidden_state of ids (B,S), host memory both. */
int text_encode(TextEncoder *t, const int32_t *ids, int64_t B, float *state, Err *e);
/* The same with the last `skip` layers left out, 0 to all, and the final norm behind what is left. */
int text_encode_skip(TextEncoder *t, const int32_t *ids, int64_t B, int skip, float *state, Err *e);
/* embedding (B,P): projected state at the end token (as CLIPModel.get_text_features, not normalised), eos_token_id from
 * config (id 2 of old configs means: the position of the largest id, as transformers does, of those not learned). */
int text_embed(TextEncoder *t, const int32_t *ids, int64_t B, float *embedding, Err *e);
/* What Stable Diffusion XL and 3 take: state (B,S,E) before the last 1 + skip layers (hidden_states[-2 - skip]),
 * without the final norm; of an encoder with a projection also text_embed's embedding (B,P). NULL: not wanted. */
int text_encode_penultimate(TextEncoder *t, const int32_t *ids, int64_t B, int skip, float *state, float *embedding,
                            Err *e);

/* Adds the encoder's modules to h, which stays the caller's and is called from then on:
 * PREFIX.text_model.encoder.layers.I of the first `layers` and, where `norm`, PREFIX.text_model.final_layer_norm, with
 * texts as B x 1 x S tokens. */
int text_encoder_watch(TextEncoder *t, Hooks *h, const char *prefix, int layers, bool norm, Err *e);

#endif
