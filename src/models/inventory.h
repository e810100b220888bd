/* SPDX-License-Identifier: MIT */
/* inventory.h -- the tensors that a part's config asks for: their shapes, and what each is called in diffusers and in
 * the checkpoints of latent diffusion's own code (LDM: github.com/CompVis/stable-diffusion,
 * Stability-AI/stablediffusion, and for Stable Diffusion 3 Stability-AI/sd3-ref).
 *
 * Names stand without what a file puts before them: "model.diffusion_model.", "text_model." */
#ifndef SRC_MODELS_INVENTORY_H
#define SRC_MODELS_INVENTORY_H

#include <stdbool.h>
#include "src/models/model.h"
#include "src/models/pipeline.h"

/* UNet or transformer; the last of the text encoders is T5 */
typedef enum { PART_UNET, PART_TRANSFORMER, PART_VAE, PART_TEXT, PART_TEXT_2, PART_TEXT_3, PARTS } PartKind;
typedef enum { NAMES_DIFFUSERS, NAMES_LDM, NAMINGS } Naming;

typedef struct Item {
    char *name[NAMINGS];    /* NAMES_LDM of a text encoder: OpenCLIP's, as Stable Diffusion 2 and XL's second have; of
                               T5: llama.cpp's */
    char *other[NAMINGS];   /* a second name that is met, NULL: none; of diffusers' the one before 0.15, or
                               stable-diffusion.cpp's of what lies as OpenCLIP has it */
    bool alike;             /* what has the second name lies as what has the first */
    int ndim;
    int64_t dim[4];         /* as diffusers has it */
    bool pointwise;         /* a linear layer or a 1x1 convolution: (out,in) and (out,in,1,1) hold the same */
    bool optional;          /* a bias that is there or not */
    bool outside;           /* diffusers' name stands beside "text_model.", not below it */
    bool turned;            /* (in,out) under OpenCLIP's name; as diffusers has it under its own */
    int third;              /* 0 to 2: of the rows of OpenCLIP's in_proj and LDM's qkv, which are q's, k's and v's; -1:
                               the whole */
    bool swapped;           /* LDM has the rows of the shift first, diffusers those of the scale */
    bool identity;          /* it is the identity where a checkpoint of one file does not have it */
} Item;

typedef struct Inventory {
    PartKind kind;
    bool sd3;               /* of Stable Diffusion 3 */
    Item *item;
    size_t count, room;
    int layers;             /* of a text encoder */
    bool failed;            /* out of memory; said at the end */
} Inventory;

extern const char *const part_folders[PARTS];           /* "unet", ... */
extern const char *const part_prefixes[PARTS];          /* of diffusers' names in the files that are written */
/* Whether models of the kind of p have the part. */
bool inventory_wants(const Pipeline *p, PartKind kind);

/* Of part->config, as the program's own loaders read it, in a model of p's kind. Free after failure too. */
int inventory_read(Inventory *v, PartKind kind, const Pipeline *p, const Part *part, Err *e);
void inventory_free(Inventory *v);

/* ---- for inventory_*.c ---- */

typedef struct Path { char name[NAMINGS][160]; } Path;  /* of a module, in each naming */

typedef enum { LAYER_NORM, LAYER_LINEAR, LAYER_CONV, LAYER_TABLE, LAYER_GAMMA } LayerKind;
typedef struct Layer {
    LayerKind kind;
    int out, in, kernel;    /* in: of no norm; kernel: of a LAYER_CONV */
    bool maybe_bias;        /* LAYER_TABLE and LAYER_GAMMA never have one */
} Layer;

Layer layer_norm_of(int C);
Layer layer_linear(int in, int out);
Layer layer_conv(int in, int out, int kernel);
Layer layer_table(int rows, int columns);
Layer layer_gamma(int C);               /* a norm that only multiplies */
/* The weight and bias of a layer at PATH.SUFFIX (the suffix alone where the path is empty). */
void inventory_add(Inventory *v, const Path *at, const char *diffusers, const char *ldm, Layer layer);
/* One tensor by its whole names; NULL where memory ran out. */
Item *inventory_add_tensor(Inventory *v, const char *diffusers, const char *ldm, int ndim, const int64_t *dim);
int inventory_unet(Inventory *v, const Part *part, Err *e);
int inventory_mmdit(Inventory *v, const Part *part, Err *e);
int inventory_vae(Inventory *v, const Part *part, Err *e);
int inventory_text(Inventory *v, const Part *part, Err *e);
int inventory_t5(Inventory *v, const Part *part, Err *e);

#endif
