/* SPDX-License-Identifier: MIT */
/* norm_hopper.cu -- group norm (norm.cu) that reads x once, by clusters of compute capability 9.0.
 *
 *   x (B,HW,C_x) f32, f16 or of y's type, beside (B,HW,C - C_x) of that, shift (B,C); y (B,HW,C) f32, bf16 or f16
 *   as_is (B,HW,C) of x's type, or of y's where x is f32
 *
 * A cluster holds all rows of a part of an image's channels, some whole groups, in its blocks' shared memory, each
 * block a run of rows. Each thread has 16 bytes of every down-th row, which it copies there and alone reads again;
 * they belong to two groups at most, and of its values in each it gives the mean, then the squared deviations from
 * that mean. A warp a group joins those of a block's threads (Chan et al. 1979), then each block those of all blocks
 * by rank: in one order, in double but for what is handed on. How an image is cut depends on the layer's shape and the
 * device alone.
 *
 * Bound by memory: x is read once and y written once. Two blocks or more share a multiprocessor where they fit, so that
 * one's copies run beside the other's sums and stores. */
#include <numeric>
#include "kernels/cuda/hopper.h"
#include "kernels/cuda/hopper_map.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/norm.h"

/* SMALL: bytes of x in a block, from which on it is cut in more blocks, MOST_BLOCKS at the most. */
enum { MOST_THREADS = 1024, MOST_ROWS = 12, MOST_BLOCKS = 8, MOST_GROUPS = 16, SMALL = 32*1024 };

/* The layer, and how an image is cut: in parts of `channels`, whose rows are in `blocks` runs of `rows`. */
typedef struct Parts {
    const void *x, *beside;
    const float *shift, *gamma, *beta;
    int64_t HW;
    int C_x, C, width;                  /* width: channels of a group */
    int channels, blocks, rows;
    int pieces, down;                   /* threads beside each other, of 16 bytes each, and under one another */
    double per;                         /* 1/(HW*width) */
    float eps;
} Parts;

/* Shared memory begins with it; then a Moments a thread, then x (rows, channels). */
typedef struct Joined {
    float mean[MOST_GROUPS], M2[MOST_GROUPS];           /* of this block's rows: read by the cluster */
    float all_mean[MOST_GROUPS], rstd[MOST_GROUPS];     /* of all rows */
} Joined;

/* Of a thread's values in the group of its first channel, and in the next one. */
typedef struct alignas(16) Moments { float mean[2], M2[2]; } Moments;

static_assert(sizeof(Joined)%16 == 0 && sizeof(Moments) == 16, "x begins at a multiple of 16");

static unsigned threads_of(const Parts *p)
{
    return (unsigned)(p->pieces*p->down + WARP - 1)/WARP*WARP;
}

static size_t shared_of(const Parts *p)
{
    return sizeof(Joined) + threads_of(p)*sizeof(Moments) + (size_t)p->rows*(size_t)p->pieces*16;
}

#if defined SIMT || !defined __CUDA_ARCH__ || __CUDA_ARCH__ >= 900

/* SiLU; for halves, which have 11 bits at most, by the approximate exp and division. */
template <typename T> __device__ __forceinline__ float silu(float x)
{
    return sizeof(T) == 2 ? __fdividef(x, 1 + __expf(-x)) : activate_value(x, ACT_SILU);
}

/* Rows of an image that the block of a rank has. */
__device__ __forceinline__ int rows_at(const Parts &p, int rank)
{
    const int64_t left = p.HW - (int64_t)rank*p.rows;
    return (int)(left < 0 ? 0 : left < p.rows ? left : p.rows);
}

/* A lane's way over the threads that have values of a group: all of `across` beside each other, then those under them,
 * every 32nd. */
struct Walk {
    int r, q;

    __device__ __forceinline__ void advance(int across)
    {
        r += WARP/across;
        q += WARP%across;
        if (q >= across) {
            q -= across;
            r++;
        }
    }
};

/* Two sums at a time: what waits for one would wait for the other again. */
__device__ __forceinline__ void warp_sums(double &a, double &b)
{
    #pragma unroll
    for (int step = WARP/2; step; step /= 2) {
        const double u = __shfl_xor_sync(ALL_LANES, a, step), v = __shfl_xor_sync(ALL_LANES, b, step);
        a += u;
        b += v;
    }
}

/* One warp: the moments of a group, the k-th of the part, in this block's `rows`. Deviations are from one thread's mean
 * until there is the group's: sum (x - m)^2 = sum (x - r)^2 - n (m - r)^2. */
template <int each>
__device__ __forceinline__ void join_threads(Joined *joined, const Moments *of, const Parts &p, int k, int rows)
{
    const int lane = threadIdx.x%WARP, begin = k*p.width, end = begin + p.width;
    const int first = begin/each, across = (end - 1)/each + 1 - first, all = rows*p.width;
    const int fewer = rows/p.down, more = rows%p.down;  /* a thread has `fewer` rows, the first `more` have one more */
    const double from = (double)of[first].mean[first*each < begin];
    double sum = 0, square = 0;
    for (Walk at = {lane/across, lane%across}; at.r < p.down; at.advance(across)) {
        const int c = (first + at.q)*each, n = (fewer + (at.r < more))*(min(c + each, end) - max(c, begin));
        const Moments &m = of[at.r*p.pieces + first + at.q];
        const double d = (double)m.mean[c < begin] - from;
        sum += (double)n*d;
        square += (double)m.M2[c < begin] + (double)n*d*d;
    }
    warp_sums(sum, square);
    if (lane == 0) {
        joined->mean[k] = all ? (float)(from + sum/all) : 0;
        joined->M2[k] = all ? (float)fmax(square - sum*sum/all, 0.0) : 0;
    }
}

/* One warp: the group's mean and deviation over all blocks; lane r has the block of rank r. Deviations as above, from
 * the first block's mean. */
__device__ __forceinline__ void join_blocks(Joined *joined, const Parts &p, int k)
{
    const int lane = threadIdx.x%WARP;
    const bool there = lane < p.blocks;
    const double n = there ? (double)(rows_at(p, lane)*p.width) : 0;
    const double mean = there ? (double)load_at(&joined->mean[k], (unsigned)lane) : 0;
    double square = there ? (double)load_at(&joined->M2[k], (unsigned)lane) : 0;
    const double from = __shfl_sync(ALL_LANES, mean, 0), d = mean - from;
    double sum = n*d;
    square += n*d*d;
    warp_sums(sum, square);
    if (lane == 0) {
        joined->all_mean[k] = (float)(from + sum*p.per);
        joined->rstd[k] = 1/sqrtf((float)fmax((square - sum*sum*p.per)*p.per, 0.0) + p.eps);
    }
}

/* Cluster (part, image) of p.blocks. */
template <typename X, typename T, bool with_silu>
static __global__ void __launch_bounds__(MOST_THREADS) norm_part(T *y, AsIs<T, X> *as_is, Parts p)
{
    constexpr int each = 16/(int)sizeof(X);
    Joined *joined = (Joined *)shared_memory();
    Moments *moments = (Moments *)(joined + 1);
    X *kept = (X *)(moments + blockDim.x) + threadIdx.x*each;
    const int q = threadIdx.x%p.pieces, r = threadIdx.x/p.pieces, rank = blockIdx.x%p.blocks;
    const int rows = rows_at(p, rank), mine = r < p.down ? rows/p.down + (r < rows%p.down) : 0;
    const int c = blockIdx.x/p.blocks*p.channels + q*each, next = p.down*p.pieces*each;
    const int64_t image = blockIdx.y, row = image*p.HW + (int64_t)rank*p.rows + r;

    const bool left = c < p.C_x;
    const int C_from = left ? p.C_x : p.C - p.C_x;
    const X *from = left ? (const X *)p.x + row*C_from + c : (const X *)p.beside + row*C_from + c - p.C_x;
    for (int i = 0; i < mine; i++)
        copy_async_near(kept + i*next, from + (int64_t)i*p.down*C_from);
    copy_commit();

    float shift[each];
    for (int j = 0; j < each; j++)
        shift[j] = p.shift ? p.shift[image*p.C + c + j] : 0;

    /* of this thread's channels the first `split` are in the k-th group of the part, the others in the next */
    const int k = q*each/p.width, split = min(each, (k + 1)*p.width - q*each);
    float sum[each] = {}, square[each] = {};
    Moments m = {};
    copy_wait<0>();
    #pragma unroll (8/each)
    for (int i = 0; i < mine; i++) {
        float v[each];
        load_run(v, kept + i*next);
        for (int j = 0; j < each; j++)
            sum[j] += v[j];
    }
    for (int j = 0; j < each; j++) {
        const float all = fmaf((float)mine, shift[j], sum[j]);
        m.mean[0] += j < split ? all : 0;
        m.mean[1] += j < split ? 0 : all;
    }
    m.mean[0] = mine ? m.mean[0]/(float)(mine*split) : 0;
    m.mean[1] = mine && split < each ? m.mean[1]/(float)(mine*(each - split)) : 0;
    for (int j = 0; j < each; j++)
        sum[j] = (j < split ? m.mean[0] : m.mean[1]) - shift[j];
    #pragma unroll (8/each)
    for (int i = 0; i < mine; i++) {
        float v[each];
        load_run(v, kept + i*next);
        for (int j = 0; j < each; j++)
            square[j] = fmaf(v[j] - sum[j], v[j] - sum[j], square[j]);
    }
    for (int j = 0; j < each; j++) {
        m.M2[0] += j < split ? square[j] : 0;
        m.M2[1] += j < split ? 0 : square[j];
    }
    moments[threadIdx.x] = m;
    __syncthreads();

    const int warp = (int)threadIdx.x/WARP, warps = (int)blockDim.x/WARP, together = p.channels/p.width;
    for (int g = warp; g < together; g += warps)
        join_threads<each>(joined, moments, p, g, rows);
    if (warp < together)
        cluster_arrive();
    else
        cluster_arrive_relaxed();                       /* has nothing to show */
    float gamma[each], beta[each];
    for (int j = 0; j < each; j++) {
        gamma[j] = p.gamma[c + j];
        beta[j] = p.beta[c + j];
    }
    cluster_wait();
    for (int g = warp; g < together; g += warps)
        join_blocks(joined, p, g);
    __syncthreads();
    cluster_arrive_relaxed();                           /* has read what others hold */

    float scale[each], offset[each];
    for (int j = 0; j < each; j++) {
        const int g = j < split ? k : k + 1;
        scale[j] = joined->rstd[g]*gamma[j];
        offset[j] = fmaf((p.shift ? p.shift[image*p.C + c + j] : 0) - joined->all_mean[g], scale[j], beta[j]);
    }
    #pragma unroll (8/each)
    for (int i = 0; i < mine; i++) {
        const int64_t at = (row + (int64_t)i*p.down)*p.C + c;
        float v[each];
        load_run(v, kept + i*next);
        if (as_is)
            store_run(as_is, at, v);
        for (int j = 0; j < each; j++) {
            v[j] = fmaf(v[j], scale[j], offset[j]);
            v[j] = with_silu ? silu<T>(v[j]) : v[j];
        }
        store_run(y, at, v);
    }
    cluster_wait();                                     /* others have read what this block holds */
}

#else

/* It is started on compute capability 9 alone; this is there for devices of other kinds to load. */
template <typename X, typename T, bool with_silu> static __global__ void norm_part(T *, AsIs<T, X> *, Parts)
{
    __trap();
}

#endif

/* ---- starting it ---- */

/* Parts of whole groups and whole units of `unit` channels, the smallest; false where blocks of `room` bytes of shared
 * memory do not hold one. */
static bool cut(Parts *p, int groups, int each, int unit, int room)
{
    const int together = unit/std::gcd(unit, p->width);
    p->channels = together*p->width;
    p->pieces = p->channels/each;
    if (together > MOST_GROUPS || groups%together || p->pieces > MOST_THREADS || p->HW > INT32_MAX/p->channels)
        return false;
    for (p->blocks = 1; p->blocks <= MOST_BLOCKS; p->blocks *= 2) {
        p->rows = (int)((p->HW + p->blocks - 1)/p->blocks);
        const int want = (p->rows + MOST_ROWS - 1)/MOST_ROWS, most = MOST_THREADS/p->pieces;
        p->down = want < most ? want : most;
        const bool small = (int64_t)p->rows*p->pieces*16 <= SMALL || p->blocks == MOST_BLOCKS;
        if (small && shared_of(p) <= (size_t)room)
            return true;
    }
    return false;
}

/* The first of these that goes: two blocks to a multiprocessor, then one; a part's rows in whole sectors of 32 bytes of
 * x and of y, then of one of them, then in pieces of 16 bytes. */
static bool cut_image(Parts *p, int groups, DType x_type, DType y_type)
{
    const int each = 16/(int)dtype_size(x_type), sector = 32/(int)min(dtype_size(x_type), dtype_size(y_type));
    if (p->C%groups || p->C/groups < each || p->C_x%each || p->C%each)
        return false;
    p->width = p->C/groups;
    p->per = 1/((double)p->HW*p->width);
    for (int blocks = 2; blocks >= 1; blocks--)
        for (int unit = sector; unit >= each; unit /= 2)
            if (cut(p, groups, each, unit, (gpu_block_shared + 1024)/blocks - 1024))
                return true;
    return false;
}

template <typename X, typename T, bool with_silu>
static void launch_norm(T *y, void *as_is, const Parts *p, int64_t B)
{
    const dim3 grid((unsigned)(p->C/p->channels*p->blocks), (unsigned)B);
    gpu_check(cudaFuncSetAttribute(norm_part<X, T, with_silu>, cudaFuncAttributePreferredSharedMemoryCarveout,
                                   cudaSharedmemCarveoutMaxShared));
    LAUNCH_CLUSTERS((norm_part<X, T, with_silu>), p->blocks, grid, threads_of(p), shared_of(p), y,
                    (AsIs<T, X> *)as_is, *p);
}

template <typename X, typename T>
static void launch(T *y, void *as_is, const Parts *p, int64_t B, Activation act)
{
    if (act == ACT_SILU)
        launch_norm<X, T, true>(y, as_is, p, B);
    else
        launch_norm<X, T, false>(y, as_is, p, B);
}

template <typename T>
static void launch_from(DType x_type, T *y, void *as_is, const Parts *p, int64_t B, Activation act)
{
    if (x_type == F32)
        launch<float>(y, as_is, p, B, act);
    else if (x_type == F16)
        launch<f16>(y, as_is, p, B, act);
    else
        launch<T>(y, as_is, p, B, act);
}

bool norm_by_clusters(void *y, DType y_type, void *as_is, const NormInput *in, const float *gamma, const float *beta,
                      int64_t B, int64_t HW, int groups, float eps, Activation act)
{
    Parts p = {in->x, in->beside, in->shift, gamma, beta, HW, in->C, in->C + in->C_beside, 0, 0, 0, 0, 0, 0, 0, eps};
    if (!hopper_wanted("norm") || (((uintptr_t)y | (uintptr_t)as_is | (uintptr_t)in->x | (uintptr_t)in->beside)&15)
        || !cut_image(&p, groups, in->type, y_type))
        return false;
    if (y_type == F32)
        launch_from(in->type, (float *)y, as_is, &p, B, act);
    else if (y_type == BF16)
        launch_from(in->type, (bf16 *)y, as_is, &p, B, act);
    else
        launch_from(in->type, (f16 *)y, as_is, &p, B, act);
    return true;
}
