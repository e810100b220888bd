/* SPDX-License-Identifier: MIT */
/* convnet.h -- a plain convolutional network that describes pictures:
 * the judge of what was drawn where CLIP's embedding is too coarse.
 *
 *     x = 2 u8/255 - 1      x = relu(conv_i(x)), i = 0, 1, ...
 *     embedding = [grid x grid averages of x, mean of x, maximum of x]
 *
 *   picture (size,size,3) u8      embedding P = C*grid*grid + 2*C, row after row of the grid, C values each
 *
 * A safetensors file: conv.I.weight [out,in,k,k], conv.I.bias [out] (normalisations folded in), metadata "size", "grid"
 * and "conv", a list of "stride,pad" a layer ("4,1 2,1 1,1"). data/minisd/recipe/train_judge.py trains one. */
#ifndef SRC_MODELS_CONVNET_H
#define SRC_MODELS_CONVNET_H

#include <stdint.h>
#include "formats/err.h"

typedef struct ConvNet ConvNet;

int convnet_load(ConvNet **n, const char *path, Err *e);
void convnet_free(ConvNet *n);
int convnet_size(const ConvNet *n);
int convnet_width(const ConvNet *n);                /* P */
/* embedding (B,P) of B pictures (size,size,3), host memory both. */
int convnet_embed(ConvNet *n, const uint8_t *pictures, int64_t B, float *embedding, Err *e);

#endif
