/* SPDX-License-Identifier: MIT */
/* product_half.cu -- the product of product.h in tensor cores: bf16 or f16 in, f32 sums, f32, f16 or the same out.
 *
 * A block makes a tile of BM points by BN channels, in steps of 64 of k. Three steps are in shared memory: one being
 * multiplied, two on their way by cp.async, 16 bytes (8 channels of one tap) a copy, so a window that leaves the image
 * is a copy of zeros. Rows of 128 bytes are stored with their 16-byte pieces exchanged (piece ^ row%8), so that the
 * eight rows that ldmatrix reads at once lie in different banks. Each warp holds WM by WN sums in registers.
 *
 * Two blocks of the largest tile share a multiprocessor of an H100, by registers and by shared memory.
 * Bound by arithmetic from a few hundred channels on: a block reads (BM + BN)*128 bytes from the second-level cache for
 * BM*BN*128 flop, 64 flop a byte at 128 by 128. */
#include "kernels/cuda/mma.h"
#include "kernels/cuda/product.h"

enum { STEP = 64, PIECE = 8, PIECES = STEP/PIECE, STAGES = 3 };

/* Rows n, n + warps*4, ... of a tile's step are this thread's, all in the same piece. */
template <int rows, int threads> struct Share { static constexpr int count = rows*PIECES/threads; };

template <typename X> __device__ __forceinline__ X *piece_of(X *tile, int row, int piece)
{
    return tile + row*STEP + (piece ^ row%PIECES)*PIECE;
}

/* Two neighbours of row m, or the one that there is. */
template <typename T> __device__ __forceinline__ void store_pair(const Product &p, int64_t m, int o, float a, float b)
{
    T *y = (T *)p.y + m*p.out + o;
    if (m >= p.M || o >= p.out)
        return;
    a = product_finish<T>(p, a, m, o);
    if (o + 1 == p.out) {
        *y = from_float<T>(a);
        return;
    }
    b = product_finish<T>(p, b, m, o + 1);
    if (p.out%2) {
        y[0] = from_float<T>(a);
        y[1] = from_float<T>(b);
    } else if constexpr (sizeof(T) == 4) {
        *(float2 *)y = make_float2(a, b);
    } else {
        *(uint32_t *)y = pack_pair<T>(a, b);
    }
}

/* X: of x and w. T: of y. */
template <typename X, typename T, int BM, int BN, int WM, int WN>
static __global__ void __launch_bounds__((BM/WM)*(BN/WN)*WARP, 2) multiply(const Product p)
{
    constexpr int threads = (BM/WM)*(BN/WN)*WARP, x_rows = Share<BM, threads>::count;
    constexpr int w_rows = Share<BN, threads>::count;
    constexpr int row_step = threads/PIECES, stage = (BM + BN)*STEP;
    X *tiles = (X *)shared_memory();
    const int columns = (p.out + BN - 1)/BN;        /* neighbouring blocks share rows of x */
    const int64_t m0 = (int64_t)(blockIdx.x/columns)*BM;
    const int o0 = (int)(blockIdx.x%columns)*BN;
    const int warp = threadIdx.x/WARP, lane = threadIdx.x%WARP, piece = threadIdx.x%PIECES, row = threadIdx.x/PIECES;
    const int wm = warp/(BN/WN)*WM, wn = warp%(BN/WN)*WN;

    int64_t image[x_rows];
    int h[x_rows], w[x_rows];
    for (int i = 0; i < x_rows; i++) {
        const Corner corner(p, m0 + row + i*row_step);
        image[i] = corner.image;
        h[i] = corner.h;
        w[i] = corner.w;
    }
    Tap tap(p, piece*PIECE);
    const int steps = (p.K + STEP - 1)/STEP;

    auto load = [&](int step) {
        X *x_tile = tiles + step%STAGES*stage, *w_tile = x_tile + BM*STEP;
        const X *x = (const X *)p.x, *weight = (const X *)p.w;
#pragma unroll
        for (int i = 0; i < x_rows; i++) {
            Corner corner(image[i], h[i], w[i]);
            const bool there = corner.inside(p, tap);
            copy_async(piece_of(x_tile, row + i*row_step, piece), there ? x + corner.element(p, tap) : x, there);
        }
#pragma unroll
        for (int i = 0; i < w_rows; i++) {
            const int o = o0 + row + i*row_step;
            const bool there = o < p.out && tap.k < p.K;
            copy_async(piece_of(w_tile, row + i*row_step, piece), there ? weight + (int64_t)o*p.K + tap.k : weight,
                       there);
        }
        tap.advance(p, STEP);
    };

    float sum[WM/16][WN/8][4] = {};
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps)
            load(s);
        copy_commit();
    }
    for (int s = 0; s < steps; s++) {
        copy_wait<STAGES - 2>();
        __syncthreads();                /* step s is there for all, and all are done with the one before it */
        if (s + STAGES - 1 < steps)
            load(s + STAGES - 1);
        copy_commit();
        X *x_tile = tiles + s%STAGES*stage, *w_tile = x_tile + BM*STEP;
#pragma unroll
        for (int k = 0; k < PIECES; k += 2) {
            uint32_t a[WM/16][4], b[WN/16][4];
#pragma unroll
            for (int i = 0; i < WM/16; i++)
                load_matrices(a[i], piece_of(x_tile, wm + i*16 + lane%16, k + lane/16));
#pragma unroll
            for (int j = 0; j < WN/16; j++)         /* two pieces of 8 columns, then of the next 8 */
                load_matrices(b[j], piece_of(w_tile, wn + j*16 + lane/16*8 + lane%8, k + lane/8%2));
#pragma unroll
            for (int i = 0; i < WM/16; i++)
#pragma unroll
                for (int j = 0; j < WN/8; j++)
                    mma<X>(sum[i][j], a[i], &b[j/2][j%2*2]);
        }
    }

#pragma unroll
    for (int i = 0; i < WM/16; i++)
#pragma unroll
        for (int j = 0; j < WN/8; j++) {
            const int64_t m = m0 + wm + i*16 + lane/4;
            const int o = o0 + wn + j*8 + lane%4*2;
            store_pair<T>(p, m, o, sum[i][j][0], sum[i][j][1]);
            store_pair<T>(p, m + 8, o, sum[i][j][2], sum[i][j][3]);
        }
}

template <typename X, typename T, int BM, int BN, int WM, int WN> static void multiply_by(const Product *p)
{
    const int64_t blocks = (p->M + BM - 1)/BM*((p->out + BN - 1)/BN);
    LAUNCH((multiply<X, T, BM, BN, WM, WN>), (unsigned)blocks, (BM/WM)*(BN/WN)*WARP, STAGES*(BM + BN)*STEP*sizeof(X),
           *p);
}

static int64_t tiles(const Product *p, int BM, int BN)
{
    return (p->M + BM - 1)/BM*((p->out + BN - 1)/BN);
}

/* The widest tile that wastes no more than a tenth of its columns and leaves no multiprocessor without work. */
template <typename X, typename T> static void multiply_as(const Product *p)
{
    const int by64 = (p->out + 63)/64*64, by128 = (p->out + 127)/128*128;
    if (10*by128 <= 11*by64 && tiles(p, 128, 128) >= gpu_processors)
        multiply_by<X, T, 128, 128, 64, 32>(p);
    else if (tiles(p, 128, 64) >= gpu_processors)
        multiply_by<X, T, 128, 64, 32, 32>(p);
    else
        multiply_by<X, T, 64, 64, 32, 32>(p);
}

template <typename X> static void multiply_to(const Product *p, DType y_type)
{
    if (y_type == F32)
        multiply_as<X, float>(p);
    else if (y_type == F16)
        multiply_as<X, f16>(p);
    else
        multiply_as<X, X>(p);
}

void product_half(const Product *p, DType x_type, DType y_type)
{
    if (x_type == BF16)
        multiply_to<bf16>(p, y_type);
    else
        multiply_to<f16>(p, y_type);
}
