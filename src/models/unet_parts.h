/* SPDX-License-Identifier: MIT */
/* unet_parts.h -- the UNet's inside, shared by the files unet_*.c. */
#ifndef SRC_MODELS_UNET_PARTS_H
#define SRC_MODELS_UNET_PARTS_H

#include "src/models/blocks.h"
#include "src/models/tapes.h"
#include "src/models/unet.h"

enum {
    UNET_LEVELS = 8, UNET_SKIPS = 128, UNET_DEPTH = 1000,
    UNET_SIZES = 6,                 /* numbers of the added embedding: original size, crop, target size */
    UNET_WAVES = 1 << 13            /* sinusoids of a number, at most */
};

typedef struct UNetConfig {         /* of config.json; lists hold one value a level, from the finest on */
    int levels, in, E, groups;
    int sample[2];                  /* height and width of the latents it was made for */
    int C[UNET_LEVELS], layers[UNET_LEVELS], heads[UNET_LEVELS];
    int depth[UNET_LEVELS];         /* transformer blocks in a row */
    bool down_attention[UNET_LEVELS], up_attention[UNET_LEVELS];        /* the latter in the order of up_blocks */
    float eps;
    int conv_in_kernel, conv_out_kernel, downsample_padding;
    bool flip_sin_to_cos;
    double freq_shift;
    int time_width;                 /* of the time embedding, 4*C[0] */
    int P, size_width;              /* of the pooled embedding and of each size's sinusoids; 0: neither is added */
    int guidance_width;             /* of the guidance's sinusoids; 0: it is not added */
} UNetConfig;

int unet_config_read(UNetConfig *c, const Part *part, Err *e);

/* A level on the way down, in the middle or on the way up: resnets, each followed by a transformer where there are any,
 * then a convolution that halves or doubles the sides. */
typedef struct UNetLevel {
    int C, resnets, attentions;
    Resnet *resnet;
    Transformer *attention;
    Conv *sample;                   /* NULL: none */
    int module, module_sample;
} UNetLevel;

struct UNet {
    UNetConfig config;
    DType type, residual;           /* of products, of the residual stream */
    Conv *conv_in, *conv_out, *time1, *time2, *time_proj;
    Conv *added1, *added2;          /* of the added embedding, NULL: none */
    Conv *guidance_proj;            /* NULL: none */
    Norm norm_out;
    UNetLevel down[UNET_LEVELS], mid, up[UNET_LEVELS];
    int temb;                       /* channels of the time embedding projections of all resnets */
    int resnet_C[2*UNET_SKIPS], resnets;        /* of each of them, in the order of their offsets */
    int piece;                      /* divides them all */
    int module_conv_in, module_conv_out;
    Hooks hooks;
    Workspace work;

    /* text states at work */
    void *kv;                       /* keys and values of all cross attentions */
    size_t kv_bytes;
    int32_t *kv_index;              /* device (B) */
    size_t kv_index_bytes;
    int64_t B, S;
    int64_t text_rows;              /* of all images' states */
    int32_t *shift_rows;            /* device (B*temb/piece): pieces of temb that make (B,C) of each resnet in turn */
    size_t shift_rows_bytes;
    float *added;                   /* device (images,time_width): added to the time embedding, of each text */
    size_t added_bytes;
    int32_t *added_rows;            /* device (images): 0, 1, ... */
    size_t added_rows_bytes;
    bool has_added;                 /* for the text at work */

    float *waves;                   /* device (C[0]): sinusoids of t, with the guidance's share */
    float *guidance;                /* host (C[0]): that share; NULL: nothing is added */
    Tapes tapes;
};

/* The sinusoids of t, with the guidance's share, on the device. */
int unet_set_time(UNet *u, float t, Err *e);

/* Calls fn for every transformer block, in the order of computation, until one does not return 0. */
int unet_each_block(UNet *u, int (*fn)(void *context, const Transformer *t, TransformerBlock *b), void *context);

#endif
