/* SPDX-License-Identifier: MIT */
/* product_hopper.h -- what product_hopper.cu's kernel is made of: its tiles, its arguments. What becomes of sums:
 * product_finish.h. */
#ifndef KERNELS_CUDA_PRODUCT_HOPPER_H
#define KERNELS_CUDA_PRODUCT_HOPPER_H

#include "kernels/cuda/product.h"
#include "kernels/cuda/wgmma.h"

/* What is stored for a sum: with its bias; an activation of that; or, of two sums, a * gelu(b). */
enum Finish { PLAIN, ACTIVATED, GATED };

template <int stages, int groups> struct Barriers {
    Barrier full[stages], empty[stages];
    Barrier begun;              /* the first group is `lag` stages into its first tile */
    Barrier read[groups];       /* by all of a group, of a tile's last stage */
};

/* A sum may be made in so many equal parts of k, in steps of 64 channels of a tap, which are then added in order. */
enum { SLICES = 4 };

/* groups: of four warps, each with deep*64 rows and all columns. A cluster has `across` neighbouring columns' tiles by
 * `down` rows' tiles: each block fetches a part of its points for those with the same, and a part of its weights. Or it
 * has one tile, of which each of its `split` blocks makes a slice of all sums. */
template <int groups_, int deep_, int columns_, int across_, int down_, int split_ = 1> struct Tile {
    static constexpr int groups = groups_, deep = deep_, columns = columns_, rows = groups*deep*64;
    static constexpr int across = across_, down = down_, split = split_, sharing = across*down, cluster = sharing*split;
    static constexpr int writers = across + down - 1;           /* blocks that copy to this one's stages */
    static constexpr bool shares = deep > 1;                    /* registers: the group that copies gives them away */
    static constexpr int warps = groups*(WARPGROUP/WARP);
    static constexpr int threads = warps*WARP + (shares ? (int)WARPGROUP : (int)WARP);
    static constexpr int registers = 232, left = 40;
    static constexpr int x_bytes = rows*BOX_DEPTH*2, w_bytes = columns*BOX_DEPTH*2, stage_bytes = x_bytes + w_bytes;
    static constexpr int handed_bytes = split > 1 ? rows*columns*4 : 0; /* sums of a slice, for the first block */
    static constexpr int stages_beside(int room_bytes_)         /* of a warp, for what it stores */
    {
        const int fit = (227*1024 - BOX_ALIGNMENT - warps*room_bytes_ - 256 - handed_bytes)/stage_bytes;
        return fit < 12 ? fit : 12;
    }
    static constexpr bool roomy = stages_beside(4096) > 4 || stages_beside(4096) == stages_beside(2048);
    static constexpr int room_bytes = roomy ? 4096 : 2048;
    /* where that is little, it has its rows of a tile's last stage too, once they are multiplied */
    static constexpr int lent_bytes = roomy ? 0 : deep*16*BOX_DEPTH*2;
    static constexpr int stages = stages_beside(room_bytes), stages_at = warps*room_bytes;
    static constexpr int handed_at = stages_at + stages*stage_bytes, barriers_at = handed_at + handed_bytes;
    static constexpr int shared_bytes = BOX_ALIGNMENT + barriers_at + (int)sizeof(Barriers<stages, groups>);
    /* stages that the first group is ahead by: as long as the other's products take, its storing is not waited for;
     * one more where that takes long */
    static constexpr int lag = deep > 1 || stages < 5 ? 2 : 4, long_lag = lag + 1 < stages ? lag + 1 : lag;
    typedef Barriers<stages, groups> BarriersOf;
    static_assert(stages >= 3 && shared_bytes <= 227*1024, "a block's shared memory");
    static_assert(!shares || registers_suffice(threads, groups, registers, left), "a block's registers");
    static_assert(split == 1 || (sharing == 1 && split == (int)SLICES && deep == 1), "a slice a block");
    static_assert(stages_at%BOX_ALIGNMENT == 0 && w_bytes%BOX_ALIGNMENT == 0, "where boxes begin");
};

/* Columns of y that a tile makes, and that a box of T to y has: 128 bytes of them, 64, or 32. */
template <typename Tile, Finish finish> constexpr int made_columns = finish == GATED ? Tile::columns/2 : Tile::columns;
template <typename Tile, typename T, Finish finish> constexpr int box_columns =
    (made_columns<Tile, finish>*sizeof(T)%128 == 0 ? 128 : made_columns<Tile, finish>*sizeof(T)%64 == 0 ? 64 : 32)
    /(int)sizeof(T);

enum { HELD_PARTS = 8 };

typedef struct HopperProduct {
    CUtensorMap x, w, y, held;  /* (C,W,H,B) by a block's part of a tile; (C,taps,out,1); (columns,Wo,Ho,B) by 16 rows;
                                 * the same by HELD_PARTS of a tile, for what is added to */
    const float *bias;          /* NULL: none */
    int out, kernel, pad;
    int channel_boxes;          /* to a tap */
    int log_w, log_h, log_b;    /* a tile's rows are points (b, y, x) of a box, x fastest, of 2^log_w by 2^log_h */
    int across, down;           /* boxes to a line and to a column of an image */
    int row_runs, column_runs;  /* tiles, a cluster's at a time */
    Divider by_band, by_rest, by_across, by_down;       /* tiles of a band, rows of the last band, `across`, `down` */
    Activation act;
    bool add;
} HopperProduct;

/* ---- where a tile is ---- */

/* Tiles are gone over in bands of so many rows of clusters, row by row within: what runs at a time shares both. */
enum { BAND = 8 };

struct TilePlace {
    int column, x, y, b;        /* number of its columns, and the box's first point; it may be beyond the last image */

    /* Of block `rank` of the t-th cluster, which has so many blocks across and down. */
    __device__ __forceinline__ TilePlace(const HopperProduct &p, int t, int across, int down, int rank)
    {
        const int band = p.by_band.of(t), first = band*BAND, rest = t - first*p.column_runs;
        const int high = min((int)BAND, p.row_runs - first), run = high == BAND ? rest/BAND : p.by_rest.of(rest);
        const int box = (first + rest - run*high)*down + rank/across, line = p.by_across.of(box);
        const int image = p.by_down.of(line);
        column = run*across + rank%across;
        x = (box - line*p.across) << p.log_w;
        y = (line - image*p.down) << p.log_h;
        b = image << p.log_b;
    }

    /* Of the i-th point, at a column or channel. */
    __device__ __forceinline__ Place point(const HopperProduct &p, int i, int column) const
    {
        return Place{{column, x + (i & ((1 << p.log_w) - 1)), y + (i >> p.log_w & ((1 << p.log_h) - 1)),
                      b + (i >> (p.log_w + p.log_h))}};
    }
};

#endif
