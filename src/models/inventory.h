/* SPDX-License-Identifier: MIT */
/* inventory.h -- the tensors that a part's config asks for: their shapes, and what each is called in diffusers and in
 * the checkpoints of latent diffusion's own code (LDM: github.com/CompVis/stable-diffusion,
 * Stability-AI/stablediffusion).
 *
 * Names stand without what a file puts before them: "model.diffusion_model.", "text_model." */
#ifndef SRC_MODELS_INVENTORY_H
#define SRC_MODELS_INVENTORY_H

#include <stdbool.h>
#include "src/models/model.h"

typedef enum { PART_UNET, PART_VAE, PART_TEXT, PART_TEXT_2, PARTS } PartKind;       /* the last: of SDXL alone */
typedef enum { NAMES_DIFFUSERS, NAMES_LDM, NAMINGS } Naming;

typedef struct Item {
    char *name[NAMINGS];    /* NAMES_LDM of a text encoder: OpenCLIP's, as Stable Diffusion 2 and XL's second have */
    char *other[NAMINGS];   /* a second name that is met, NULL: none; of diffusers' the one before 0.15, or
                               stable-diffusion.cpp's of what lies as OpenCLIP has it */
    int ndim;
    int64_t dim[4];         /* as diffusers has it */
    bool pointwise;         /* a linear layer or a 1x1 convolution: (out,in) and (out,in,1,1) hold the same */
    bool optional;          /* a bias that is there or not */
    bool outside;           /* diffusers' name stands beside "text_model.", not below it */
    bool turned;            /* (in,out) under OpenCLIP's name; as diffusers has it under its own */
    int third;              /* 0 to 2: of the rows of OpenCLIP's in_proj, which are q's, k's and v's; -1: the whole */
} Item;

typedef struct Inventory {
    PartKind kind;
    Item *item;
    size_t count, room;
    int layers;             /* of a text encoder */
    bool failed;            /* out of memory; said at the end */
} Inventory;

extern const char *const part_folders[PARTS];           /* "unet", ... */
extern const char *const part_prefixes[PARTS];          /* of diffusers' names in the files that are written */

/* Of part->config, as the program's own loaders read it. Free after failure too. */
int inventory_read(Inventory *v, PartKind kind, const Part *part, Err *e);
void inventory_free(Inventory *v);

/* ---- for inventory_*.c ---- */

typedef struct Path { char name[NAMINGS][160]; } Path;  /* of a module, in each naming */

typedef enum { LAYER_NORM, LAYER_LINEAR, LAYER_CONV, LAYER_TABLE } LayerKind;
typedef struct Layer {
    LayerKind kind;
    int out, in, kernel;    /* in: of no LAYER_NORM; kernel: of a LAYER_CONV */
    bool maybe_bias;        /* a LAYER_TABLE never has one */
} Layer;

Layer layer_norm_of(int C);
Layer layer_linear(int in, int out);
Layer layer_conv(int in, int out, int kernel);
/* The weight and bias of a layer at PATH.SUFFIX (the suffix alone where the path is empty). */
void inventory_add(Inventory *v, const Path *at, const char *diffusers, const char *ldm, Layer layer);
int inventory_unet(Inventory *v, const Part *part, Err *e);
int inventory_vae(Inventory *v, const Part *part, Err *e);
int inventory_text(Inventory *v, const Part *part, Err *e);

#endif
