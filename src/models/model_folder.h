/* SPDX-License-Identifier: MIT */
/* model_folder.h -- what a model folder has beside the weights, copied from one to another. */
#ifndef SRC_MODELS_MODEL_FOLDER_H
#define SRC_MODELS_MODEL_FOLDER_H

#include <jansson.h>
#include "formats/err.h"

typedef struct ModelFolder {
    const char *base;
    json_t *index;              /* model_index.json as it will be */
    char **file;                /* all that the new folder will hold, by its name there: first what is copied */
    int files, copied;
    char dropped[256];          /* parts of the index that the new folder does not have: "safety_checker", ... */
} ModelFolder;

/* Lists BASE's scheduler, feature_extractor and clip, and the configs of the count parts that are written ("unet",
 * ...), with the tokenizer of each text encoder among them. `written`: of each part the file of weights, which others
 * write. An index of a part named otherwise that has weights here is refused. */
int model_folder_plan(ModelFolder *f, const char *base, const char *const *parts, const char *const *written, int count,
                      Err *e);
/* Copies into the folder `to`, and writes model_index.json there. */
int model_folder_copy(const ModelFolder *f, const char *to, Err *e);
void model_folder_free(ModelFolder *f);

#endif
