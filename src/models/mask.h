/* SPDX-License-Identifier: MIT */
/* mask.h -- where in a picture something is done: a grey picture, white where it is, brought to a grid of tokens.
 *
 *     m[h,w] = mean of the mask over the part of the picture that token (h,w) stands for, 0 (black) to 1 (white)
 *
 * The mask is stretched over the picture, whatever its size. A pixel on a border counts by the part that lies inside.
 * The sums are exact: a white part gives 1, a black one 0. */
#ifndef SRC_MODELS_MASK_H
#define SRC_MODELS_MASK_H

#include "formats/image.h"

/* m (H,W) of a mask of one channel. */
void mask_tokens(float *m, const Image *mask, int64_t H, int64_t W);

#endif
