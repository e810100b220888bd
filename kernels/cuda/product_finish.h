/* SPDX-License-Identifier: MIT */
/* product_finish.h -- what becomes of a warp's sums in product_hopper.cu: their bias and more in registers, then boxes
 * of 16 rows in shared memory, which the copy engine takes from there. */
#ifndef KERNELS_CUDA_PRODUCT_FINISH_H
#define KERNELS_CUDA_PRODUCT_FINISH_H

#include "kernels/cuda/product_hopper.h"

/* Bias of a tile's columns, or zeros: lane l of a warp has that of column 32 i + l. It is asked for before the
 * products, since it may come from memory, and handed around after them. */
template <int made> struct HeldBias {
    float of[(made + WARP - 1)/WARP];

    /* Of columns from `first` on, of which those from `end` on are not there. */
    __device__ __forceinline__ void load(const float *bias, int first, int end)
    {
        #pragma unroll
        for (int i = 0; i < (made + WARP - 1)/WARP; i++) {
            const int column = first + i*WARP + (int)threadIdx.x%WARP;
            of[i] = bias && column < end ? __ldg(bias + column) : 0;
        }
    }

    /* Of the two neighbours that a lane has of 8 columns from `column` on, as it has sums of them. */
    __device__ __forceinline__ float2 pair(int column) const
    {
        const int lane = column%WARP + (int)threadIdx.x%4*2;
        return make_float2(__shfl_sync(ALL_LANES, of[column/WARP], lane),
                           __shfl_sync(ALL_LANES, of[column/WARP], lane + 1));
    }
};

/* Of b too, where that is gated by. */
template <int made, Finish finish> struct TileBias {
    HeldBias<made> a, b;

    __device__ __forceinline__ void load(const HopperProduct &p, int first)
    {
        const int half = p.out/2;
        a.load(p.bias, first, finish == GATED ? half : p.out);
        if constexpr (finish == GATED)
            b.load(p.bias, half + first, p.out);
    }
};

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

/* a b Phi(b), the normal distribution's within 1e-7: b Phi(b) = max(b, 0) - |b| (1 - Phi(|b|)), and 1 - Phi(z) =
 * t (a1 + t (a2 + ...)) exp(-z^2/2)/2, t = 1/(1 + pz) (Abramowitz and Stegun, 7.1.26). Half the instructions of erff,
 * of which a tile would take as long as its products; y is bf16 or f16. */
__device__ __forceinline__ float gated(float a, float b)
{
    const float z = fabsf(b), t = reciprocal(fmaf(0.23164188f, z, 1));
    float sum = fmaf(t, 0.530702715f, -0.7265760135f);
    sum = fmaf(t, sum, 0.7107068705f);
    sum = fmaf(t, sum, -0.142248368f);
    sum = fmaf(t, sum, 0.127414796f);
    const float beyond = t*sum*power_of_2(b*b*-0.72134752f);
    return a*fmaf(-z, beyond, fmaxf(b, 0));
}

/* ---- a lane's part in a box of 16 rows, as the copy engine reads it: parts of 16 bytes turned by the row ---- */

template <int row_bytes> __device__ __forceinline__ int turn_of(int row)
{
    return (row*row_bytes >> 7 & (row_bytes/16 - 1)) << 4;
}

/* f32, of what a lane has of sums. In boxes of 128 bytes a pair of neighbouring rows has two banks' worth in the same
 * place: lanes of odd rows write halves of the columns in the other order. */
template <int columns> __device__ __forceinline__ void put_box(float *, unsigned char *box, float (&v)[columns/8][4])
{
    constexpr int row_bytes = columns*4;
    const int lane = threadIdx.x%WARP, row = lane/4, turn = turn_of<row_bytes>(row);
    const int flip = columns == 32 && row%2 ? 16 : 0;
    if (flip)
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
        unsigned char *at = box + row*row_bytes + (((8*j + lane%4*2) ^ flip)*4 ^ turn);
        *(float2 *)at = make_float2(v[j][0], v[j][1]);
        *(float2 *)(at + 8*row_bytes) = make_float2(v[j][2], v[j][3]);
    }
}

/* Halves: 8x8 matrices of rows and columns, four at a time, as products have them and stmatrix takes them. */
template <int columns, typename T>
__device__ __forceinline__ void put_box(T *, unsigned char *box, const float (&v)[columns/8][4])
{
    constexpr int row_bytes = columns*2;
    const int lane = threadIdx.x%WARP, row = lane%16, turn = turn_of<row_bytes>(row), right = lane/16*16;
    #pragma unroll
    for (int j = 0; j < columns/8; j += 2) {
        const uint32_t word[4] = {pack_pair<T>(v[j][0], v[j][1]), pack_pair<T>(v[j][2], v[j][3]),
                                  pack_pair<T>(v[j + 1][0], v[j + 1][1]), pack_pair<T>(v[j + 1][2], v[j + 1][3])};
        store_matrices(box + row*row_bytes + ((j*16 + right) ^ turn), word);
    }
}

/* ---- a warp's part of a tile ---- */

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
 * its own; lent: its rows of the last stage, which is given back by release() when they have been read. Boxes of the
 * same columns come one after the other; the last go by its own room, so that only those before them are waited for. */
template <typename Tile, typename T, Finish finish, typename Release>
__device__ __forceinline__ void finish_tile(const HopperProduct &p, const float (&sums)[Tile::deep][Tile::columns/2],
                                            const TileBias<made_columns<Tile, finish>, finish> &bias,
                                            const TilePlace &place, int row, int first, unsigned char *room,
                                            unsigned char *lent, Release release)
{
    constexpr int made = made_columns<Tile, finish>, columns = box_columns<Tile, T, finish>, deep = Tile::deep;
    constexpr int box_bytes = 16*columns*(int)sizeof(T), lent_part = 16*BOX_DEPTH*2, boxes = deep*made/columns;
    constexpr int own = Tile::room_bytes/box_bytes, all = own + Tile::lent_bytes/box_bytes;
    constexpr int together = own%2 == 0 && all%2 == 0 ? 2 : 1;  /* are shown to the copy engine */
    constexpr int times = (boxes + together - 1)/together, last_lent = (boxes - 1 - own)/together;
    const int lane = threadIdx.x%WARP;
    Place to[deep];
    float2 of_a[columns/8], of_b[columns/8] = {};
    if (Tile::lent_bytes == 0)
        release();
    #pragma unroll
    for (int d = 0; d < deep; d++)
        to[d] = place.point(p, row + 64*d, first);
    auto box_of = [&](int i) {
        const int turn = (boxes - 1 - i)%all, away = (turn - own)*box_bytes;
        return turn < own ? room + turn*box_bytes : lent + away/lent_part*64*BOX_DEPTH*2 + away%lent_part;
    };
    #pragma unroll
    for (int i = 0; i < boxes; i++) {
        const int d = i%deep, c = i/deep*columns;
        if (i%together == 0 && (i == 0 || i >= all)) {  /* of the tile before, or of this one when it was their turn */
            if (lane == 0 && i == 0)
                stores_read<0>();
            else if (lane == 0)
                stores_read<all/together - 1>();
            __syncwarp();
        }
        if (d == 0)
            #pragma unroll
            for (int j = 0; j < columns/8; j++) {
                of_a[j] = bias.a.pair(c + 8*j);
                if constexpr (finish == GATED)
                    of_b[j] = bias.b.pair(c + 8*j);
            }
        float v[columns/8][4];
        #pragma unroll
        for (int j = 0; j < columns/8; j++)
            finish_sums<finish, made>(v[j], sums[d] + (c/8 + j)*4, of_a[j], of_b[j], p.act);
        put_box<columns>((T *)NULL, box_of(i), v);
        if (i%together != together - 1 && i < boxes - 1)
            continue;
        show_written();
        __syncwarp();
        if (lane == 0) {
            #pragma unroll
            for (int k = i - i%together; k <= i; k++) {
                Place at = to[k%deep];
                at.at[0] += k/deep*columns;
                if (p.add)
                    add_box(&p.y, at, box_of(k));
                else
                    store_box(&p.y, at, box_of(k));
            }
            stores_commit();
        }
    }
    if (Tile::lent_bytes > 0) {
        if (lane == 0)
            stores_read<times - 1 - last_lent>();
        __syncwarp();
        release();
    }
}

#endif
