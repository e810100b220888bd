/* SPDX-License-Identifier: MIT */
/* clip_layers.h -- the transformer that CLIP's text and image towers and vision transformers share, in place on device
 * memory. */
#ifndef SRC_MODELS_CLIP_LAYERS_H
#define SRC_MODELS_CLIP_LAYERS_H

#include <stdbool.h>
#include "src/models/blocks.h"

enum { CLIP_CHUNK = 32 };           /* sequences computed at once, at most */

typedef struct ClipLayer {
    Norm norm1, norm2;
    Conv *qkv, *out, *fc1, *fc2;
} ClipLayer;

typedef struct ClipLayers {
    int E, hidden, heads, layers;
    float eps;
    Activation act;
    DType type;
    ClipLayer *layer;
} ClipLayers;

/* Names of a layer's tensors behind "PREFIX.I.": qkv is three tensors, or (the last two NULL) one of all their rows. */
typedef struct ClipNames { const char *norm1, *norm2, *qkv[3], *out, *fc1, *fc2; } ClipNames;

/* The layers of c, of which all else is filled in. Free after failure too. */
int clip_layers_read(ClipLayers *c, const Part *part, const char *prefix, const ClipNames *names, Err *e);
/* Sizes from part->config (a text or vision config; defaults are those of its class), tensors at PREFIX.layers.I.*.
 * Free after failure too. */
int clip_layers_load(ClipLayers *c, const Part *part, const char *prefix, bool vision, DType type, Err *e);
int clip_layers_config(ClipLayers *c, const Part *part, bool vision, Err *e);       /* the sizes alone */
void clip_layers_free(ClipLayers *c);
/* Layers first to end - 1 over x (B,S,E) f32, in place; temporaries from the workspace. Returns 0, or -1 with e set. */
int clip_layers_run(const ClipLayers *c, int first, int end, float *x, int64_t B, int64_t S, bool causal,
                    Workspace *work, Err *e);
/* y (n,E) = rows row[i] (host, i < n) of x, f32; y, x device. */
int clip_pick_rows(const ClipLayers *c, float *y, const float *x, const int32_t *row, int64_t n, Workspace *work,
                   Err *e);
/* embedding (n,P) host = projection of y (n,E) device. */
int clip_project(const ClipLayers *c, Conv *projection, int P, float *embedding, const float *y, int64_t n,
                 Workspace *work, Err *e);
/* The projection PREFIX.weight [P,E], which has no bias. */
int clip_projection_load(Conv **projection, const ClipLayers *c, const Part *part, const char *prefix, int P, Err *e);

#endif
