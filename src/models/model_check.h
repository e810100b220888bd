/* SPDX-License-Identifier: MIT */
/* model_check.h -- whether a model folder is one that the programs open. */
#ifndef SRC_MODELS_MODEL_CHECK_H
#define SRC_MODELS_MODEL_CHECK_H

#include "formats/err.h"

/* Loads UNet or transformer, VAE, text encoders, tokenizers and scheduler of DIR by the programs' own loaders, which
 * compare every tensor with the configs and look for values that are no numbers, but keeps none of it: memory is that
 * of the largest tensor of the text encoder. Before backend_pick, or in its place. */
int model_check(const char *dir, Err *e);

#endif
