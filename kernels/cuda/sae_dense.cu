/* SPDX-License-Identifier: MIT */
/* sae_dense.cu -- training with all of h in memory: the product, and the activations of JumpReLU, ReLU and gated
 * autoencoders with their gradients.
 *
 *   h, z, g, p (N,F)   thresholds and biases (F)
 *
 * JumpReLU: Rajamanoharan et al. 2024 (arXiv 2407.14435). Gated: Rajamanoharan et al. 2024 (arXiv 2404.16014). All but
 * the product are one kernel shape: a block has a run of RUN rows and a strip of STRIP columns, a thread goes down a
 * column with its bias in a register. Neighbours read neighbours; bound by memory. Sums over rows are left in
 * parts[run,f] and added in order of runs. A NaN in h stays one in z, so that the loss shows it. */
#include "kernels/cuda/sae_tile.h"

/* ---- C (M,N) = AB, or C += AB ---- */

/* An operand, its rows from `first` on, as one thread fetches it: (rows,K), or turned (K,rows). What is fetched in a
 * step lies `apart` numbers apart. */
template <bool turned> struct Operand {
    const float *at;
    int64_t apart, next;        /* next: from step to step */
    int rows, K;                /* from this thread's first on */

    __device__ __forceinline__ Operand(const float *A, int64_t first, int64_t all_rows, int all_K)
    {
        const int row = fetched_row<!turned>(0), k = fetched_k<!turned>(0);
        at = A + (turned ? k*all_rows + first + row : (first + row)*all_K + k);
        apart = turned ? TILE_THREADS/TILE*all_rows : TILE_THREADS/TILE_STEP*(int64_t)all_K;
        next = turned ? TILE_STEP*all_rows : (int64_t)TILE_STEP;
        rows = (int)min(all_rows - first - row, (int64_t)TILE);
        K = all_K - k;
    }

    __device__ __forceinline__ float fetch(int i, int step) const
    {
        const int row = turned ? 0 : i*(TILE_THREADS/TILE_STEP), k = turned ? i*(TILE_THREADS/TILE) : 0;
        return row < rows && step*TILE_STEP + k < K ? at[i*apart + step*next] : 0;
    }
};

/* One block a tile of C, rows of tiles fastest, so that blocks that run together share B's columns. */
template <bool A_turned, bool B_turned>
static __global__ void __launch_bounds__(TILE_THREADS, 2)
multiply(float *C, bool add, const float *A, const float *B, int64_t M, int64_t N, int K)
{
    float *shared = (float *)shared_memory();
    const int64_t top = (int64_t)blockIdx.x*TILE, left = (int64_t)blockIdx.y*TILE;
    const Operand<A_turned> a(A, top, M, K);
    const Operand<!B_turned> b(B, left, N, K);     /* tile_f32 takes B's columns as rows */
    float sum[8][8] = {};
    tile_f32<!A_turned, B_turned>(sum, shared, (K + TILE_STEP - 1)/TILE_STEP,
                                  [&](int i, int step) { return a.fetch(i, step); },
                                  [&](int i, int step) { return b.fetch(i, step); });
    #pragma unroll
    for (int i = 0; i < 8; i++)
        #pragma unroll
        for (int j = 0; j < 8; j++) {
            const int64_t m = top + tile_down(i), n = left + tile_across(j);
            if (m < M && n < N)
                C[m*N + n] = add ? C[m*N + n] + sum[i][j] : sum[i][j];
        }
}

static void gemm(float *C, bool add, const float *A, bool A_turned, const float *B, bool B_turned, int64_t M, int64_t N,
                 int64_t K)
{
    const dim3 grid(gpu_blocks(M, TILE), gpu_blocks(N, TILE));
    const auto kernel = A_turned ? (B_turned ? multiply<true, true> : multiply<true, false>)
                                 : (B_turned ? multiply<false, true> : multiply<false, false>);
    if (K > INT32_MAX)
        gpu_fail(__FILE__, __LINE__, "gemm", "a sum of more than 2^31 products");
    LAUNCH(kernel, grid, TILE_THREADS, TILE_SHARED, C, add, A, B, M, N, K);
}

/* ---- a thread's column and rows ---- */

struct Column {
    int f;
    int64_t from, to, part;     /* rows; its place among the parts */

    __device__ __forceinline__ Column(int64_t N, int F)
    {
        f = blockIdx.y*STRIP + threadIdx.x;
        from = (int64_t)blockIdx.x*RUN;
        to = f >= F ? from : min(from + RUN, N);
        part = (int64_t)blockIdx.x*F + f;
    }
};

static float *parts_for(dim3 grid, int F, int sums)
{
    return (float *)gpu_scratch(SCRATCH_SAE2, sizeof(float)*(size_t)grid.x*(size_t)F*(size_t)sums);
}

/* ---- JumpReLU and ReLU ---- */

static __global__ void jump_columns(float *z, float *h, const float *b_enc, const float *threshold, int64_t N, int F)
{
    const Column c(N, F);
    if (c.f >= F)
        return;
    const float b = b_enc[c.f], t = threshold ? threshold[c.f] : 0;
    for (int64_t n = c.from; n < c.to; n++) {
        const float v = h[n*F + c.f] + b;
        h[n*F + c.f] = v;
        z[n*F + c.f] = v <= t ? 0 : v;
    }
}

static void jump(float *z, float *h, const float *b_enc, const float *threshold, int64_t N, int F)
{
    LAUNCH(jump_columns, sae_runs(N, F), STRIP, 0, z, h, b_enc, threshold, N, F);
}

static __global__ void jump_grad_columns(float *g, float *parts, const float *h, const float *threshold, float sparsity,
                                         float width, int64_t N, int F)
{
    const Column c(N, F);
    if (c.f >= F)
        return;
    const float t = threshold ? threshold[c.f] : 0;
    float sum = 0;
    for (int64_t n = c.from; n < c.to; n++) {
        const float v = h[n*F + c.f], dz = g[n*F + c.f];
        if (threshold && fabsf(v - t) < width/2)
            sum += t*dz + sparsity;
        g[n*F + c.f] = !(v > t) ? 0 : threshold ? dz : dz + sparsity;
    }
    if (threshold)
        parts[c.part] = sum;
}

static void jump_grad(float *g, float *d_threshold, const float *h, const float *threshold, float sparsity, float width,
                      int64_t N, int F)
{
    const dim3 grid = sae_runs(N, F);
    float *parts = threshold ? parts_for(grid, F, 1) : NULL;
    LAUNCH(jump_grad_columns, grid, STRIP, 0, g, parts, h, threshold, sparsity, width, N, F);
    if (threshold)
        sae_add_runs(d_threshold, -1/width, parts, grid.x, F);
}

/* ---- gated ---- */

static __global__ void gated_columns(float *z, float *p, const float *h, const float *b_gate, const float *r_mag,
                                     const float *b_mag, int64_t N, int F)
{
    const Column c(N, F);
    if (c.f >= F)
        return;
    const float to_gate = b_gate[c.f], scale = expf(r_mag[c.f]), to_mag = b_mag[c.f];
    for (int64_t n = c.from; n < c.to; n++) {
        const float v = h[n*F + c.f], gate = v + to_gate, m = scale*v + to_mag;
        p[n*F + c.f] = gate < 0 ? 0 : gate;
        z[n*F + c.f] = gate <= 0 || m <= 0 ? 0 : m;
    }
}

static void gated(float *z, float *p, const float *h, const float *b_gate, const float *r_mag, const float *b_mag,
                  int64_t N, int F)
{
    LAUNCH(gated_columns, sae_runs(N, F), STRIP, 0, z, p, h, b_gate, r_mag, b_mag, N, F);
}

/* parts (3,runs,F): of b_gate, r_mag, b_mag */
static __global__ void gated_grad_columns(float *g, const float *g_p, float *parts, const float *h, const float *b_gate,
                                          const float *r_mag, const float *b_mag, float sparsity, int64_t N, int F)
{
    const Column c(N, F);
    if (c.f >= F)
        return;
    const float to_gate = b_gate[c.f], scale = expf(r_mag[c.f]), to_mag = b_mag[c.f];
    const int64_t size = (int64_t)gridDim.x*F;
    float of_gate = 0, of_r = 0, of_mag = 0;
    for (int64_t n = c.from; n < c.to; n++) {
        const float v = h[n*F + c.f], gate = v + to_gate;
        const float dm = gate > 0 && scale*v + to_mag > 0 ? g[n*F + c.f] : 0;
        const float dgate = gate > 0 ? g_p[n*F + c.f] + sparsity : 0;
        g[n*F + c.f] = scale*dm + dgate;
        of_gate += dgate;
        of_r += dm*scale*v;
        of_mag += dm;
    }
    parts[c.part] = of_gate;
    parts[c.part + size] = of_r;
    parts[c.part + 2*size] = of_mag;
}

static void gated_grad(float *g, const float *g_p, float *d_b_gate, float *d_r_mag, float *d_b_mag, const float *h,
                       const float *b_gate, const float *r_mag, const float *b_mag, float sparsity, int64_t N, int F)
{
    const dim3 grid = sae_runs(N, F);
    float *parts = parts_for(grid, F, 3);
    const int64_t size = (int64_t)grid.x*F;
    LAUNCH(gated_grad_columns, grid, STRIP, 0, g, g_p, parts, h, b_gate, r_mag, b_mag, sparsity, N, F);
    sae_add_runs(d_b_gate, 1, parts, grid.x, F);
    sae_add_runs(d_r_mag, 1, parts + size, grid.x, F);
    sae_add_runs(d_b_mag, 1, parts + 2*size, grid.x, F);
}

/* ---- counts, of integers ---- */

static __global__ void count_columns(int32_t *count, const float *z, int64_t N, int F)
{
    const Column c(N, F);
    int32_t sum = 0;
    for (int64_t n = c.from; n < c.to; n++)
        sum += z[n*F + c.f] > 0;
    if (sum)
        atomicAdd(&count[c.f], sum);
}

static void count_dense(int32_t *count, const float *z, int64_t N, int F)
{
    LAUNCH(count_columns, sae_runs(N, F), STRIP, 0, count, z, N, F);
}

/* One block a row. */
static __global__ void count_row(int32_t *most, const float *z, int F)
{
    __shared__ int32_t room[WARP];
    const int64_t at = (int64_t)blockIdx.x*F;
    int32_t sum = 0;
    for (int f = threadIdx.x; f < F; f += blockDim.x)
        sum += z[at + f] > 0;
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        atomicMax(most, sum);
}

static __global__ void give_number(double *number, const int32_t *most)
{
    if (threadIdx.x == 0)
        *number = (double)*most;
}

static int row_most(const float *z, int64_t N, int F)
{
    double *number = (double *)gpu_scratch(SCRATCH_SAE2, sizeof *number + sizeof(int32_t));
    int32_t *most = (int32_t *)(number + 1);
    gpu_check(cudaMemsetAsync(most, 0, sizeof *most, gpu_stream));
    LAUNCH(count_row, (unsigned)N, sae_threads(F, 256), 0, most, z, F);
    LAUNCH(give_number, 1, WARP, 0, number, most);
    return (int)gpu_read_double(number);
}

void cuda_sae_dense_ops(SaeOps *ops)
{
    ops->gemm = gemm;
    ops->jump = jump;
    ops->jump_grad = jump_grad;
    ops->gated = gated;
    ops->gated_grad = gated_grad;
    ops->count_dense = count_dense;
    ops->row_most = row_most;
}
