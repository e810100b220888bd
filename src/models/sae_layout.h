/* SPDX-License-Identifier: MIT */
/* sae_layout.h -- how the folders of autoencoders differ: files, names of tensors, what their configs mean. Shared by
 * sae_folder.c and sae_layout.c.
 *
 *     SAeUron, sparsify    cfg.json     sae.safetensors          encoder.weight [F,D] encoder.bias W_dec [F,D] b_dec
 *     SAELens 6            cfg.json     sae_weights.safetensors  W_enc [D,F] b_enc W_dec [F,D] b_dec
 *     OpenAI               config.json  state_dict.pth           encoder.weight [F,D] latent_bias decoder.weight [D,F]
 *                                                                pre_bias; below "state_dict" or not
 *     dictionary_learning  config.json  ae.pt                    encoder.weight [F,D] encoder.bias
 *                                                                decoder.weight [D,F] b_dec
 *
 * All but SAELens take b_dec off the input always, and keep the K largest of relu(h). */
#ifndef SRC_MODELS_SAE_LAYOUT_H
#define SRC_MODELS_SAE_LAYOUT_H

#include <jansson.h>
#include <stdbool.h>
#include "formats/weights.h"

/* What a config says; D or F is 0 where it does not. */
typedef struct SaeConfig {
    int64_t D, F, K;
    bool input_is_whole;            /* b_dec is not taken off the input */
    bool scaled;                    /* h is multiplied by the length of the feature's row of W_dec */
    const char *hook, *take;        /* live in the config */
} SaeConfig;

typedef struct SaeLayout {
    const char *name, *config, *weights;
    int (*open)(Weights **w, const char *path, Err *e);
    int (*read_config)(const char *file, const json_t *cfg, SaeConfig *c, Err *e);
    const char *W_enc, *b_enc, *W_dec, *b_dec;
    bool enc_across, dec_across;    /* stored [D,F] */
    bool native;                    /* its config is kept as it is */
} SaeLayout;

/* The layout whose files are in folder; a cfg.json alone is taken for SAeUron's. NULL when there is none. */
const SaeLayout *sae_layout_find(const char *folder);
/* cfg.json as SAeUron has it, for an autoencoder that came in another layout; the old one is under "origin". NULL: out
 * of memory */
json_t *sae_layout_config(const SaeLayout *l, json_t *cfg, const SaeConfig *c);

#endif
