/* SPDX-License-Identifier: MIT */
/* tile.h -- a tile of a product of matrices, whose sums stay in registers: some rows by 32 columns. */
#ifndef KERNELS_CPU_TILE_H
#define KERNELS_CPU_TILE_H

#include "kernels/cpu/level.h"

enum { CPU_PANEL = 32 };            /* columns of a tile, which lie side by side */

/* h[r, 0..32) = start[r, 0..32) + sum_w x[w, r] panel[w, 0..32), one chain of fused multiply-adds over w for each, so
 * that a sum cut in two runs, the second of which starts from the first, has the same bytes.
 *   h rows at stride   start rows at start_stride, 0: one row for all; it may be h   x [words][rows]
 *   panel [words][32], 64-byte aligned; a word is one f32, or two bf16 that are neighbours in the sum */
typedef void TileFn(float *h, size_t stride, const uint32_t *x, const uint32_t *panel, const float *start,
                    size_t start_stride, int words);

typedef struct Tile {
    TileFn *run;
    int rows;
    DType store;                    /* of the words: BF16 where pairs of bf16 are multiplied, else F32 */
    bool amx;                       /* run is NULL: amx_product makes it (amx.h), of rows as they are */
} Tile;

/* The tile of this level for products of type F32 or BF16; amx of BF16 alone. */
Tile cpu_tile(DType type);

#endif
