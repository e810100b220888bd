/* SPDX-License-Identifier: MIT */
/* prompt_encoder.h -- a prompt to what the UNet takes of it: tokenizer and text encoder of a pipeline, or the two of
 * each that Stable Diffusion XL has. */
#ifndef SRC_MODELS_PROMPT_ENCODER_H
#define SRC_MODELS_PROMPT_ENCODER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"
#include "src/models/hooks.h"
#include "src/models/tokenizer.h"

typedef struct PromptEncoder PromptEncoder;

/* Of the pipeline in DIR; type: of the products. skip: of a text encoder's last layers, how many prompts do without
 * (diffusers' clip_skip); one that it has not is an error. */
int prompt_encoder_load(PromptEncoder **p, const char *dir, DType type, int skip, Err *e);
void prompt_encoder_free(PromptEncoder *p);
int prompt_encoder_length(const PromptEncoder *p);          /* S, tokens of a text, start and end among them */
int prompt_encoder_count(const PromptEncoder *p);           /* text encoders: 1, or 2 */
int prompt_encoder_width(const PromptEncoder *p);           /* E of the state, both encoders' together */
int prompt_encoder_columns(const PromptEncoder *p, int i);  /* those of encoder i, which lie in order */
int prompt_encoder_pooled(const PromptEncoder *p);          /* P of the pooled embedding, 0: none */
bool prompt_encoder_zeros(const PromptEncoder *p);          /* state and embedding of no negative prompt are zeros */
const Tokenizer *prompt_encoder_tokenizer(const PromptEncoder *p, int i);

/* Learns words, FILE or NAME=FILE each (textual_inversion.h), which texts may say from then on; once, before any text
 * is encoded. */
int prompt_encoder_learn(PromptEncoder *p, const char *const *said, int count, Err *e);
/* Which word of those learned the first tokenizer's id belongs to, by its place in `said`; -1: none. */
int prompt_encoder_word(const PromptEncoder *p, int32_t id);
/* Of each word in turn its name and a hash of its vectors, "<cat-toy>-1a2b3c4d5e6f"; NULL: none. The encoder's. */
json_t *prompt_encoder_words(const PromptEncoder *p);

/* Modules text_encoder.text_model.encoder.layers.I and text_encoder.text_model.final_layer_norm, and those of
 * text_encoder_2 where there is one, whose hooks see texts as B x 1 x S tokens. Those that no prompt's state comes of
 * are not there. */
Hooks *prompt_encoder_hooks(PromptEncoder *p);

/* state (B,S,E) and pooled (B,P; NULL where P is 0) of B texts' ids (B,count,S), by each tokenizer in turn; host memory
 * all. whole: no layer is left out, as of negative prompts. A text's bytes do not depend on the others. */
int prompt_encode(PromptEncoder *p, const int32_t *ids, int64_t B, bool whole, float *state, float *pooled, Err *e);

#endif
