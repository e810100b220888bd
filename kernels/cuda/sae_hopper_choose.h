/* SPDX-License-Identifier: MIT */
/* sae_hopper_choose.h -- the `keep` largest of a row of a tile, where a product of 64x256 (wgmma.h) leaves its sums.
 *
 * A thread has 32 columns of a row of a tile, four threads the row. Of its 4*keep runs of columns the keep-th greatest
 * maximum is a bound that `keep` values reach and hardly more do: 4.4 of 128 on average where keep is 4, 9 where it is
 * 8. Pairs of neighbours that reach it go through shared memory to one of the four threads, which sorts them. Where
 * there are more than POOL of them (ties, what is no number), the row's largest are found one after another.
 *
 * A group of warps that chooses has the instructions nearly to itself: what counts is how long one waits for
 * another. */
#ifndef KERNELS_CUDA_SAE_HOPPER_CHOOSE_H
#define KERNELS_CUDA_SAE_HOPPER_CHOOSE_H

#include "kernels/cuda/sae_largest.h"

/* Of a warp: 4 lists (row, tile) in four lanes, each of POOL pairs. */
enum { LISTS = 4, POOL = 16, LENT_BYTES = POOL*WARP*8 };

/* v(c), c < 32: a lane's values of a row of a tile, columns rising, here and below. A number that at least `keep` of
 * the row's values reach; -INFINITY where what is no number may count among them. */
template <int keep, typename Value> __device__ __forceinline__ float bound_of(Value v)
{
    auto order = [](float &a, float &b) {
        const float low = fminf(a, b);
        a = fmaxf(a, b);
        b = low;
    };
    float m[keep];
    #pragma unroll
    for (int i = 0; i < keep; i++)
        m[i] = -INFINITY;
    #pragma unroll
    for (int c = 0; c < 32; c++)
        m[c*keep/32] = fmaxf(m[c*keep/32], v(c));       /* not a NaN */
    #pragma unroll
    for (int i = 0; i < keep; i++)
        #pragma unroll
        for (int j = i + 1; j < keep; j++)
            order(m[i], m[j]);
    float n[keep];                                      /* the greatest of two falling runs: max(m[i], n[keep-1-i]) */
    #pragma unroll
    for (int i = 0; i < keep; i++)
        n[i] = fmaxf(m[i], __shfl_xor_sync(ALL_LANES, m[keep - 1 - i], 1));
    #pragma unroll
    for (int step = keep/2; step; step /= 2)            /* they fall, then rise: a bitonic merge */
        #pragma unroll
        for (int i = 0; i < keep; i++)
            if (!(i & step))
                order(n[i], n[i + step]);
    float bound = INFINITY;
    #pragma unroll
    for (int i = 0; i < keep; i++)
        bound = fminf(bound, fmaxf(n[i], __shfl_xor_sync(ALL_LANES, n[keep - 1 - i], 2)));
    return bound > -FLT_MAX ? bound : -INFINITY;
}

/* A lane's 16 pairs of a row of a tile, by bits 4j (+ the lane's place among its four, once they are put together). */
struct Pairs {
    uint32_t low, high;

    __device__ __forceinline__ void add(int j)
    {
        if (j < 8)
            low |= 1u << j*4;
        else
            high |= 1u << (j - 8)*4;
    }

    __device__ __forceinline__ unsigned count(void) const
    {
        return (unsigned)(__popc(low) + __popc(high));
    }
};

template <typename Value> __device__ __forceinline__ Pairs pairs_reaching(float bound, Value v)
{
    Pairs pairs = {};
    #pragma unroll
    for (int j = 0; j < 16; j++)
        if (!(v(2*j) < bound) || !(v(2*j + 1) < bound))
            pairs.add(j);
    return pairs;
}

/* Those in which the row's `keep` largest lie, one after another of four lanes' own. */
template <int keep, typename Value> __device__ __forceinline__ Pairs largest_pairs(Value v)
{
    const int place = threadIdx.x%4;
    Largest<keep, true> list;
    Pairs pairs = {};
    list.begin();
    #pragma unroll
    for (int c = 0; c < 32; c++)
        list.insert(number(v(c)), c/2*8 + 2*place + c%2);
    for (int n = 0; n < keep; n++) {
        float most = list.value[0];
        int column = list.column[0];
        for (int step = 1; step < 4; step *= 2) {
            const float other = __shfl_xor_sync(ALL_LANES, most, step);
            const int there = __shfl_xor_sync(ALL_LANES, column, step);
            if (Largest<keep, false>::before(other, there, most, column)) {
                most = other;
                column = there;
            }
        }
        if (column == list.column[0]) {                 /* this lane's, and no other's */
            pairs.add(column/8);
            #pragma unroll
            for (int j = 0; j + 1 < keep; j++) {
                list.value[j] = list.value[j + 1];
                list.column[j] = list.column[j + 1];
            }
            list.value[keep - 1] = -INFINITY;
            list.column[keep - 1] = -1;
        }
    }
    return pairs;
}

/* One of four, by selection: no array in memory. */
template <typename T> __device__ __forceinline__ T one_of(const T (&v)[4], int i)
{
    const T low = i & 1 ? v[1] : v[0], high = i & 1 ? v[3] : v[2];
    return i & 2 ? high : low;
}

__device__ __forceinline__ uint32_t byte_of(uint32_t word, int i)
{
    return word >> 8*i & 255;
}

/* Four numbers, a byte each: their sums over the lanes of a four, and over those before this one. */
__device__ __forceinline__ uint32_t sums_of_four(uint32_t mine, uint32_t *before)
{
    const int place = threadIdx.x%4;
    const uint32_t beside = __shfl_xor_sync(ALL_LANES, mine, 1), two = mine + beside;
    const uint32_t across = __shfl_xor_sync(ALL_LANES, two, 2);
    *before = (place & 1 ? beside : 0) + (place & 2 ? across : 0);
    return two + across;
}

/* The bits of all lanes of a four, each lane's at its place. */
__device__ __forceinline__ uint32_t put_together(uint32_t bits)
{
    bits <<= threadIdx.x%4;
    bits |= __shfl_xor_sync(ALL_LANES, bits, 1);
    return bits | __shfl_xor_sync(ALL_LANES, bits, 2);
}

/* The candidates of a warp's 16 rows of h, the first of them `row`, in tiles `tile` and, with both, the next. List i is
 * row i%2 of a lane's two, tile i/2. */
template <int keep>
__device__ __forceinline__ void choose(const SaeProduct &p, const float (&h)[128], float2 *lent, int64_t row, int64_t N,
                                       int tile, bool both)
{
    const int lane = threadIdx.x%WARP, place = lane%4;
    float bound[LISTS];
    Pairs pairs[LISTS];
    uint32_t mine = 0, before;
    #pragma unroll
    for (int i = 0; i < LISTS; i++)
        bound[i] = bound_of<keep>([&](int c) { return h[i/2*64 + c/2*4 + i%2*2 + c%2]; });
    #pragma unroll
    for (int i = 0; i < LISTS; i++) {
        pairs[i] = pairs_reaching(bound[i], [&](int c) { return h[i/2*64 + c/2*4 + i%2*2 + c%2]; });
        mine |= pairs[i].count() << 8*i;
    }
    const uint32_t all = sums_of_four(mine, &before);
    if (__any_sync(ALL_LANES, ((all + (127 - POOL)*0x01010101u) & 0x80808080u) != 0)) {   /* a byte above POOL */
        mine = 0;
        #pragma unroll
        for (int i = 0; i < LISTS; i++) {
            if (__any_sync(ALL_LANES, byte_of(all, i) > POOL))
                pairs[i] = largest_pairs<keep>([&](int c) { return h[i/2*64 + c/2*4 + i%2*2 + c%2]; });
            mine |= pairs[i].count() << 8*i;
        }
        sums_of_four(mine, &before);
    }

    /* list i lies in column i of the four's own, one lane's pairs behind another's */
    uint32_t low[LISTS], high[LISTS];
    float2 *to[LISTS];
    #pragma unroll
    for (int i = 0; i < LISTS; i++) {
        to[i] = lent + byte_of(before, i)*WARP + (lane - place + i);
        low[i] = put_together(pairs[i].low);
        high[i] = put_together(pairs[i].high);
    }
    #pragma unroll
    for (int j = 0; j < 16; j++)
        #pragma unroll
        for (int i = 0; i < LISTS; i++)
            if ((j < 8 ? pairs[i].low >> j*4 : pairs[i].high >> (j - 8)*4) & 1) {
                const float *pair = &h[i/2*64 + j*4 + i%2*2];
                *to[i] = make_float2(pair[0], pair[1]);
                to[i] += WARP;
            }
    uint32_t next = 0;                                  /* where the pairs of each lane go on, in this lane's list */
    #pragma unroll
    for (int q = 0; q < 4; q++)
        next |= byte_of(__shfl_sync(ALL_LANES, before, lane - place + q), place) << 8*q;
    __syncwarp();
    Largest<keep, true> list;
    list.begin();
    for (uint64_t left = (uint64_t)one_of(high, place) << 32 | one_of(low, place); left;)
        #pragma unroll
        for (int i = 0; i < 2; i++, left &= left - 1) { /* two at a time: the second comes while the first is put in */
            const int bit = __ffsll((long long)left) - 1, q = bit & 3, column = 2*bit;  /* 8*(bit/4) + 2*q */
            /* behind the last a number that no list takes, since it has `keep` by then */
            const float2 pair = left ? lent[byte_of(next, q)*WARP + lane] : make_float2(-INFINITY, -INFINITY);
            const float x = number(pair.x), y = number(pair.y);
            next += 1u << 8*q;
            list.put(fmaxf(x, y), column + (y > x));
            list.put(fminf(x, y), column + !(y > x));
        }
    const int64_t n = row + lane/4 + place%2*8;
    if (n < N && (place < 2 || both))
        list.write(p, n*p.tiles + tile + place/2);
    __syncwarp();                                       /* read before the next tile's are written */
}

#endif
