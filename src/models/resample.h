/* SPDX-License-Identifier: MIT */
/* resample.h -- pictures brought to another size with antialiasing, as Pillow does it. Host only. */
#ifndef SRC_MODELS_RESAMPLE_H
#define SRC_MODELS_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>
#include "formats/err.h"

/* pixel (3 bytes) of row i and column j at pixels + i*row + j*column, so that a result that lies column by column needs
 * no turning. It points into memory of its own or into the picture that it was made of. */
typedef struct Resampled {
    const uint8_t *pixels;
    size_t row, column;
    uint8_t *wide, *tall;
} Resampled;

/* x (H,W,3) brought to the least size that covers (h,w), bicubic, and its middle; a direction that has its length
 * already is left alone. Memory does not grow with what is cut off. -1: out of memory. The caller frees, after failure
 * too. */
int resample_cover(Resampled *r, const uint8_t *x, int H, int W, int h, int w, Err *e);
/* x brought to (h,w) in each direction by itself, bilinear. */
int resample_stretch(Resampled *r, const uint8_t *x, int H, int W, int h, int w, Err *e);
void resampled_free(Resampled *r);

#endif
