/* SPDX-License-Identifier: MIT */
/* prompt_encoder.h -- a prompt to what the denoiser takes of it: tokenizer and text encoder of a pipeline, the two of
 * each that Stable Diffusion XL has, or those and T5's of Stable Diffusion 3. */
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

enum { T5_USUAL_TOKENS = 256, T5_MOST_TOKENS = 512 };       /* diffusers' max_sequence_length, and its bound */

/* Of the pipeline in DIR; type: of the products. skip: of a text encoder of CLIP's last layers, how many prompts do
 * without (diffusers' clip_skip); one that it has not is an error. t5: tokens that T5 takes of a text. */
int prompt_encoder_load(PromptEncoder **p, const char *dir, DType type, int skip, int t5, Err *e);
void prompt_encoder_free(PromptEncoder *p);
int prompt_encoder_count(const PromptEncoder *p);           /* text encoders of CLIP: 1, or 2 */
int prompt_encoder_length(const PromptEncoder *p);          /* S, tokens that they take of a text, with start and end */
int prompt_encoder_ids(const PromptEncoder *p);             /* I, ids of a text by all tokenizers */
int prompt_encoder_rows(const PromptEncoder *p);            /* R of the state: S, and T5's of Stable Diffusion 3 */
int prompt_encoder_width(const PromptEncoder *p);           /* E of the state */
int prompt_encoder_columns(const PromptEncoder *p, int i);  /* those of encoder i, which lie in order */
int prompt_encoder_most(const PromptEncoder *p);            /* tokens of a text that nothing is cut off */
int prompt_encoder_at_once(const PromptEncoder *p);         /* texts worth encoding together; hooks see as many */
int prompt_encoder_pooled(const PromptEncoder *p);          /* P of the pooled embedding, 0: none */
bool prompt_encoder_zeros(const PromptEncoder *p);          /* state and embedding of no negative prompt are zeros */
const Tokenizer *prompt_encoder_tokenizer(const PromptEncoder *p, int i);
/* ids of a text by T5's tokenizer, and *left, how many more it has; without T5 neither is touched. */
int prompt_encoder_t5_ids(const PromptEncoder *p, const char *text, int32_t *ids, long *left, Err *e);

/* Learns words, FILE or NAME=FILE each (textual_inversion.h), which texts may say from then on; once, before any text
 * is encoded. */
int prompt_encoder_learn(PromptEncoder *p, const char *const *said, int count, Err *e);
/* Which word of those learned the first tokenizer's id belongs to, by its place in `said`; -1: none. */
int prompt_encoder_word(const PromptEncoder *p, int32_t id);
/* Of each word in turn its name and a hash of its vectors, "<cat-toy>-1a2b3c4d5e6f"; NULL: none. The encoder's. */
json_t *prompt_encoder_words(const PromptEncoder *p);

/* Modules text_encoder.text_model.encoder.layers.I and text_encoder.text_model.final_layer_norm, those of
 * text_encoder_2 where there is one, and text_encoder_3.encoder.block.I, whose hooks see texts as B x 1 x S tokens.
 * Those that no prompt's state comes of are not there. */
Hooks *prompt_encoder_hooks(PromptEncoder *p);

typedef struct TextTokens {         /* of a text, as a module's hooks see it */
    int S, E;
    int start;                      /* the first that is not the same in every text: T5's have no start token */
} TextTokens;
TextTokens prompt_encoder_tokens(const PromptEncoder *p, const char *module);

/* state (B,R,E) and pooled (B,P; NULL where P is 0) of B texts' ids (B,I): S by each tokenizer of CLIP in turn, then
 * T5's; host memory all. whole: no layer is left out, as of negative prompts. A text's bytes do not depend on the
 * others. */
int prompt_encode(PromptEncoder *p, const int32_t *ids, int64_t B, bool whole, float *state, float *pooled, Err *e);

#endif
