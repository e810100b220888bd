/* SPDX-License-Identifier: MIT */
/* sae_layout.h -- how the folders of autoencoders differ: files, names of tensors, what their configs mean. Shared by
 * sae_folder.c and sae_layout.c.
 *
 *     ours             cfg.json     sae.safetensors          encoder.weight [F,D] encoder.bias W_dec [F,D] b_dec;
 *                                                            threshold, scale, offset [F] where there is such a gate
 *     SAeUron, sparsify             the same, without a gate
 *     SAELens          cfg.json     sae_weights.safetensors  W_enc [D,F] b_enc W_dec [F,D] b_dec; jumprelu: threshold;
 *                                                            gated: b_gate in b_enc's place, r_mag, b_mag
 *     OpenAI           config.json  state_dict.pth           encoder.weight [F,D] latent_bias decoder.weight [D,F]
 *                                                            pre_bias; below "state_dict" or not
 *     dictionary_learning  config.json  ae.pt                by the class: see sae_layout.c
 *
 * A gate is threshold alone, or r_mag and b_mag of arXiv 2404.16014. */
#ifndef SRC_MODELS_SAE_LAYOUT_H
#define SRC_MODELS_SAE_LAYOUT_H

#include <jansson.h>
#include <stdbool.h>
#include "formats/weights.h"

typedef struct SaeTensors {
    const char *W_enc, *b_enc, *W_dec, *b_dec;
    bool enc_across, dec_across;        /* stored [D,F] */
    const char *threshold;              /* [F], or one for all; NULL: none */
    const char *r_mag, *b_mag;          /* NULL: none */
    const char *scale, *offset;         /* ours; threshold too is then there or not */
} SaeTensors;

/* What a config says; D or F is 0 where it does not. */
typedef struct SaeConfig {
    int64_t D, F;
    int64_t K;                          /* most features kept a token; 0: not said, which is for those with a gate */
    bool capped;                        /* K is the loader's, where the config says nothing */
    int64_t k;                          /* kept on the mean; 0: not said */
    const char *activation;             /* "topk", "batchtopk", "jumprelu", ... */
    const SaeTensors *tensors;
    bool input_is_whole;                /* b_dec is not taken off the input */
    bool scaled;                        /* h is multiplied by the length of the feature's row of W_dec */
    const char *hook, *take;            /* live in the config */
} SaeConfig;

typedef struct SaeLayout {
    const char *name, *config, *weights;
    int (*open)(Weights **w, const char *path, Err *e);
    int (*read_config)(const char *file, const json_t *cfg, SaeConfig *c, Err *e);
    bool native;                        /* its config is kept as it is */
} SaeLayout;

/* The layout whose files are in folder; a cfg.json alone is taken for SAeUron's. NULL when there is none. */
const SaeLayout *sae_layout_find(const char *folder);
/* A layout whose weights are in folder and that are not called `weights`. NULL: there are no others. */
const SaeLayout *sae_layout_beside(const char *folder, const char *weights);
/* cfg.json as SAeUron has it, for an autoencoder that came in another layout; the old one is under "origin". NULL: out
 * of memory */
json_t *sae_layout_config(const SaeLayout *l, json_t *cfg, const SaeConfig *c);

#endif
