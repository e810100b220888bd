/* SPDX-License-Identifier: MIT */
/* text_steering.h -- steering the text encoders: features of autoencoders at their modules changed while prompts are
 * encoded, so that the network is told something else.
 *
 * What steer.h does to the tokens of a picture is done to those of each chunk of a text, but its start token, whose
 * state is the same in every text (T5 has none). Ranks are taken at t 0, the one that text_capture.h writes. A gate
 * goes by the chunk: the one in which the label shows is steered. Kim & Ghadiyaram 2025, Concept Steerers
 * (arXiv 2501.19066), add features to a text encoder's layer: there all that a prompt of the concept is made of, here
 * those that ranks name. */
#ifndef SRC_MODELS_TEXT_STEERING_H
#define SRC_MODELS_TEXT_STEERING_H

#include "src/models/prompt_states.h"
#include "src/models/sampler.h"
#include "src/models/steer_site.h"

typedef struct TextSteering TextSteering;

/* Hooks the encoder, and has states tell prompts from negative ones, of which `half` says what is steered. Nothing is
 * until a variant is selected. inputs, the encoder and states stay the caller's. */
int text_steering_create(TextSteering **s, PromptEncoder *encoder, PromptStates *states, const SteerInputs *inputs,
                         Half half, Err *e);
void text_steering_free(TextSteering *s);                   /* NULL is fine */
const SteerSite *text_steering_site(const TextSteering *s); /* the first autoencoder's */
/* Prepares every variant; variants stays the caller's. One that steers some timesteps only is refused. */
int text_steering_plan(TextSteering *s, const Variants *variants, Err *e);
/* The variant that steers from now on; states forget what another one made. */
int text_steering_select(TextSteering *s, int variant, Err *e);
/* Header field "sae": ids of the autoencoders. */
void text_steering_describe(const TextSteering *s, Record *header);

#endif
