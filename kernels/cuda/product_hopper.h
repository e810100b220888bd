/* SPDX-License-Identifier: MIT */
/* product_hopper.h -- what product_hopper.cu's kernel is made of: its tiles, its arguments, what becomes of sums. */
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
enum { SLICES = 2 };

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
    static constexpr int lag = deep > 1 || stages < 5 ? 2 : 4;      /* one group stores while the other multiplies */
    typedef Barriers<stages, groups> BarriersOf;
    static_assert(stages >= 3 && shared_bytes <= 227*1024, "a block's shared memory");
    static_assert(!shares || registers_suffice(threads, groups, registers, left), "a block's registers");
    static_assert(split == 1 || (sharing == 1 && split == SLICES && deep == 1), "a slice a block");
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
    int log_w, log_h;           /* a tile's rows are points (b, y, x) of a box, x fastest, of 2^log_w by 2^log_h */
    int across, down;           /* boxes to a line and to a column of an image */
    int row_runs, column_runs;  /* tiles, a cluster's at a time */
    Activation act;
    bool add;
} HopperProduct;

/* ---- where a tile is ---- */

/* Tiles are gone over in bands of so many rows of clusters, row by row within: what runs at a time shares both. */
enum { BAND = 8 };

struct TilePlace {
    int column, x, y, b;        /* number of its columns, and the box's first point; it may be beyond the last image */

    /* Of `rows` rows, of block `rank` of the t-th cluster. */
    __device__ __forceinline__ TilePlace(const HopperProduct &p, int t, int rows, int across, int down, int rank)
    {
        const int band = t/(BAND*p.column_runs), first = band*BAND, rest = t - first*p.column_runs;
        const int high = min((int)BAND, p.row_runs - first);
        const int box = (first + rest%high)*down + rank/across, line = box/p.across;
        int log_b = 0;
        while (1 << (log_b + p.log_w + p.log_h) < rows)
            log_b++;
        column = rest/high*across + rank%across;
        x = (box - line*p.across) << p.log_w;
        y = line%p.down << p.log_h;
        b = line/p.down << log_b;
    }

    /* Of the i-th point, at a column or channel. */
    __device__ __forceinline__ Place point(const HopperProduct &p, int i, int column) const
    {
        return Place{{column, x + (i & ((1 << p.log_w) - 1)), y + (i >> p.log_w & ((1 << p.log_h) - 1)),
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

__device__ __forceinline__ float reciprocal(float x)
{
#ifdef SIMT
    return 1/x;
#else
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/* a b Phi(b), the normal distribution's within 1e-7: 1 - Phi(z) = t (a1 + t (a2 + ...)) exp(-z^2/2)/2, t = 1/(1 + pz),
 * for z >= 0 (Abramowitz and Stegun, 7.1.26). Half the instructions of erff, of which a tile would take as long as its
 * products; y is bf16 or f16. */
__device__ __forceinline__ float gated(float a, float b)
{
    const float t = reciprocal(fmaf(0.23164188f, fabsf(b), 1));
    float sum = fmaf(t, 0.530702715f, -0.7265760135f);
    sum = fmaf(t, sum, 0.7107068705f);
    sum = fmaf(t, sum, -0.142248368f);
    sum = fmaf(t, sum, 0.127414796f);
    const float beyond = t*sum*power_of_2(b*b*-0.72134752f);
    return a*(b*(b < 0 ? beyond : 1 - beyond));
}

/* A lane's place in a box of 16 rows of T, as the copy engine reads it. In boxes of 128 bytes of f32 a pair of
 * neighbouring rows has two banks' worth in the same place: lanes of odd rows write halves of the columns in the other
 * order, those of column ^ flip. */
template <typename T, int columns> struct BoxLane {
    static constexpr int row_bytes = columns*(int)sizeof(T);
    int row, turn, flip;

    __device__ __forceinline__ BoxLane(int lane)
        : row(lane/4), turn((row*row_bytes >> 7 & (row_bytes/16 - 1)) << 4),
          flip(sizeof(T) == 4 && columns == 32 && row%2 ? 16 : 0) {}

    /* Two neighbours from an even column on, of the lane's row or the eighth after it. */
    __device__ __forceinline__ void put(unsigned char *box, int further, int column, float a, float b) const
    {
        unsigned char *at = box + (row + further)*row_bytes + (column*(int)sizeof(T) ^ turn);
        if constexpr (sizeof(T) == 4)
            *(float2 *)at = make_float2(a, b);
        else
            *(uint32_t *)at = pack_pair<T>(a, b);
    }
};

/* Bias of a lane's columns in a box from `first` on; of b, those half of all further on. */
template <int columns> struct Bias {
    float2 a[columns/8], b[columns/8];

    template <Finish finish> __device__ __forceinline__ void load(const HopperProduct &p, int first)
    {
        const int half = p.out/2;
        #pragma unroll
        for (int j = 0; j < columns/8; j++) {
            const int column = first + 8*j + threadIdx.x%4*2;
            a[j] = bias_of(p, column, finish == GATED ? half : p.out);
            if (finish == GATED)
                b[j] = bias_of(p, half + column, p.out);
        }
    }
};

/* Two neighbours of a row and of the eighth after it. */
template <Finish finish, int made>
__device__ __forceinline__ void finish_sums(float (&v)[4], const float *sum, float2 a, float2 b, Activation act)
{
    v[0] = sum[0] + a.x;
    v[1] = sum[1] + a.y;
    v[2] = sum[2] + a.x;
    v[3] = sum[3] + a.y;
    if constexpr (finish == GATED) {
        const float *gate = sum + made/2;
        v[0] = gated(v[0], gate[0] + b.x);
        v[1] = gated(v[1], gate[1] + b.y);
        v[2] = gated(v[2], gate[2] + b.x);
        v[3] = gated(v[3], gate[3] + b.y);
    } else if constexpr (finish == ACTIVATED) {
        activate_all(v, act);
    }
}

/* A warp's sums to y, from column `first` on: those of 16 rows from `row` on, and of 16 rows every 64 further. room:
 * its own; lent: its rows of the last stage, which is given back by release() when they have been read. The last boxes
 * go by its own room, so that only those before them are waited for. */
template <typename Tile, typename T, Finish finish, typename Release>
__device__ __forceinline__ void finish_tile(const HopperProduct &p, const float (&sums)[Tile::deep][Tile::columns/2],
                                            const TilePlace &place, int row, int first, unsigned char *room,
                                            unsigned char *lent, Release release)
{
    constexpr int made = made_columns<Tile, finish>, columns = box_columns<Tile, T, finish>, boxes = made/columns;
    constexpr int box_bytes = 16*columns*(int)sizeof(T), lent_part = 16*BOX_DEPTH*2;
    constexpr int own = Tile::room_bytes/box_bytes, all = own + Tile::lent_bytes/box_bytes;
    const int lane = threadIdx.x%WARP;
    const BoxLane<T, columns> at(lane);
    Bias<columns> bias, next;
    if (Tile::lent_bytes == 0)
        release();
    next.template load<finish>(p, first);
    #pragma unroll
    for (int i = 0; i < Tile::deep*boxes; i++) {
        const int d = i/boxes, c = i%boxes*columns, turn = (Tile::deep*boxes - 1 - i)%all;
        const int away = (turn - own)*box_bytes;
        unsigned char *const box = turn < own ? room + turn*box_bytes
                                 : lent + away/lent_part*64*BOX_DEPTH*2 + away%lent_part;
        if (i == 0 || i >= all) {               /* of the tile before, or of this one when it was this box's turn */
            if (lane == 0 && i == 0)
                stores_read<0>();
            else if (lane == 0)
                stores_read<all - 1>();
            __syncwarp();
        }
        bias = next;
        if (i + 1 < Tile::deep*boxes)
            next.template load<finish>(p, first + (i + 1)%boxes*columns);
        float v[columns/8][4];
        #pragma unroll
        for (int j = 0; j < columns/8; j++)
            finish_sums<finish, made>(v[j], sums[d] + (c/8 + j)*4, bias.a[j], bias.b[j], p.act);
        if (at.flip)
            #pragma unroll
            for (int j = 0; j < columns/16; j++)
                #pragma unroll
                for (int k = 0; k < 4; k++) {
                    const float other = v[j + columns/16][k];
                    v[j + columns/16][k] = v[j][k];
                    v[j][k] = other;
                }
        #pragma unroll
        for (int j = 0; j < columns/8; j++) {
            at.put(box, 0, (8*j + lane%4*2) ^ at.flip, v[j][0], v[j][1]);
            at.put(box, 8, (8*j + lane%4*2) ^ at.flip, v[j][2], v[j][3]);
        }
        show_written();
        __syncwarp();
        if (lane == 0) {
            const Place to = place.point(p, row + 64*d, first + c);
            if (p.add)
                add_box(&p.y, to, box);
            else
                store_box(&p.y, to, box);
            stores_commit();
        }
    }
    if (Tile::lent_bytes > 0) {
        if (lane == 0)
            stores_read<own>();
        __syncwarp();
        release();
    }
}

#endif
