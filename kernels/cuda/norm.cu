/* SPDX-License-Identifier: MIT */
/* norm.cu -- group norm with SiLU, and layer norm.
 *
 *     group   y[b,i,c] = act((x[b,i,c] - mean[b,g]) * rstd[b,g] * gamma[c] + beta[c]),  g = c/(C/groups)
 *     layer   y[n,d]   = (x[n,d] - mean[n]) * rstd[n] * gamma[d] + beta[d],      rstd = 1/sqrt(variance + eps)
 *
 *   x (B,HW,C) f32, shift (B,C) added to it first; y f32 or bf16      x (N,D) f32
 *   Wu and He 2018 (arXiv 1803.08494); Ba et al. 2016 (arXiv 1607.06450). Variances are biased.
 *
 * Group norm is three kernels. Runs of rows: each channel's mean in the run, then its squared deviations from that
 * mean, so that nothing is lost to cancellation. Then a block a group joins runs and channels in double (Chan et al.
 * 1979: M2 = sum M2_i + n_i (mean_i - mean)^2) into one scale and one offset a channel. Then y. Runs depend on C alone
 * and are joined in one order, so an image's bytes do not depend on its neighbours.
 * Bound by memory: x is read three times, the second time from the first-level cache, and y written once. */
#include "kernels/cuda/cuda.h"

enum { RUN_VALUES = 16384, LEAST_ROWS = 16 };

typedef struct GroupNorm {
    const float *x, *shift, *gamma, *beta;
    float *parts;                   /* (B, runs, 2, C): mean and M2 of each channel in each run */
    float *affine;                  /* (B, 2, C): scale and offset that make y of x */
    int64_t HW;
    int C, groups, rows, runs;      /* rows: of a run; the last run may have fewer */
    float eps;
} GroupNorm;

/* Block (run, image); a thread takes channels, and goes down the run's rows twice. Neighbours read neighbours. */
static __global__ void run_moments(GroupNorm g)
{
    const int64_t image = blockIdx.y, first = (int64_t)blockIdx.x*g.rows;
    const int rows = (int)(g.HW - first < g.rows ? g.HW - first : g.rows);
    float *mean = g.parts + (image*g.runs + blockIdx.x)*2*g.C, *M2 = mean + g.C;
    for (int c = threadIdx.x; c < g.C; c += blockDim.x) {
        const float *x = g.x + (image*g.HW + first)*g.C + c;
        float sum = 0, square = 0;
        for (int i = 0; i < rows; i++)
            sum += x[(int64_t)i*g.C];
        const float center = sum/(float)rows;
        for (int i = 0; i < rows; i++) {
            const float d = x[(int64_t)i*g.C] - center;
            square += d*d;
        }
        mean[c] = center;
        M2[c] = square;
    }
}

/* Block (group, image); a thread takes pairs of run and channel. The shift moves a mean and no deviation. */
static __global__ void join_moments(GroupNorm g)
{
    __shared__ double room[WARP];
    const int64_t image = blockIdx.y;
    const int width = g.C/g.groups, first = blockIdx.x*width;
    const float *parts = g.parts + image*g.runs*2*g.C, *shift = g.shift ? g.shift + image*g.C : NULL;
    const double values = (double)g.HW*width;

    double sum = 0, M2 = 0;
    for (int i = threadIdx.x; i < g.runs*width; i += blockDim.x) {
        const int run = i/width, c = first + i%width;
        const double rows = (double)(run < g.runs - 1 ? g.rows : g.HW - (int64_t)run*g.rows);
        sum += rows*((double)parts[(int64_t)2*run*g.C + c] + (shift ? (double)shift[c] : 0));
    }
    const double mean = block_sum(sum, room)/values;
    for (int i = threadIdx.x; i < g.runs*width; i += blockDim.x) {
        const int run = i/width, c = first + i%width;
        const double rows = (double)(run < g.runs - 1 ? g.rows : g.HW - (int64_t)run*g.rows);
        const double d = (double)parts[(int64_t)2*run*g.C + c] + (shift ? (double)shift[c] : 0) - mean;
        M2 += (double)parts[((int64_t)2*run + 1)*g.C + c] + rows*d*d;
    }
    const double rstd = 1/sqrt(block_sum(M2, room)/values + (double)g.eps);

    float *scale = g.affine + image*2*g.C, *offset = scale + g.C;
    for (int c = first + threadIdx.x; c < first + width; c += blockDim.x) {
        scale[c] = (float)(rstd*(double)g.gamma[c]);
        offset[c] = (float)((double)g.beta[c] + ((shift ? (double)shift[c] : 0) - mean)*rstd*(double)g.gamma[c]);
    }
}

/* Block (run, image); a thread takes a channel, or four neighbours, down the run's rows. */
template <typename T, int each> static __global__ void normalize(T *y, GroupNorm g, Activation act)
{
    const int64_t image = blockIdx.y, first = (int64_t)blockIdx.x*g.rows;
    const int64_t end = g.HW - first < g.rows ? g.HW : first + g.rows;
    const float *scale = g.affine + image*2*g.C, *offset = scale + g.C;
    for (int c = threadIdx.x*each; c < g.C; c += blockDim.x*each) {
        float s[each], o[each];
        for (int j = 0; j < each; j++) {
            s[j] = scale[c + j];
            o[j] = offset[c + j];
        }
        for (int64_t i = first; i < end; i++) {
            const int64_t at = (image*g.HW + i)*g.C + c;
            if constexpr (each == 4) {
                const float4 v = *(const float4 *)(g.x + at);
                store4(y, at, make_float4(activate_value(v.x*s[0] + o[0], act), activate_value(v.y*s[1] + o[1], act),
                                          activate_value(v.z*s[2] + o[2], act), activate_value(v.w*s[3] + o[3], act)));
            } else {
                y[at] = from_float<T>(activate_value(g.x[at]*s[0] + o[0], act));
            }
        }
    }
}

static unsigned threads_for(int columns)
{
    return columns >= 256 ? 256u : (unsigned)(columns + WARP - 1)/WARP*WARP;
}

template <typename T> static void normalize_as(T *y, const GroupNorm *g, int64_t B, Activation act)
{
    const dim3 grid((unsigned)g->runs, (unsigned)B);
    if (g->C%4 == 0 && (((uintptr_t)y | (uintptr_t)g->x)&15) == 0)
        LAUNCH((normalize<T, 4>), grid, threads_for(g->C/4), 0, y, *g, act);
    else
        LAUNCH((normalize<T, 1>), grid, threads_for(g->C), 0, y, *g, act);
}

void cuda_group_norm(void *y, DType y_type, const float *x, const float *shift, const float *gamma, const float *beta,
                     int64_t B, int64_t HW, int C, int groups, float eps, Activation act)
{
    GroupNorm g = {x, shift, gamma, beta, NULL, NULL, HW, C, groups, 0, 0, eps};
    g.rows = RUN_VALUES/C > LEAST_ROWS ? RUN_VALUES/C : LEAST_ROWS;
    g.runs = (int)((HW + g.rows - 1)/g.rows);
    g.affine = (float *)gpu_scratch(SCRATCH_OP, (size_t)B*2*(size_t)C*(size_t)(g.runs + 1)*sizeof(float));
    g.parts = g.affine + B*2*C;
    LAUNCH(run_moments, dim3((unsigned)g.runs, (unsigned)B), threads_for(C), 0, g);
    LAUNCH(join_moments, dim3((unsigned)groups, (unsigned)B), 128, 0, g);
    if (y_type == F32)
        normalize_as((float *)y, &g, B, act);
    else
        normalize_as((bf16 *)y, &g, B, act);
}

enum { ROWS = 8 };      /* of a block */

/* One warp a row, which it reads three times: from memory, then from the first-level cache. Each value is read and
 * written by one lane, and all are read for the sums before any is written, so y may be x. */
template <typename T>
static __global__ void layer_norm(T *y, const float *x, const float *gamma, const float *beta, int64_t N, int D,
                                  float eps)
{
    const int64_t n = (int64_t)blockIdx.x*ROWS + threadIdx.x/WARP;
    const int lane = threadIdx.x%WARP;
    if (n >= N)
        return;
    const float *row = x + n*D;
    float sum = 0, square = 0;
    for (int d = lane; d < D; d += WARP)
        sum += row[d];
    const float mean = warp_sum(sum)/(float)D;
    for (int d = lane; d < D; d += WARP)
        square += (row[d] - mean)*(row[d] - mean);
    const float rstd = 1/sqrtf(warp_sum(square)/(float)D + eps);
    for (int d = lane; d < D; d += WARP)
        y[n*D + d] = from_float<T>((row[d] - mean)*rstd*gamma[d] + beta[d]);
}

void cuda_layer_norm(void *y, DType y_type, const float *x, const float *gamma, const float *beta, int64_t N, int D,
                     float eps)
{
    const unsigned blocks = gpu_blocks(N, ROWS);
    if (y_type == F32)
        LAUNCH(layer_norm<float>, blocks, ROWS*WARP, 0, (float *)y, x, gamma, beta, N, D, eps);
    else
        LAUNCH(layer_norm<bf16>, blocks, ROWS*WARP, 0, (bf16 *)y, x, gamma, beta, N, D, eps);
}
