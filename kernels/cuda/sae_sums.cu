/* SPDX-License-Identifier: MIT */
/* sae_sums.cu -- sums over rows and over everything, in an order that depends on the sizes alone.
 *
 *     center    y = x - b                                    difference    g = y - x, sum of g^2
 *     moments   mean[d] = sum_n x[n,d]/N, sum of (x - mean)^2   column_sum   y[d] += c sum_n w[n] x[n,d]
 *
 *   x, y (N,D)   mean, b (D)   w (N)
 *
 * Parts of a fixed size are summed by one block each, in f32, and then the parts, in double, by one block: no float is
 * ever added to memory by two blocks. Bound by memory: x is read once a pass, and there are as many parts as fill a
 * device at the sizes that take time (4096 x 1280: 640 of values, 64 x 5 of columns). */
#include "kernels/cuda/sae_cuda.h"

enum { PART = 8192, EACH = 256, AT_ONCE = 8, JOIN_THREADS = 1024, JOIN_COLUMNS = WARP, JOIN_WARPS = WARP };

static __global__ void subtract_row(float *y, const float *x, const float *b, int D)
{
    const int64_t n = blockIdx.x;
    for (int d = threadIdx.x; d < D; d += blockDim.x)
        y[n*D + d] = x[n*D + d] - b[d];
}

static void center(float *y, const float *x, const float *b, int64_t N, int D)
{
    LAUNCH(subtract_row, (unsigned)N, sae_threads(D, EACH), 0, y, x, b, D);
}

/* ---- over everything ---- */

/* One block a part: g = y - x (y NULL: x; g NULL: not written), and the sum of its squares. */
static __global__ void square_part(double *part, float *g, const float *y, const float *x, int64_t n)
{
    __shared__ double room[WARP];
    const int64_t from = (int64_t)blockIdx.x*PART, to = min(from + PART, n);
    float sum = 0;
    for (int64_t first = from + threadIdx.x; first < to; first += AT_ONCE*EACH) {
        float d[AT_ONCE];                       /* all loads before a store, which might be to what is loaded */
        #pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const int64_t j = first + u*EACH;
            d[u] = j >= to ? 0 : y ? y[j] - x[j] : x[j];
        }
        #pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const int64_t j = first + u*EACH;
            if (g && j < to)
                g[j] = d[u];
            sum += d[u]*d[u];
        }
    }
    const double square = block_sum((double)sum, room);
    if (threadIdx.x == 0)
        part[blockIdx.x] = square;
}

/* One block: *total = sum of n parts */
static __global__ void join_parts(double *total, const double *part, int64_t n)
{
    __shared__ double room[WARP];
    double sum = 0;
    #pragma unroll 8
    for (int64_t j = threadIdx.x; j < n; j += JOIN_THREADS)
        sum += part[j];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        *total = sum;
}

void sae_join_sum(double *total, const double *part, int64_t n)
{
    LAUNCH(join_parts, 1, JOIN_THREADS, 0, total, part, n);
}

void sae_difference(float *g, double *square, const float *y, const float *x, int64_t n)
{
    const unsigned parts = gpu_blocks(n, PART);
    double *part = (double *)gpu_scratch(SCRATCH_SAE2, sizeof *part*(size_t)parts);
    LAUNCH(square_part, parts, EACH, 0, part, g, y, x, n);
    sae_join_sum(square, part, parts);
}

static void sum_squares(double *square, const float *x, int64_t n)
{
    sae_difference(NULL, square, NULL, x, n);
}

/* ---- over rows ---- */

/* Block (run of rows, strip of columns); a thread goes down a column: parts[run,d] = sum of w[n] x[n,d], or of
 * (x[n,d] - mean[d])^2. */
static __global__ void sum_runs(float *parts, const float *mean, const float *w, const float *x, int64_t N, int D)
{
    const int d = blockIdx.y*STRIP + threadIdx.x;
    const int64_t from = (int64_t)blockIdx.x*RUN, to = min(from + RUN, N);
    if (d >= D)
        return;
    const float m = mean ? mean[d] : 0;
    float sum = 0;
    #pragma unroll 8
    for (int64_t n = from; n < to; n++) {
        const float v = x[n*D + d] - m;
        sum += mean ? v*v : w ? w[n]*v : v;
    }
    parts[(int64_t)blockIdx.x*D + d] = sum;
}

/* One block JOIN_COLUMNS columns; a warp has every JOIN_WARPS-th run of them, then a warp a column has the warps' sums.
 * The sum goes to what is given: y += c sum, mean = sum/N, whole[d] = sum. */
static __global__ void join_runs(float *y, float c, float *mean, double *whole, const float *parts, int64_t runs,
                                 int64_t N, int D)
{
    __shared__ double room[JOIN_WARPS][JOIN_COLUMNS + 1];
    const int lane = threadIdx.x%WARP, warp = threadIdx.x/WARP, first = blockIdx.x*JOIN_COLUMNS;
    double sum = 0;
    #pragma unroll 8
    for (int64_t r = warp; r < runs; r += JOIN_WARPS)
        sum += first + lane < D ? (double)parts[r*D + first + lane] : 0;
    room[warp][lane] = sum;
    __syncthreads();
    sum = warp_sum(room[lane][warp]);
    const int d = first + warp;
    if (lane > 0 || d >= D)
        return;
    if (y)
        y[d] += c*(float)sum;
    if (mean)
        mean[d] = (float)(sum/(double)N);
    if (whole)
        whole[d] = sum;
}

static void join(float *y, float c, float *mean, double *whole, const float *parts, int64_t runs, int64_t N, int D)
{
    LAUNCH(join_runs, gpu_blocks(D, JOIN_COLUMNS), JOIN_WARPS*WARP, 0, y, c, mean, whole, parts, runs, N, D);
}

void sae_add_runs(float *y, float c, const float *parts, int64_t runs, int D)
{
    join(y, c, NULL, NULL, parts, runs, 1, D);
}

static void moments(float *mean, double *spread, const float *x, int64_t N, int D)
{
    const dim3 grid = sae_runs(N, D);
    const size_t width = (size_t)D;
    double *whole = (double *)gpu_scratch(SCRATCH_SAE2, sizeof *whole*width + sizeof(float)*grid.x*width);
    float *parts = (float *)(whole + width);
    const float *none = NULL;
    LAUNCH(sum_runs, grid, STRIP, 0, parts, none, none, x, N, D);
    join(NULL, 0, mean, NULL, parts, grid.x, N, D);
    LAUNCH(sum_runs, grid, STRIP, 0, parts, mean, none, x, N, D);
    join(NULL, 0, NULL, whole, parts, grid.x, N, D);
    sae_join_sum(spread, whole, D);
}

static void column_sum(float *y, float c, const float *w, const float *x, int64_t N, int D)
{
    const dim3 grid = sae_runs(N, D);
    float *parts = (float *)gpu_scratch(SCRATCH_SAE2, sizeof *parts*(size_t)grid.x*(size_t)D);
    LAUNCH(sum_runs, grid, STRIP, 0, parts, (const float *)NULL, w, x, N, D);
    sae_add_runs(y, c, parts, grid.x, D);
}

void cuda_sae_sum_ops(SaeOps *ops)
{
    ops->center = center;
    ops->moments = moments;
    ops->difference = sae_difference;
    ops->sum_squares = sum_squares;
    ops->column_sum = column_sum;
}
