/* SPDX-License-Identifier: MIT */
/* t5_encoder.h -- T5EncoderModel, the third text encoder of Stable Diffusion 3; shapes from config.json. */
#ifndef SRC_MODELS_T5_ENCODER_H
#define SRC_MODELS_T5_ENCODER_H

#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"
#include "src/models/hooks.h"

typedef struct T5Encoder T5Encoder;

/* Reads DIR/part ("text_encoder_3"). type: of the products. The packed weights are on the device; the table of tokens
 * is in host memory, in its file's type. */
int t5_encoder_load(T5Encoder **t, const char *dir, const char *part, DType type, Err *e);
void t5_encoder_free(T5Encoder *t);
int t5_encoder_width(const T5Encoder *t);       /* E */
/* state (B,S,E) = last_hidden_state of ids (B,S), host memory both, any S from 1 to 4096. Padding is attended to, as
 * StableDiffusion3Pipeline has it. */
int t5_encode(T5Encoder *t, const int32_t *ids, int64_t B, int S, float *state, Err *e);

/* Adds the encoder's modules to h, which stays the caller's and is called from then on: PREFIX.encoder.block.I, with
 * texts as B x 1 x S tokens. */
int t5_encoder_watch(T5Encoder *t, Hooks *h, const char *prefix, Err *e);

#endif
