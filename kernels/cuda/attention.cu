/* SPDX-License-Identifier: MIT */
/* attention.cu -- softmax(q k^T scale + bias) v without ever writing the scores: the choice of kernel, and the one in
 * f32.
 *
 *     for tiles of keys:  s = q k^T scale + bias    m' = max(m, max s)    p = exp(s - m')
 *                         l = l exp(m - m') + sum p    o = o exp(m - m') + p v         y = o/l
 *
 *   q, y (B,Sq,heads,d)   k, v (images,Sk,heads,d)   f32, bf16 or f16, rows at any stride; m, l, o, s in f32
 *   Milakov and Gimelshein 2018 (arXiv 1805.02867); Dao et al. 2022 (arXiv 2205.14135), algorithm 1.
 *
 * A block of 256 threads takes 64 queries of one head of one image, and at most 512 columns of y, fewer where a block
 * has less shared memory: wider heads make their scores again for the next columns. A thread makes 4 by 4 of the 64 by
 * 64 scores of a tile, then 4 by 4 of each 64 columns of o, which stay in shared memory. A query's sums run over its
 * keys in order, in tiles of 64 from key 0, whatever else is in the batch. Bound by shared memory: two 16-byte reads
 * for 16 multiply-adds. */
#include "kernels/cuda/attention.h"

enum { QUERIES = 64, KEYS = 64, CHUNK = 32, COLUMNS = 64, THREADS = 256, MOST_COLUMNS = 512, ROW = 64 + 4 };

typedef struct Room {
    float A[CHUNK][ROW];        /* q or p: a chunk of what is summed over, by query */
    float B[CHUNK][ROW];        /* k or v: the same, by key or column */
    float S[QUERIES][ROW];      /* scores, then p */
    float top[QUERIES], sum[QUERIES], keep[QUERIES];    /* m, l, exp(m - m') */
    float O[1];                 /* (QUERIES, columns rounded up to COLUMNS) */
} Room;

/* sum[i][j] += the chunk's A[.][4 ty + i] B[.][4 tx + j] */
__device__ __forceinline__ void multiply_chunk(float sum[4][4], const Room *room, int ty, int tx)
{
#pragma unroll 8
    for (int c = 0; c < CHUNK; c++) {
        const float4 a4 = *(const float4 *)&room->A[c][4*ty], b4 = *(const float4 *)&room->B[c][4*tx];
        const float a[4] = {a4.x, a4.y, a4.z, a4.w}, b[4] = {b4.x, b4.y, b4.z, b4.w};
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++)
                sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
    }
}

/* to[c][r] = rows[r][c] for a chunk of columns and 64 rows; 0 outside rows and columns */
template <typename T>
__device__ __forceinline__ void load_turned(float to[CHUNK][ROW], const T *rows, int64_t stride, int count, int columns)
{
    for (int i = threadIdx.x; i < 64*CHUNK; i += THREADS) {
        const int r = i/CHUNK, c = i%CHUNK;
        to[c][r] = r < count && c < columns ? to_float(rows[r*stride + c]) : 0;
    }
}

/* One row's part of a tile of scores: its maximum, p in place of the scores, its sum. Four lanes a row, which hold
 * scores j with j%4 their number. */
__device__ __forceinline__ void softmax_row(Room *room, int visible)
{
    const int r = threadIdx.x/4, part = threadIdx.x%4;
    float *s = room->S[r], top = -INFINITY, sum = 0;
    for (int j = part; j < KEYS; j += 4)
        top = j < visible ? fmaxf(top, s[j]) : top;
    top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 1));
    top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 2));
    const float before = room->top[r], now = fmaxf(before, top);
    for (int j = part; j < KEYS; j += 4) {
        const float p = j < visible ? expf(s[j] - now) : 0;
        s[j] = p;
        sum += p;
    }
    sum += __shfl_xor_sync(ALL_LANES, sum, 1);
    sum += __shfl_xor_sync(ALL_LANES, sum, 2);
    if (part == 0) {
        const float keep = now == before ? 1 : expf(before - now);     /* exp(-inf) = 0 */
        room->keep[r] = keep;
        room->sum[r] = room->sum[r]*keep + sum;
        room->top[r] = now;
    }
}

/* Block (64 queries, head and columns, image). */
template <typename T> static __global__ void __launch_bounds__(THREADS) attend_plain(const Attention a, int most)
{
    Room *room = (Room *)shared_memory();
    const int parts = (a.d + most - 1)/most, head = blockIdx.y/parts, first_column = blockIdx.y%parts*most;
    const int columns = a.d - first_column < most ? a.d - first_column : most;
    const int width = (columns + COLUMNS - 1)/COLUMNS*COLUMNS;
    const int64_t b = blockIdx.z, first = (int64_t)blockIdx.x*QUERIES, image = a.keys_image(b);
    const int queries = a.Sq - first < QUERIES ? (int)(a.Sq - first) : QUERIES;
    const int ty = threadIdx.x/16, tx = threadIdx.x%16;
    const T *q = (const T *)a.q + (b*a.Sq + first)*a.q_stride + (int64_t)head*a.d;

    for (int i = threadIdx.x; i < QUERIES*width; i += THREADS)
        room->O[i] = 0;
    for (int i = threadIdx.x; i < QUERIES; i += THREADS) {
        room->top[i] = -INFINITY;
        room->sum[i] = 0;
    }
    const int64_t seen = a.visible(first + queries - 1);
    for (int64_t j0 = 0; j0 < seen; j0 += KEYS) {
        const int keys = a.Sk - j0 < KEYS ? (int)(a.Sk - j0) : KEYS;
        const T *k = (const T *)a.k + (image*a.Sk + j0)*a.k_stride + (int64_t)head*a.d;
        const T *v = (const T *)a.v + (image*a.Sk + j0)*a.v_stride + (int64_t)head*a.d + first_column;
        float score[4][4] = {};
        for (int c = 0; c < a.d; c += CHUNK) {
            __syncthreads();
            load_turned(room->A, q + c, a.q_stride, queries, a.d - c);
            load_turned(room->B, k + c, a.k_stride, keys, a.d - c);
            __syncthreads();
            multiply_chunk(score, room, ty, tx);
        }
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) {
                const int64_t query = first + 4*ty + i, key = j0 + 4*tx + j;
                const bool biased = a.bias && query < a.Sq && key < a.Sk;
                const float more = biased ? a.bias[(head*a.Sq + query)*a.Sk + key] : 0;
                room->S[4*ty + i][4*tx + j] = fmaf(score[i][j], a.scale, more);
            }
        __syncthreads();
        const int64_t last = a.visible(first + threadIdx.x/4) - j0;
        softmax_row(room, last < KEYS ? (int)last : KEYS);
        __syncthreads();
        for (int o0 = 0; o0 < width; o0 += COLUMNS) {
            float sum[4][4];
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    sum[i][j] = room->O[(4*ty + i)*width + o0 + 4*tx + j]*room->keep[4*ty + i];
            for (int c = 0; c < KEYS; c += CHUNK) {
                __syncthreads();
                for (int i = threadIdx.x; i < 64*CHUNK; i += THREADS) {
                    const int r = i/64, column = i%64;
                    room->B[r][column] = c + r < keys && o0 + column < columns
                        ? to_float(v[(c + r)*a.v_stride + o0 + column]) : 0;
                    room->A[r][column] = room->S[column][c + r];
                }
                __syncthreads();
                multiply_chunk(sum, room, ty, tx);
            }
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    room->O[(4*ty + i)*width + o0 + 4*tx + j] = sum[i][j];
        }
    }
    __syncthreads();
    T *y = (T *)a.y + (b*a.Sq + first)*a.y_stride + (int64_t)head*a.d + first_column;
    for (int i = threadIdx.x; i < queries*columns; i += THREADS) {
        const int r = i/columns, column = i%columns;
        y[r*a.y_stride + column] = from_float<T>(room->O[r*width + column]/room->sum[r]);
    }
}

void attention_plain(const Attention *a, DType type, int64_t B)
{
    const size_t column = sizeof(float)*QUERIES;
    const int room = (int)(((size_t)gpu_block_shared - sizeof(Room))/column/COLUMNS*COLUMNS);
    const int most = room < MOST_COLUMNS ? room : MOST_COLUMNS, parts = (a->d + most - 1)/most;
    const size_t shared = sizeof(Room) + column*(size_t)(((a->d < most ? a->d : most) + COLUMNS - 1)/COLUMNS*COLUMNS);
    const dim3 grid(gpu_blocks(a->Sq, QUERIES), (unsigned)(a->heads*parts), (unsigned)B);
    if (type == F32)
        LAUNCH(attend_plain<float>, grid, THREADS, shared, *a, most);
    else if (type == BF16)
        LAUNCH(attend_plain<bf16>, grid, THREADS, shared, *a, most);
    else
        LAUNCH(attend_plain<f16>, grid, THREADS, shared, *a, most);
}

static void portable(const Attention *a, DType type, int64_t B)
{
    if (type == F32 || a->d > ATTENTION_WIDEST || !attention_half(a, type, B))
        attention_plain(a, type, B);
}

/* Whether rows of halves can be read in 16-byte pieces. */
static bool in_pieces(const Attention *a)
{
    return (a->d | a->q_stride | a->k_stride | a->v_stride)%8 == 0
        && (((uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v)&15) == 0;
}

void cuda_attention(void *y, int64_t y_stride, const void *q, int64_t q_stride, const void *k, int64_t k_stride,
                    const void *v, int64_t v_stride, DType type, int64_t B, int heads, int head_dim, int64_t Sq,
                    int64_t Sk, const int32_t *kv_index, float scale, bool causal)
{
    Attention a = {y, q, k, v, y_stride, q_stride, k_stride, v_stride, Sq, Sk, kv_index, NULL, heads, head_dim, scale,
                   causal, false};
    a.pieces = in_pieces(&a);
    if (type == F32 || !(attention_hopper(&a, type, B) || attention_dnn(&a, type, B)))
        portable(&a, type, B);
}

void cuda_attention_biased(void *y, int64_t y_stride, const void *q, int64_t q_stride, const void *k, int64_t k_stride,
                           const void *v, int64_t v_stride, DType type, int64_t B, int heads, int head_dim, int64_t Sq,
                           int64_t Sk, const float *bias, float scale)
{
    Attention a = {y, q, k, v, y_stride, q_stride, k_stride, v_stride, Sq, Sk, NULL, bias, heads, head_dim, scale,
                   false, false};
    a.pieces = in_pieces(&a);
    portable(&a, type, B);
}
