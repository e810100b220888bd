/* SPDX-License-Identifier: MIT */
/* product_hopper.h -- what product_hopper.cu's kernel is made of: its tiles, its arguments, and what becomes of sums. */
#ifndef KERNELS_CUDA_PRODUCT_HOPPER_H
#define KERNELS_CUDA_PRODUCT_HOPPER_H

#include "kernels/cuda/hopper.h"
#include "kernels/cuda/product.h"

/* What is stored for a sum: with its bias; an activation of that; or, of two sums, a * gelu(b). */
enum Finish { PLAIN, ACTIVATED, GATED };

/* groups: of four warps, each with deep*64 rows and all columns. */
template <int groups_, int deep_, int columns_> struct Tile {
    static constexpr int groups = groups_, deep = deep_, columns = columns_, rows = groups*deep*64;
    static constexpr bool shares = deep > 1;                    /* registers: the group that copies gives them away */
    static constexpr int warps = groups*(WARPGROUP/WARP), threads = warps*WARP + (shares ? (int)WARPGROUP : (int)WARP);
    static constexpr int x_bytes = rows*BOX_DEPTH*2, w_bytes = columns*BOX_DEPTH*2, stage_bytes = x_bytes + w_bytes;
    static constexpr int room_bytes = 1024, rooms = 2;          /* a warp's, for what it stores */
    static constexpr int rooms_at = 0, stages_at = (warps*rooms*room_bytes + BOX_ALIGNMENT - 1)/BOX_ALIGNMENT
                                                  *BOX_ALIGNMENT;
    static constexpr int fit = (227*1024 - BOX_ALIGNMENT - stages_at - 256)/stage_bytes;
    static constexpr int stages = fit < 12 ? fit : 12;
    static constexpr int barriers_at = stages_at + stages*stage_bytes;
    static constexpr int shared_bytes = BOX_ALIGNMENT + barriers_at + (2*stages + 1)*(int)sizeof(Barrier);
    static_assert(stages >= 3 && shared_bytes <= 227*1024, "a block's shared memory");
};

/* Columns of y that a tile makes, and that a box of T to y has: 64 bytes of them, or 32. */
template <typename Tile, Finish finish> constexpr int made_columns = finish == GATED ? Tile::columns/2 : Tile::columns;
template <typename Tile, typename T, Finish finish>
constexpr int box_columns = made_columns<Tile, finish>%(64/(int)sizeof(T)) ? 32/(int)sizeof(T) : 64/(int)sizeof(T);

typedef struct HopperProduct {
    CUtensorMap x, w, y;        /* (C,W,H,B) by boxes of a tile; (C,taps,out,1); (columns,Wo,Ho,B) by 16 rows */
    const float *bias;          /* NULL: none */
    int out, kernel, pad;
    int channel_boxes;          /* to a tap */
    int log_w, log_h;           /* a tile's rows are points (b, y, x) of a box, x fastest, of 2^log_w by 2^log_h */
    int across, down, row_tiles, column_tiles;      /* boxes to a line and to a column of an image, and in all */
    Activation act;
    bool add;
} HopperProduct;

/* ---- where a tile is ---- */

/* Tiles are gone over in bands of so many rows of tiles, row by row within: what runs at a time shares both. */
enum { BAND = 8 };

struct TilePlace {
    int column, x, y, b;        /* its number, and the box's first point */

    __device__ __forceinline__ TilePlace(const HopperProduct &p, int t, int rows)
    {
        const int band = t/(BAND*p.column_tiles), first = band*BAND, rest = t - first*p.column_tiles;
        const int high = min((int)BAND, p.row_tiles - first), box = first + rest%high, line = box/p.across;
        int log_b = 0;
        while (1 << (log_b + p.log_w + p.log_h) < rows)
            log_b++;
        column = rest/high;
        x = (box - line*p.across) << p.log_w;
        y = line%p.down << p.log_h;
        b = line/p.down << log_b;
    }

    /* Of the 16 points from the i-th on. */
    __device__ __forceinline__ Place points(const HopperProduct &p, int first_column, int i) const
    {
        return Place{{first_column, x + (i & ((1 << p.log_w) - 1)), y + (i >> p.log_w & ((1 << p.log_h) - 1)),
                      b + (i >> (p.log_w + p.log_h))}};
    }
};

/* ---- what becomes of a warp's sums ---- */

/* Two neighbours' bias, or zeros: column is even, and out a multiple of 8. */
__device__ __forceinline__ float2 bias_of(const HopperProduct &p, int column, int end)
{
    return p.bias && column < end ? __ldg((const float2 *)(p.bias + column)) : make_float2(0, 0);
}

/* All values by one and the same activation. */
template <int n> __device__ __forceinline__ void activate_all(float (&v)[n], Activation act)
{
    #pragma unroll
    for (int i = 0; i < n; i++)
        v[i] = activate_value(v[i], act);
}

__device__ __forceinline__ float gated(float a, float b)
{
    return a*activate_value(b, ACT_GELU);
}

/* A lane's place in a box of 16 rows of T, as the copy engine reads it. */
template <typename T, int columns> struct BoxLane {
    static constexpr int row_bytes = columns*(int)sizeof(T);
    int row, turn;

    __device__ __forceinline__ BoxLane(int lane)
        : row(lane/4), turn((row*row_bytes >> 7 & (row_bytes/16 - 1)) << 4) {}

    /* Two neighbours from an even column on, of the lane's row or the eighth after it. */
    __device__ __forceinline__ void put(unsigned char *box, int further, int column, float a, float b) const
    {
        unsigned char *at = box + (row + further)*row_bytes + (column*(int)sizeof(T) ^ turn);
        if constexpr (sizeof(T) == 4)
            *(float2 *)at = make_float2(a, b);
        else
            *(uint32_t *)at = pack_bf16(a, b);
    }
};

/* A warp's 16 rows of sums to y, from column `first` of y and of w on. room: its two boxes; used: how often, which
 * says whose turn it is. */
template <typename Tile, typename T, Finish finish>
__device__ __forceinline__ void finish_rows(const HopperProduct &p, const float (&sum)[Tile::columns/2],
                                            const TilePlace &place, int row, int first, unsigned char *room, int &used)
{
    constexpr int made = made_columns<Tile, finish>, columns = box_columns<Tile, T, finish>;
    const int lane = threadIdx.x%WARP, pair = lane%4*2, half = p.out/2;
    const BoxLane<T, columns> at(lane);
    #pragma unroll
    for (int c = 0; c < made; c += columns, used++) {
        unsigned char *box = room + used%Tile::rooms*Tile::room_bytes;
        if (lane == 0)
            stores_read<Tile::rooms - 1>();
        __syncwarp();
        #pragma unroll
        for (int j = c/8; j < (c + columns)/8; j++) {
            const int column = first + 8*j + pair;
            const float2 bias = bias_of(p, column, finish == GATED ? half : p.out);
            float v[4] = {sum[4*j] + bias.x, sum[4*j + 1] + bias.y, sum[4*j + 2] + bias.x, sum[4*j + 3] + bias.y};
            if constexpr (finish == GATED) {
                const float *b = sum + made/2;
                const float2 more = bias_of(p, half + column, p.out);
                v[0] = gated(v[0], b[4*j] + more.x);
                v[1] = gated(v[1], b[4*j + 1] + more.y);
                v[2] = gated(v[2], b[4*j + 2] + more.x);
                v[3] = gated(v[3], b[4*j + 3] + more.y);
            } else if constexpr (finish == ACTIVATED) {
                activate_all(v, p.act);
            }
            at.put(box, 0, 8*j - c + pair, v[0], v[1]);
            at.put(box, 8, 8*j - c + pair, v[2], v[3]);
        }
        show_written();
        __syncwarp();
        if (lane == 0) {
            if (p.add)
                add_box(&p.y, place.points(p, first + c, row), box);
            else
                store_box(&p.y, place.points(p, first + c, row), box);
            stores_commit();
        }
    }
}

#endif
