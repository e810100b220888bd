/* SPDX-License-Identifier: MIT */
/* pipeline.h -- what a model folder is as a whole: model_index.json, and which parts there are. */
#ifndef SRC_MODELS_PIPELINE_H
#define SRC_MODELS_PIPELINE_H

#include <stdbool.h>
#include "formats/err.h"

typedef struct Pipeline {
    bool xl;                        /* Stable Diffusion XL: two text encoders, a pooled embedding, sizes */
    bool sd3;                       /* Stable Diffusion 3: three text encoders, a transformer, flows */
    bool t5;                        /* of sd3: its third text encoder is there */
    bool zeros;                     /* force_zeros_for_empty_prompt: no negative prompt is a state of zeros */
} Pipeline;

/* By DIR/model_index.json, and without one by the folders alone. What has two text encoders and is neither SDXL nor
 * Stable Diffusion 3, and SDXL's refiner, are refused. Returns 0, or -1 with e set. */
int pipeline_read(Pipeline *p, const char *dir, Err *e);

#endif
