/* SPDX-License-Identifier: MIT */
/* norm.cu -- group norm with SiLU.
 *
 *     y[b,i,c] = act((x[b,i,c] - mean[b,g]) * rstd[b,g] * gamma[c] + beta[c]),  g = c/(C/groups)
 *     rstd = 1/sqrt(variance + eps)
 *
 *   x (B,HW,C) f32, f16 or of y's type, or two side by side, shift (B,C) added first; y f32, bf16 or f16
 *   Wu and He 2018 (arXiv 1803.08494); Ba et al. 2016 (arXiv 1607.06450). Variances are biased.
 *
 * Group norm is three kernels. Runs of rows: each channel's mean in the run, then its squared deviations from that
 * mean, so that nothing is lost to cancellation. Then a block a group joins runs and channels in double (Chan et al.
 * 1979: M2 = sum M2_i + n_i (mean_i - mean)^2) into one scale and one offset a channel. Then y. Runs depend on C alone
 * and are joined in one order, so an image's bytes do not depend on its neighbours.
 * Bound by memory: x is read twice and y written once. norm_hopper.cu reads it once, where it is asked for and a group
 * of an image fits in the shared memory of a few blocks. */
#include <assert.h>
#include "kernels/cuda/norm.h"

/* WIDEST: threads of a block, each of which can have the registers that MOST_ROWS of four channels take. */
enum { THREADS = 512, WIDEST = 640, MOST_ROWS = 12 };

typedef struct GroupNorm {
    const void *x;                  /* (B,HW,C_x) */
    const void *beside;             /* (B,HW,C - C_x) */
    const float *shift, *gamma, *beta;
    float *parts;                   /* (B, runs, 2, C): mean and M2 of each channel in each run */
    float *affine;                  /* (B, 2, C): scale and offset that make y of x */
    int64_t HW;
    int C_x, C, groups;
    int rows, runs;                 /* rows: of a run, MOST_ROWS a thread; the last run may have fewer */
    float eps;
} GroupNorm;

/* How the threads of a block share a run: `lanes` beside each other take `each` channels apiece, `down` of them one
 * under another every down-th row. */
typedef struct Share { int lanes, down; } Share;

static Share share_for(int C, int each)
{
    const int lanes = C/each < WIDEST ? C/each : WIDEST;
    return Share{lanes, THREADS/lanes > 1 ? THREADS/lanes : 1};
}

static unsigned threads_of(const Share *s)
{
    return (unsigned)(s->lanes*s->down + WARP - 1)/WARP*WARP;
}

/* Rows of `rows` that the r-th of `down` has. */
__device__ __forceinline__ int rows_of(int rows, int r, int down)
{
    return rows > r ? (rows - r + down - 1)/down : 0;
}

/* Where channel c of a row begins: in x, or in what is beside it, whose rows have *width channels. X: x's type. */
template <typename X>
__device__ __forceinline__ const X *channel(const GroupNorm &g, int64_t row, int c, int *width)
{
    const bool left = c < g.C_x;
    *width = left ? g.C_x : g.C - g.C_x;
    return left ? (const X *)g.x + row**width + c : (const X *)g.beside + row**width + c - g.C_x;
}

/* Block (run, image). A thread keeps its rows, for the mean and then the deviations; those under another are joined in
 * order. */
template <typename X, int each> static __global__ void run_moments(GroupNorm g, Share s)
{
    float *room = (float *)shared_memory();             /* (down, 2, lanes*each) */
    const int width = s.lanes*each, lane = threadIdx.x%s.lanes*each, r = threadIdx.x/s.lanes;
    const int64_t image = blockIdx.y, first = (int64_t)blockIdx.x*g.rows;
    const int rows = (int)(g.HW - first < g.rows ? g.HW - first : g.rows);
    const int mine = r < s.down ? rows_of(rows, r, s.down) : 0;
    float *mean = g.parts + (image*g.runs + blockIdx.x)*2*g.C, *M2 = mean + g.C;
    for (int left = 0; left < g.C; left += width) {
        const int c = left + lane;
        int row;
        const X *x = channel<X>(g, image*g.HW + first + r, c, &row);
        float v[MOST_ROWS][each], sum[each] = {}, square[each] = {}, center[each];
        if (c < g.C) {
            #pragma unroll
            for (int i = 0; i < MOST_ROWS; i++)
                if (i < mine)
                    load_run(v[i], x + (int64_t)i*s.down*row);
            #pragma unroll
            for (int i = 0; i < MOST_ROWS; i++)
                for (int j = 0; j < each && i < mine; j++)
                    sum[j] += v[i][j];
            for (int j = 0; j < each; j++)
                center[j] = mine ? sum[j]/(float)mine : 0;
            #pragma unroll
            for (int i = 0; i < MOST_ROWS; i++)
                for (int j = 0; j < each && i < mine; j++)
                    square[j] += (v[i][j] - center[j])*(v[i][j] - center[j]);
            for (int j = 0; j < each && r < s.down; j++) {
                room[2*r*width + lane + j] = center[j];
                room[(2*r + 1)*width + lane + j] = square[j];
            }
        }
        __syncthreads();
        for (int j = threadIdx.x; j < width && left + j < g.C; j += blockDim.x) {
            float all = 0, M = 0;
            for (int k = 0; k < s.down; k++)
                all += (float)rows_of(rows, k, s.down)*room[2*k*width + j];
            all /= (float)rows;
            for (int k = 0; k < s.down; k++) {
                const float d = room[2*k*width + j] - all;
                M += room[(2*k + 1)*width + j] + (float)rows_of(rows, k, s.down)*d*d;
            }
            mean[left + j] = all;
            M2[left + j] = M;
        }
        __syncthreads();
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

/* Block (run, image), shared as for the moments. as_is: NULL, or gets x. */
template <typename T, typename X, int each>
static __global__ void normalize(T *y, AsIs<T, X> *as_is, GroupNorm g, Activation act, Share share)
{
    const int width = share.lanes*each, lane = threadIdx.x%share.lanes*each, r = threadIdx.x/share.lanes;
    const int64_t image = blockIdx.y, first = (int64_t)blockIdx.x*g.rows;
    const int rows = (int)(g.HW - first < g.rows ? g.HW - first : g.rows);
    const int mine = r < share.down ? rows_of(rows, r, share.down) : 0;
    const float *scale = g.affine + image*2*g.C, *offset = scale + g.C;
    for (int c = lane; c < g.C; c += width) {
        float s[each], o[each];
        int row;
        const X *x = channel<X>(g, image*g.HW + first + r, c, &row);
        load_run(s, scale + c);
        load_run(o, offset + c);
        #pragma unroll 4
        for (int i = 0; i < mine; i++) {
            const int64_t at = (image*g.HW + first + r + (int64_t)i*share.down)*g.C + c;
            float v[each];
            load_run(v, x + (int64_t)i*share.down*row);
            if (as_is)
                store_run(as_is, at, v);
            for (int j = 0; j < each; j++)
                v[j] = activate_value(v[j]*s[j] + o[j], act);
            store_run(y, at, v);
        }
    }
}

template <typename T, typename X, int each>
static void launch_norm(T *y, void *as_is, GroupNorm g, int64_t B, Activation act)
{
    const Share s = share_for(g.C, each);
    g.rows = MOST_ROWS*s.down;
    g.runs = (int)((g.HW + g.rows - 1)/g.rows);
    g.affine = (float *)gpu_scratch(SCRATCH_OP, (size_t)B*2*(size_t)g.C*(size_t)(g.runs + 1)*sizeof(float));
    g.parts = g.affine + B*2*g.C;
    const dim3 grid((unsigned)g.runs, (unsigned)B);
    LAUNCH((run_moments<X, each>), grid, threads_of(&s), sizeof(float)*2*(size_t)(s.down*s.lanes*each), g, s);
    LAUNCH(join_moments, dim3((unsigned)g.groups, (unsigned)B), 128, 0, g);
    LAUNCH((normalize<T, X, each>), grid, threads_of(&s), 0, y, (AsIs<T, X> *)as_is, g, act, s);
}

template <typename T, typename X> static void norm_as(T *y, void *as_is, const GroupNorm &g, int64_t B, Activation act)
{
    if (g.C%4 == 0 && g.C_x%4 == 0
        && (((uintptr_t)y | (uintptr_t)as_is | (uintptr_t)g.x | (uintptr_t)g.beside)&15) == 0)
        launch_norm<T, X, 4>(y, as_is, g, B, act);
    else
        launch_norm<T, X, 1>(y, as_is, g, B, act);
}

template <typename T>
static void norm_from(T *y, void *as_is, DType x_type, const GroupNorm &g, int64_t B, Activation act)
{
    if (x_type == F32)
        norm_as<T, float>(y, as_is, g, B, act);
    else if (x_type == F16)
        norm_as<T, f16>(y, as_is, g, B, act);
    else
        norm_as<T, T>(y, as_is, g, B, act);
}

void cuda_group_norm(void *y, DType y_type, void *as_is, const NormInput *in, const float *gamma, const float *beta,
                     int64_t B, int64_t HW, int groups, float eps, Activation act)
{
    assert(in->type == F32 || in->type == F16 || in->type == y_type);
    if (norm_by_clusters(y, y_type, as_is, in, gamma, beta, B, HW, groups, eps, act))
        return;
    const GroupNorm g = {in->x, in->beside, in->shift, gamma, beta, NULL, NULL, HW, in->C, in->C + in->C_beside, groups,
                         0, 0, eps};
    if (y_type == F32)
        norm_from((float *)y, as_is, in->type, g, B, act);
    else if (y_type == BF16)
        norm_from((bf16 *)y, as_is, in->type, g, B, act);
    else
        norm_from((f16 *)y, as_is, in->type, g, B, act);
}
