/* SPDX-License-Identifier: MIT */
/* product_few.cu -- the product of product.h in f32 for a linear layer that is said to have few rows (ConvSpec.rows):
 * what a network is told once an evaluation, its time above all.
 *
 * A warp makes an output of ROWS rows: a lane has every 32nd four of k, in four chains of sums, which are then joined
 * over the lanes. So a row's bytes do not depend on how many there are. Bound by memory: of the weights each value is
 * read once for ROWS rows. */
#include "kernels/cuda/product.h"

enum { ROWS = 4, WARPS = 8 };

static __global__ void __launch_bounds__(WARPS*WARP) multiply_few(const Product p)
{
    const int blocks = (p.out + WARPS - 1)/WARPS, lane = threadIdx.x%WARP;
    const int o = (int)(blockIdx.x%blocks)*WARPS + (int)threadIdx.x/WARP;
    const int64_t first = (int64_t)(blockIdx.x/blocks)*ROWS;
    const float *x = (const float *)p.x + first*p.K, *w = (const float *)p.w + (int64_t)o*p.K;
    float sum[ROWS][4] = {};
    if (o >= p.out)
        return;
    #pragma unroll 5
    for (int k = 4*lane; k < p.K; k += 4*WARP) {
        const float4 b = *(const float4 *)(w + k);
        #pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (first + r < p.M) {
                const float4 a = *(const float4 *)(x + r*(int64_t)p.K + k);
                sum[r][0] = fmaf(a.x, b.x, sum[r][0]);
                sum[r][1] = fmaf(a.y, b.y, sum[r][1]);
                sum[r][2] = fmaf(a.z, b.z, sum[r][2]);
                sum[r][3] = fmaf(a.w, b.w, sum[r][3]);
            }
    }
    #pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const float all = warp_sum((sum[r][0] + sum[r][1]) + (sum[r][2] + sum[r][3]));
        if (lane == 0 && first + r < p.M)
            ((float *)p.y)[(first + r)*p.out + o] = product_finish<float>(p, all, first + r, o);
    }
}

void product_few(const Product *p)
{
    LAUNCH(multiply_few, gpu_blocks(p->out, WARPS)*gpu_blocks(p->M, ROWS), WARPS*WARP, 0, *p);
}
