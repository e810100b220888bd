/* SPDX-License-Identifier: MIT */
/* model.h -- a model folder in diffusers layout: configs, weights, identity.
 *
 * A part ("unet", "text_encoder", "vae", "clip") is a folder with config.json and one or several safetensors files (a
 * *.safetensors.index.json names the shards); where several precisions lie side by side the file without a variant
 * suffix wins. */
#ifndef SRC_MODELS_MODEL_H
#define SRC_MODELS_MODEL_H

#include <jansson.h>
#include <stdbool.h>
#include "formats/weights.h"

typedef struct Part {
    char path[4096];            /* DIR/unet */
    json_t *config;
    Weights **files;            /* mapped */
    int count;
} Part;

/* Whether DIR/name is a folder. */
bool part_exists(const char *dir, const char *name);
/* Opens DIR/name. Missing folder, config or weights, and pickle files only (*.bin, *.ckpt, *.pth), are errors that say
 * what to do. */
int part_open(Part *part, const char *dir, const char *name, Err *e);
/* In two: the config alone, then the weights. part_close after either, also when it failed. */
int part_open_config(Part *part, const char *dir, const char *name, Err *e);
int part_open_weights(Part *part, Err *e);
void part_close(Part *part);
/* Tensor by name over all files of the part, as weights_need, and all its values are numbers. */
const Weight *part_need(const Part *part, const char *name, int ndim, const int64_t *dim, Err *e);
const Weight *part_find(const Part *part, const char *name);
bool part_has(const Part *part, const char *name);      /* also one of a type that is not read */
/* A fresh device copy in f32 (op->alloc), as part_need. NULL on error. */
float *part_upload(const Part *part, const char *name, int ndim, const int64_t *dim, Err *e);

/* Config values; part_int etc. report the file and key when the type is wrong or (fallback NULL) the key is missing. */
int part_int(const Part *part, const char *key, const int *fallback, int *value, Err *e);
int part_number(const Part *part, const char *key, const double *fallback, double *value, Err *e);
int part_bool(const Part *part, const char *key, bool fallback, bool *value, Err *e);
int part_text(const Part *part, const char *key, const char *fallback, const char **value, Err *e);
/* An error where value, which "key" has, does not lie in low..high. */
int part_in_range(const Part *part, const char *key, int value, int low, int high, Err *e);
/* What a norm adds to a variance: 0 to 1, fallback 1e-5. */
int part_epsilon(const Part *part, const char *key, float *value, Err *e);

/* An error where "act_fn" is there, and not silu under one of its names. */
int part_check_silu(const Part *part, Err *e);

/* "minisd-1a2b3c4d5e6f": the first `most` bytes of a folder's name, bytes that are no UTF-8 as '?', and a hash of what
 * is in it. id holds most + 14. */
void folder_id(char *id, int most, const char *name, uint64_t hash);
/* Whether two ids are of one model, or autoencoder: the hash decides, a folder may be renamed. */
bool folder_same(const char *a, const char *b);
/* "minisd-1a2b3c4d5e6f": the folder's name and a hash of its configs and of samples of every tensor. text holds 128. */
int model_id(char text[128], const char *dir, Err *e);
/* --dtype to the type of matrix products: "f32", "bf16", "f16", "auto" = op->best. One that the backend lacks is an
 * error. */
int model_dtype(DType *type, const char *name, Err *e);

#endif
