/* SPDX-License-Identifier: MIT */
/* attention_half.cu -- attention (attention.cu has the formula) in tensor cores: halves in and out, f32 scores, sums.
 *
 * A block of four warps takes 64*TILES queries of one head of one image and up to 16*WIDE columns of y; a warp holds
 * TILES times 16 queries: their scores with 64 keys, and their part of o. What one product leaves in registers is what
 * the next one takes as its left side, so p never goes through memory. The next tile of keys is on its way while p v is
 * made, the next values while q k^T is. Rows in shared memory are 16 bytes longer than their width of a multiple of 32
 * bytes, so that the eight rows that ldmatrix reads at once lie in different banks.
 *
 * A query's sums run over its keys in order, 64 at a time from key 0, whatever else is in the batch; a tile of which it
 * sees nothing leaves them as they are. Bound by reads of shared memory: 16 keys times 16 of d are 512 bytes for
 * TILES*2 products of 16 by 8 by 16; then by exp for narrow heads. Heads of more than 160 make their scores again for
 * every 128 columns: only the pictures' autoencoder has one, of 512. Scores get a bias in kernels of their own, for
 * heads of up to 64: what has one is the text encoder T5, whose heads are of 64. */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/mma.h"

enum { WARPS = 4, KEYS = 64, PIECE = 8 };

/* Rows [0, count) and columns [0, columns) of a matrix to a tile of `height` rows, `width` columns and PIECE more;
 * zeros elsewhere. */
template <typename T>
__device__ __forceinline__ void load_rows(T *tile, const T *rows, int64_t stride, int count, int columns, int height,
                                          int width, bool pieces)
{
    const int across = width/PIECE;
    for (int i = threadIdx.x; i < height*across; i += WARPS*WARP) {
        const int r = i/across, c = (i - r*across)*PIECE;
        T *to = tile + r*(width + PIECE) + c;
        const T *from = rows + r*stride + c;
        if (pieces) {
            const bool there = r < count && c < columns;
            copy_async(to, there ? from : rows, there);
        } else {
            for (int j = 0; j < PIECE; j++)
                to[j] = r < count && c + j < columns ? from[j] : T{0};
        }
    }
}

/* Block (queries, head and columns, image). */
template <typename T, int WIDE, int TILES, bool BIASED>
static __global__ void __launch_bounds__(WARPS*WARP) attend(const Attention a, int parts)
{
    constexpr int COLUMNS = 16*WIDE, QUERIES = WARPS*TILES*16, V_ROW = COLUMNS + PIECE;
    const int depth = (a.d + 15)/16*16, row = depth + PIECE;
    T *q_tile = (T *)shared_memory(), *k_tile = q_tile + QUERIES*row, *v_tile = k_tile + KEYS*row;
    const int head = blockIdx.y/parts, first_column = blockIdx.y%parts*COLUMNS;
    const int columns = a.d - first_column < COLUMNS ? a.d - first_column : COLUMNS;
    const int64_t b = blockIdx.z, first = (int64_t)blockIdx.x*QUERIES, image = a.keys_image(b);
    const int queries = a.Sq - first < QUERIES ? (int)(a.Sq - first) : QUERIES;
    const int lane = threadIdx.x%WARP, mine = threadIdx.x/WARP*TILES*16;      /* the warp's first query of the block */
    const T *q = (const T *)a.q + (b*a.Sq + first)*a.q_stride + (int64_t)head*a.d;
    const T *k = (const T *)a.k + image*a.Sk*a.k_stride + (int64_t)head*a.d;
    const T *v = (const T *)a.v + image*a.Sk*a.v_stride + (int64_t)head*a.d + first_column;
    constexpr float log2_e = 1.44269504f;           /* exp(x) = 2^(x log2 e) */
    const float scale = BIASED ? 1 : a.scale*log2_e;        /* of scores that have no bias yet */

    auto load_keys = [&](int64_t j) {
        load_rows(k_tile, k + j*a.k_stride, a.k_stride, a.Sk - j < KEYS ? (int)(a.Sk - j) : KEYS, a.d, KEYS, depth,
                  a.pieces);
    };
    auto load_values = [&](int64_t j) {
        load_rows(v_tile, v + j*a.v_stride, a.v_stride, a.Sk - j < KEYS ? (int)(a.Sk - j) : KEYS, columns, KEYS,
                  COLUMNS, a.pieces);
    };
    load_rows(q_tile, q, a.q_stride, queries, a.d, QUERIES, depth, a.pieces);
    load_keys(0);
    copy_commit();
    load_values(0);
    copy_commit();

    float o[TILES][2*WIDE][4] = {}, top[TILES][2], sum[TILES][2] = {};
#pragma unroll
    for (int t = 0; t < TILES; t++)
        top[t][0] = top[t][1] = -INFINITY;

    const int64_t seen = a.visible(first + queries - 1);
    for (int64_t j0 = 0; j0 < seen; j0 += KEYS) {
        copy_wait<1>();
        __syncthreads();                /* q and these keys are there */
        float s[TILES][KEYS/8][4] = {};
        for (int c = 0; c < depth; c += 16) {
            uint32_t left[TILES][4];
#pragma unroll
            for (int t = 0; t < TILES; t++)
                load_matrices(left[t], q_tile + (mine + t*16 + lane%16)*row + c + lane/16*8);
#pragma unroll
            for (int j = 0; j < KEYS/16; j++) {
                uint32_t right[4];
                load_matrices(right, k_tile + (j*16 + lane/16*8 + lane%8)*row + c + lane/8%2*8);
#pragma unroll
                for (int t = 0; t < TILES; t++) {
                    mma<T>(s[t][2*j], left[t], right);
                    mma<T>(s[t][2*j + 1], left[t], right + 2);
                }
            }
        }
        __syncthreads();                /* all are done with these keys */
        if (j0 + KEYS < seen)
            load_keys(j0 + KEYS);
        copy_commit();

        const bool cut = j0 + KEYS > a.visible(first);
        uint32_t p[TILES][KEYS/16][4];
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int half = 0; half < 2; half++) {          /* rows lane/4 and 8 further: s[.][0..1] and s[.][2..3] */
                float *m = &top[t][half], found = -INFINITY;
                if constexpr (BIASED) {
                    const int64_t query = first + mine + t*16 + lane/4 + half*8;
                    const float *bias = a.bias + (head*a.Sq + query)*a.Sk + j0;
#pragma unroll
                    for (int j = 0; j < KEYS/8; j++)
#pragma unroll
                        for (int i = 0; i < 2; i++) {
                            const int key = j*8 + lane%4*2 + i;
                            const float more = query < a.Sq && j0 + key < a.Sk ? bias[key] : 0;
                            s[t][j][2*half + i] = fmaf(s[t][j][2*half + i], a.scale, more)*log2_e;
                        }
                }
                if (cut) {
                    const int64_t visible = a.visible(first + mine + t*16 + lane/4 + half*8) - j0;
#pragma unroll
                    for (int j = 0; j < KEYS/8; j++)
#pragma unroll
                        for (int i = 0; i < 2; i++)
                            if (j*8 + lane%4*2 + i >= visible)
                                s[t][j][2*half + i] = -INFINITY;
                }
#pragma unroll
                for (int j = 0; j < KEYS/8; j++)
                    found = fmaxf(found, fmaxf(s[t][j][2*half], s[t][j][2*half + 1]));
                found = fmaxf(found, __shfl_xor_sync(ALL_LANES, found, 1));
                found = fmaxf(found, __shfl_xor_sync(ALL_LANES, found, 2));
                const float now = fmaxf(*m, found*scale), keep = exp2f(*m - now);
                float part = 0;
#pragma unroll
                for (int j = 0; j < KEYS/8; j++) {
                    const float p0 = exp2f(s[t][j][2*half]*scale - now), p1 = exp2f(s[t][j][2*half + 1]*scale - now);
                    part += p0 + p1;
                    p[t][j/2][j%2*2 + half] = pack_pair<T>(p0, p1);
                }
                sum[t][half] = sum[t][half]*keep + part;
                *m = now;
#pragma unroll
                for (int n = 0; n < 2*WIDE; n++) {
                    o[t][n][2*half] *= keep;
                    o[t][n][2*half + 1] *= keep;
                }
            }

        copy_wait<1>();
        __syncthreads();                /* these values are there */
#pragma unroll
        for (int j = 0; j < KEYS/16; j++)
#pragma unroll
            for (int n = 0; n < WIDE; n++) {
                uint32_t right[4];
                load_matrices_transposed(right, v_tile + (j*16 + lane%16)*V_ROW + n*16 + lane/16*8);
#pragma unroll
                for (int t = 0; t < TILES; t++) {
                    mma<T>(o[t][2*n], p[t][j], right);
                    mma<T>(o[t][2*n + 1], p[t][j], right + 2);
                }
            }
        __syncthreads();                /* all are done with these values */
        if (j0 + KEYS < seen)
            load_values(j0 + KEYS);
        copy_commit();
    }

#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float l = sum[t][half];
            l += __shfl_xor_sync(ALL_LANES, l, 1);
            l += __shfl_xor_sync(ALL_LANES, l, 2);
            const int query = mine + t*16 + lane/4 + half*8;
            if (query >= queries)
                continue;
            T *y = (T *)a.y + (b*a.Sq + first + query)*a.y_stride + (int64_t)head*a.d + first_column;
#pragma unroll
            for (int n = 0; n < 2*WIDE; n++) {
                const int c = n*8 + lane%4*2;
                const uint32_t pair = pack_pair<T>(o[t][n][2*half]/l, o[t][n][2*half + 1]/l);
                if (c + 1 < columns && ((uintptr_t)(y + c)&3) == 0) {
                    *(uint32_t *)(y + c) = pair;
                } else {
                    if (c < columns)
                        y[c] = T{(uint16_t)pair};
                    if (c + 1 < columns)
                        y[c + 1] = T{(uint16_t)(pair >> 16)};
                }
            }
        }
}

template <typename T, int WIDE, int TILES, bool BIASED = false> static bool attend_by(const Attention *a, int64_t B)
{
    const int depth = (a->d + 15)/16*16, parts = (a->d + 16*WIDE - 1)/(16*WIDE), queries = WARPS*TILES*16;
    const size_t shared = sizeof(T)*(size_t)((queries + KEYS)*(depth + PIECE) + KEYS*(16*WIDE + PIECE));
    if (shared > (size_t)gpu_block_shared)
        return false;
    LAUNCH((attend<T, WIDE, TILES, BIASED>), dim3(gpu_blocks(a->Sq, queries), (unsigned)(a->heads*parts), (unsigned)B),
           WARPS*WARP, shared, *a, parts);
    return true;
}

template <typename T> static bool attend_as(const Attention *a, int64_t B)
{
    if (a->bias)
        return a->d <= 64 && attend_by<T, 4, 2, true>(a, B);
    if (a->d <= 32)
        return attend_by<T, 2, 2>(a, B);
    if (a->d <= 48)
        return attend_by<T, 3, 2>(a, B);
    if (a->d <= 64)
        return attend_by<T, 4, 2>(a, B);
    if (a->d <= 80)
        return attend_by<T, 5, 1>(a, B);
    if (a->d <= 128 || a->d > 160)
        return attend_by<T, 8, 1>(a, B);
    return attend_by<T, 10, 1>(a, B);
}

bool attention_half(const Attention *a, DType type, int64_t B)
{
    return type == BF16 ? attend_as<bf16>(a, B) : attend_as<f16>(a, B);
}
