/* SPDX-License-Identifier: MIT */
/* vae_parts.h -- the VAE's inside, shared by vae.c and vae_run.c. */
#ifndef SRC_MODELS_VAE_PARTS_H
#define SRC_MODELS_VAE_PARTS_H

#include "src/models/blocks.h"
#include "src/models/vae.h"

enum { VAE_LEVELS = 8 };

typedef struct VaeAttention {       /* over the pixels of the smallest level, one head */
    Norm norm;
    Conv *qkv, *out;
} VaeAttention;

typedef struct VaeLevel {
    int C, resnets;
    Resnet *resnet;
    Conv *sample;                   /* halves or doubles the sides; NULL: none */
} VaeLevel;

typedef struct VaeSide {            /* encoder or decoder; levels in the order of computation */
    Conv *conv_in, *conv_out;
    VaeLevel level[VAE_LEVELS];
    Resnet mid[2];
    VaeAttention attention;
    bool has_attention;
    Norm norm_out;
} VaeSide;

struct Vae {
    Part part;                      /* open as long as the VAE: the encoder is loaded late */
    DType type;
    int levels, C[VAE_LEVELS], layers, groups, latent;
    bool has_quant, has_post_quant, mid_attention;
    double scaling, shift;
    VaeSide encoder, decoder;
    Conv *quant, *post_quant;
    Workspace work;
};

/* Sizes and switches, of v->part.config. xl: of Stable Diffusion XL, whose VAE leaves f16's range, as force_upcast
 * says. */
int vae_config_read(Vae *v, bool xl, Err *e);
/* One picture: latent (h,w,c) host, unscaled, to pixels (H,W,3) host, and pixels to moments (h,w,2c) host. */
int vae_decode_one(Vae *v, const float *latent, int64_t h, int64_t w, float *pixels, Err *e);
int vae_encode_one(Vae *v, const float *pixels, int64_t H, int64_t W, float *moments, Err *e);

#endif
