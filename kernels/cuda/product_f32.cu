/* SPDX-License-Identifier: MIT */
/* product_f32.cu -- the product of product.h in f32 throughout, no TF32: for comparing with the CPU and with others.
 *
 * A block makes a tile of 128 points by 64 channels, in steps of 16 of k; a thread makes 8 by 4 of it. The next step is
 * read into registers while this one is multiplied. Tiles lie in shared memory with k outermost, so that a thread's 8
 * points and 4 channels are three 16-byte reads for 32 multiply-adds. Bound by arithmetic of the f32 units. */
#include "kernels/cuda/product.h"

enum { BM = 128, BN = 64, STEP = 16, THREADS = 256, TM = 8, TN = 4, X_ROW = BM + 4, W_ROW = BN + 4 };

static __global__ void __launch_bounds__(THREADS) multiply_f32(const Product p)
{
    __shared__ __align__(16) float x_tile[STEP][X_ROW], w_tile[STEP][W_ROW];
    const int columns = (p.out + BN - 1)/BN;
    const int64_t m0 = (int64_t)(blockIdx.x/columns)*BM;
    const int o0 = (int)(blockIdx.x%columns)*BN;
    const int row = threadIdx.x/4, four = threadIdx.x%4*4;             /* of a tile, to be copied */
    const int tm = threadIdx.x/16*TM, tn = threadIdx.x%16*TN;         /* of the tile, to be made */
    const Corner corner[2] = {Corner(p, m0 + row), Corner(p, m0 + row + 64)};
    const float *x = (const float *)p.x, *w = (const float *)p.w;
    const float4 zero = make_float4(0, 0, 0, 0);
    Tap tap(p, four);

    float4 x_next[2], w_next;
    auto read = [&]() {
        for (int i = 0; i < 2; i++)
            x_next[i] = corner[i].inside(p, tap) ? *(const float4 *)(x + corner[i].element(p, tap)) : zero;
        const int o = o0 + row;
        w_next = o < p.out && tap.k < p.K ? *(const float4 *)(w + (int64_t)o*p.K + tap.k) : zero;
        tap.advance(p, STEP);
    };
    auto turn = [&](float *column, int width, float4 v) {
        column[0] = v.x;
        column[width] = v.y;
        column[2*width] = v.z;
        column[3*width] = v.w;
    };

    float sum[TM][TN] = {};
    read();
    for (int k = 0; k < p.K; k += STEP) {
        __syncthreads();
        for (int i = 0; i < 2; i++)
            turn(&x_tile[four][row + i*64], X_ROW, x_next[i]);
        turn(&w_tile[four][row], W_ROW, w_next);
        __syncthreads();
        if (k + STEP < p.K)
            read();
#pragma unroll
        for (int j = 0; j < STEP; j++) {
            float a[TM], b[TN];
            *(float4 *)&a[0] = *(const float4 *)&x_tile[j][tm];
            *(float4 *)&a[4] = *(const float4 *)&x_tile[j][tm + 4];
            *(float4 *)&b[0] = *(const float4 *)&w_tile[j][tn];
#pragma unroll
            for (int r = 0; r < TM; r++)
#pragma unroll
                for (int c = 0; c < TN; c++)
                    sum[r][c] = fmaf(a[r], b[c], sum[r][c]);
        }
    }
    const int o = o0 + tn;
    const bool fours = p.out%TN == 0 && ((uintptr_t)p.y&15) == 0;
    for (int r = 0; r < TM; r++) {
        const int64_t m = m0 + tm + r;
        float *y = (float *)p.y + m*p.out + o;
        for (int c = 0; c < TN; c++)
            if (m < p.M && o + c < p.out)
                sum[r][c] = product_finish<float>(p, sum[r][c], m, o + c);
        if (fours && m < p.M && o < p.out)
            *(float4 *)y = make_float4(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
        else if (!fours)
            for (int c = 0; c < TN; c++)
                if (m < p.M && o + c < p.out)
                    y[c] = sum[r][c];
    }
}

void product_f32(const Product *p)
{
    LAUNCH(multiply_f32, (unsigned)((p->M + BM - 1)/BM*((p->out + BN - 1)/BN)), THREADS, 0, *p);
}
