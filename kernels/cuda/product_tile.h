/* SPDX-License-Identifier: MIT */
/* product_tile.h -- the tiles that product_hopper.cu has, for product_tile.cu, which chooses among them. */
#ifndef KERNELS_CUDA_PRODUCT_TILE_H
#define KERNELS_CUDA_PRODUCT_TILE_H

#include "kernels/cuda/product.h"

/* What a tile makes of a type of x: y in f32, in that type, in f16. NULL: not by this tile. */
typedef struct TileKernels {
    void (*plain[3])(const Product *p), (*activated[2])(const Product *p);
    void (*gated)(const Product *p);    /* y in x's type */
    void (*sliced[3])(const Product *p);        /* plain, where sums are made of slices */
} TileKernels;

/* Rows of output points by columns, how many of them a cluster has across (columns) and down (rows), and how many of
 * its blocks share a tile, a slice each. */
typedef struct ProductTile {
    int rows, columns, across, down, split;
    TileKernels of[2];                  /* x in bf16, in f16 */
} ProductTile;

extern const ProductTile product_tiles[];
extern const int product_tile_count;

/* A box of 2^log_w by 2^log_h points of 2^log_b images, and how many of them cover all. */
typedef struct Cover {
    int log_w, log_h, log_b;
    int64_t across, down, images;
} Cover;

/* The box of `rows` points, a power of two, that covers an image's with the fewest: of equal ones the longest lines. */
Cover product_cover(const Product *p, int rows);
/* One of 2^n equal parts of a box, of points that come after each other. */
Cover product_part(Cover c, int parts);

static inline int product_columns(int columns, int each)
{
    return (columns + each - 1)/each;
}

#endif
