/* SPDX-License-Identifier: MIT */
/* conversion.h -- a model folder out of another, a checkpoint in one file, a VAE and LoRA files.
 *
 * All that can be wrong with names and shapes is said before anything is written. Tensors are mapped, converted and
 * written one at a time: memory is that of the largest as it is written, and as f32 where it comes in blocks (GGUF) or
 * something is added to it. */
#ifndef SRC_MODELS_CONVERSION_H
#define SRC_MODELS_CONVERSION_H

#include "src/models/lora.h"
#include "src/models/model_folder.h"
#include "src/models/single_file.h"

typedef struct ConversionOptions {
    const char *base;               /* folder in diffusers layout; without weights of what comes from elsewhere, too */
    const char *checkpoint, *vae;   /* NULL: none */
    bool ema;                       /* the checkpoint's running means of the UNet's weights */
    int type;                       /* DType of what is written, -1: each tensor's own; f16 of one in blocks */
    const char *const *lora;        /* paths */
    const double *strength;
    int loras;
} ConversionOptions;

typedef struct Conversion {
    ConversionOptions o;            /* its texts are the caller's */
    ModelFolder folder;
    bool has[PARTS];                /* of the base */
    Part part[PARTS];
    Inventory v[PARTS];             /* empty where it has none */
    SingleFile checkpoint, vae;
    Source source[PARTS];
    bool from_base[PARTS];
    Loras loras;
} Conversion;

/* Reads and compares everything but values. Free after failure too. */
int conversion_open(Conversion *c, const ConversionOptions *o, Err *e);
/* How many tensors will be written. */
size_t conversion_count(const Conversion *c);
/* Writes the folder DIR (beside it, then renamed; one that is there must be empty), with metadata (an object of
 * strings) in each file of weights, and sees that it opens (model_check). done is told how many tensors are written, if
 * it is not NULL. */
int conversion_write(const Conversion *c, const char *dir, const json_t *metadata,
                     void (*done)(void *context, size_t n), void *context, Err *e);
void conversion_free(Conversion *c);

#endif
