/* SPDX-License-Identifier: MIT */
/* sae_product.cu -- the encoder's product, h = x W^T + bias, with the choice of each tile's largest behind it.
 *
 *   x (N,D_p) centered   W (tiles*TILE,D_p)   h (N,tiles*TILE)   candidates (N,tiles,keep)
 *
 * One block a tile of 128 rows x 128 features; blocks that run together share their tile of W, and x stays in the
 * second-level cache. A value of h is one chain of sums over d, whatever the row's place and company, and the same when
 * the row is done again. At D = 1280 an output takes 2560 flop: bound by the arithmetic.
 *   bf16: mma.sync 16x8x16, 4 warps of 64 x 64, four stages of 32 columns copied ahead. For 128 mma of a step of 16
 *     columns shared memory is busy 192 cycles (32 ldmatrix, 8 KB written); an H100 takes about 128/0.6 for them, since
 *     mma.sync reaches 0.6 of its wgmma. Warps of 64 x 32 would keep it busy 256. 67 KB and 128 sums a thread let two
 *     blocks share a multiprocessor, so that one's choosing runs beside the other's products.
 *     On compute capability 9 sae_hopper.cu takes its place.
 *   f32: sae_tile.h.
 * h passes through shared memory once: a thread reads a row (or half of one) and inserts into a short sorted list. */
#include "kernels/cuda/hopper_map.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/sae_largest.h"
#include "kernels/cuda/sae_tile.h"

/* bytes: of one operand's stage in bf16; of a tile of h, which lies where the operands were. LINE: four threads' worth
 * of 16 bytes read from neighbouring rows lie in different banks */
enum { MMA_THREADS = 128, STAGES = 4, LINE = TILE + 4, STAGE_BYTES = TILE*DEPTH*2, TILE_BYTES = TILE*LINE*4 };
static_assert(TILE_BYTES >= (int)(2*STAGES*STAGE_BYTES) && TILE_BYTES >= (int)TILE_SHARED, "the operands fit");

/* ---- the tile's end ---- */

/* tile[row*LINE + column] is written; N rows of it count. Each row is shared by threads/TILE threads; the lists of all
 * but the first come back through their places in the tile. */
template <int keep, int threads>
__device__ __forceinline__ void finish_tile(const SaeProduct &p, float *tile, int64_t first, int64_t N)
{
    constexpr int shares = threads/TILE, width = TILE/shares;
    const int row = threadIdx.x%TILE, share = threadIdx.x/TILE;
    __syncthreads();
    if constexpr (keep == 0) {
        const int64_t F = (int64_t)p.tiles*TILE;
        for (int r = share; r < TILE && first + r < N; r += shares)
            p.h[(first + r)*F + (int64_t)blockIdx.y*TILE + row] = tile[r*LINE + row];
    } else {
        Largest<keep, true> list;
        float *line = tile + row*LINE;
        list.begin();
        for (int c = share*width; c < (share + 1)*width; c += 4) {
            float v[4];
            load_run(v, line + c);
            for (int k = 0; k < 4; k++)
                list.insert(v[k], c + k);
        }
        if constexpr (shares == 2) {
            float *lent = line + width;
            if (share)
                for (int j = 0; j < keep; j++) {
                    lent[j] = list.value[j];
                    lent[keep + j] = (float)list.column[j];
                }
            __syncthreads();
            for (int j = 0; j < keep && !share; j++)
                list.insert(lent[j], (int)lent[keep + j]);
        }
        if (share || first + row >= N)
            return;
        list.write(p, (first + row)*p.tiles + blockIdx.y);
    }
}

/* ---- bf16 ---- */

/* 16 bytes `part` (0..3) of a row of 32 values. Turned by row, so that the 8 rows which ldmatrix reads at once, and the
 * 8 that a quarter of a warp writes, lie in different banks. */
__device__ __forceinline__ unsigned char *stage_at(unsigned char *stage, int row, int part)
{
    return stage + (row*4 + (part ^ (row/2%4)))*16;
}

template <int keep> static __global__ void __launch_bounds__(MMA_THREADS, 2) product_bf16(SaeProduct p)
{
    unsigned char *shared = shared_memory();
    const int64_t N = p.count ? *p.count : p.N, first = (int64_t)blockIdx.x*TILE;
    if (first >= N)
        return;
    const int lane = threadIdx.x%WARP, warp = threadIdx.x/WARP;
    const int warp_row = warp/2*64, warp_column = warp%2*64, steps = p.D_p/DEPTH;

    /* what this thread copies of each stage: 16 bytes of every 32nd row of x and of W */
    const int copy_row = threadIdx.x/4, part = threadIdx.x%4;
    const bf16 *from_W = (const bf16 *)p.W + ((int64_t)blockIdx.y*TILE + copy_row)*p.D_p + part*8, *from_x[4];
    for (int i = 0; i < 4; i++) {
        const int64_t row = first + copy_row + 32*i;
        from_x[i] = row < N ? (const bf16 *)p.x + row*p.D_p + part*8 : NULL;
    }
    auto copy_stage = [&](int step) {
        unsigned char *to = shared + step%STAGES*2*STAGE_BYTES;
        if (step < steps)
            #pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = copy_row + 32*i;
                const bool there = from_x[i] != NULL;
                copy_async(stage_at(to, row, part), there ? from_x[i] + step*DEPTH : (const bf16 *)p.x, there);
                copy_async(stage_at(to + STAGE_BYTES, row, part), from_W + (int64_t)32*i*p.D_p + step*DEPTH, true);
            }
        copy_commit();
    };

    float sum[4][8][4] = {};            /* 16 rows, 8 columns, fragment */
    for (int s = 0; s < STAGES - 1; s++)
        copy_stage(s);
    for (int s = 0; s < steps; s++) {
        copy_wait<STAGES - 2>();
        __syncthreads();                /* stage s is there for all, and all have left stage s - 1 */
        copy_stage(s + STAGES - 1);
        unsigned char *x = shared + s%STAGES*2*STAGE_BYTES, *W = x + STAGE_BYTES;
        #pragma unroll
        for (int k = 0; k < DEPTH/16; k++) {
            uint32_t rows[4][4], columns[4][4];
            #pragma unroll
            for (int i = 0; i < 4; i++) {
                load_matrices(rows[i], stage_at(x, warp_row + i*16 + lane%16, k*2 + lane/16));
                load_matrices(columns[i], stage_at(W, warp_column + i*16 + lane/16*8 + lane%8, k*2 + lane/8%2));
            }
            #pragma unroll
            for (int m = 0; m < 4; m++)
                #pragma unroll
                for (int n = 0; n < 8; n++)
                    mma<bf16>(sum[m][n], rows[m], &columns[n/2][n%2*2]);
        }
    }
    copy_wait<0>();
    __syncthreads();                    /* the stages are read: the tile goes over them */

    float *tile = (float *)shared;
    #pragma unroll
    for (int n = 0; n < 8; n++) {
        const int column = warp_column + n*8 + lane%4*2;
        const float2 bias = *(const float2 *)(p.bias + blockIdx.y*TILE + column);
        #pragma unroll
        for (int m = 0; m < 4; m++)
            #pragma unroll
            for (int i = 0; i < 4; i += 2)
                *(float2 *)(tile + (warp_row + m*16 + lane/4 + i*4)*LINE + column)
                    = make_float2(number(sum[m][n][i] + bias.x), number(sum[m][n][i + 1] + bias.y));
    }
    finish_tile<keep, MMA_THREADS>(p, tile, first, N);
}

/* ---- f32 ---- */

template <int keep> static __global__ void __launch_bounds__(TILE_THREADS, 2) product_f32(SaeProduct p)
{
    float *shared = (float *)shared_memory();
    const int64_t N = p.count ? *p.count : p.N, first = (int64_t)blockIdx.x*TILE;
    if (first >= N)
        return;
    const int d = fetched_k<true>(0);
    float sum[8][8] = {};
    tile_f32<true, true>(sum, shared, p.D_p/TILE_STEP,
        [&](int i, int step) {
            const int64_t row = first + fetched_row<true>(i);
            return row < N ? ((const float *)p.x)[row*p.D_p + step*TILE_STEP + d] : 0;
        },
        [&](int i, int step) {
            const int64_t f = (int64_t)blockIdx.y*TILE + fetched_row<true>(i);
            return ((const float *)p.W)[f*p.D_p + step*TILE_STEP + d];
        });
    #pragma unroll
    for (int j = 0; j < 8; j += 4) {
        const int column = tile_across(j);
        float bias[4];
        load_run(bias, p.bias + blockIdx.y*TILE + column);
        #pragma unroll
        for (int i = 0; i < 8; i++) {
            float v[4];
            for (int k = 0; k < 4; k++)
                v[k] = number(sum[i][j + k] + bias[k]);
            store_run(shared + tile_down(i)*LINE + column, v);
        }
    }
    finish_tile<keep, TILE_THREADS>(p, shared, first, N);
}

template <int keep> static void launch(const SaeProduct *p, DType type)
{
    const dim3 grid(gpu_blocks(p->N, TILE), (unsigned)p->tiles);
    if (type == BF16)
        LAUNCH(product_bf16<keep>, grid, MMA_THREADS, TILE_BYTES, *p);
    else
        LAUNCH(product_f32<keep>, grid, TILE_THREADS, TILE_BYTES, *p);
}

void sae_product(const SaeProduct *p, DType type, int keep)
{
    if (type == BF16 && hopper_wanted("encode"))
        sae_hopper_product(p, keep);
    else if (keep == 4)
        launch<4>(p, type);
    else if (keep == 8)
        launch<8>(p, type);
    else
        launch<0>(p, type);
}
