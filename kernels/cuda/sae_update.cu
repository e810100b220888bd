/* SPDX-License-Identifier: MIT */
/* sae_update.cu -- gradients of the weights' rows through the kept features, and Adam, apart or in one go.
 *
 *     dW_dec[f,:] += c sum a[n,j] g[n,:]     dW_enc[f,:] += c sum g_a[n,j] x[n,:]     over (n,j), i[n,j] = f
 *     p -= rate m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps)
 *
 *   x (N,D) centered, g (N,D)   a, g_a (N,K)   dW_enc, dW_dec, p, m, v (F,D)
 *
 * 4*N*K*D flop where the dense products would take 4*N*F*D. A feature sums CHUNK entries at a time in order of rows,
 * then the chunks' sums in order, however the work is shared out: row_grads and row_update give the same values. Most
 * features have few entries. One of LONG or more would keep a block busy long after the others, since its loads wait
 * for memory one after another: blocks of their own sum it, each a strip of columns, a warp a chunk.
 *
 * Reads 8*N*K*D bytes of x and g, which fit the second-level cache (N = 4096, D = 1280: 42 MB); Adam streams p, m and
 * v, 24 bytes a parameter. Together they are bound by memory: row_update's gradients never go there. */
#include "kernels/cuda/sae_cuda.h"

enum { WARPS = 8, AT_ONCE = 4, CHUNK = 64, LONG = 128, MOST_LONG = 2048, MOST_PARTS = 16, ROW_THREADS = 512 };

typedef struct Parts {
    CodePart part[MOST_PARTS];
    const float *x;
    int parts, F, D;
} Parts;

typedef struct LongList {
    int32_t *count;             /* how many; more than MOST_LONG: the others are done as short ones */
    int32_t *feature;           /* (MOST_LONG) */
    int32_t *slot;              /* (F) place in feature[], -1: none */
} LongList;

/* ---- a feature's sums, columns d..d+each of them ---- */

__device__ __forceinline__ int entries_of(const CodePart &p, int f)
{
    return f < p.from || f >= p.to ? 0 : p.start[f + 1] - p.start[f];
}

/* Of entries [from, to) of a part, from 0. Those with a = 0 do not count. */
template <int each>
__device__ __forceinline__ void sum_chunk(float (&dec)[each], float (&enc)[each], const CodePart &p, const float *all_x,
                                          int D, int d, int from, int to)
{
    for (int v = 0; v < each; v++)
        dec[v] = enc[v] = 0;
    for (int e = from; e < to; e += AT_ONCE) {
        float a[AT_ONCE], g_a[AT_ONCE], g[AT_ONCE][each], x[AT_ONCE][each];
        #pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const uint32_t place = e + u < to ? (uint32_t)p.order[e + u] : 0;
            a[u] = e + u < to ? p.a[place] : 0;
            if (a[u] != 0) {
                const int64_t at = (int64_t)(place/(uint32_t)p.K)*D + d;
                g_a[u] = p.g_a[place];
                load_run(g[u], p.g + at);
                load_run(x[u], all_x + at);
            }
        }
        #pragma unroll
        for (int u = 0; u < AT_ONCE; u++)
            if (a[u] != 0)
                for (int v = 0; v < each; v++) {
                    dec[v] = fmaf(a[u], g[u][v], dec[v]);
                    enc[v] = fmaf(g_a[u], x[u][v], enc[v]);
                }
    }
}

/* dec, enc += those of one part */
template <int each>
__device__ __forceinline__ void add_part(float (&dec)[each], float (&enc)[each], const CodePart &p, const float *x,
                                         int D, int d, int f)
{
    const int count = entries_of(p, f);
    if (count == 0)
        return;
    const int from = p.start[f];
    float all_dec[each] = {}, all_enc[each] = {};
    for (int e = 0; e < count; e += CHUNK) {
        float of_dec[each], of_enc[each];
        sum_chunk(of_dec, of_enc, p, x, D, d, from + e, from + min(e + CHUNK, count));
        for (int v = 0; v < each; v++) {
            all_dec[v] += of_dec[v];
            all_enc[v] += of_enc[v];
        }
    }
    for (int v = 0; v < each; v++) {
        dec[v] = fmaf(p.c, all_dec[v], dec[v]);
        enc[v] = fmaf(p.c, all_enc[v], enc[v]);
    }
}

/* ---- features of LONG entries or more ---- */

static __global__ void find_long(LongList list, Parts q)
{
    const int f = (int)thread_number();
    if (f >= q.F)
        return;
    int count = 0, slot = -1;
    for (int p = 0; p < q.parts; p++)
        count += entries_of(q.part[p], f);
    if (count >= LONG) {
        slot = atomicAdd(list.count, 1);        /* in any order: what a feature becomes does not depend on it */
        if (slot < MOST_LONG)
            list.feature[slot] = f;
        else
            slot = -1;
    }
    list.slot[f] = slot;
}

/* Block (slot, strip of WARP*each columns). by_slot: the sums of slot s go to row s of dec and enc, else they are added
 * to the feature's. */
template <int each> static __global__ void sum_long(float *dec, float *enc, bool by_slot, LongList list, Parts q)
{
    __shared__ float room[WARPS][2][WARP*each];
    const int slot = blockIdx.x, lane = threadIdx.x%WARP, warp = threadIdx.x/WARP, d = (blockIdx.y*WARP + lane)*each;
    if (slot >= min(*list.count, (int32_t)MOST_LONG))
        return;
    const int f = list.feature[slot];
    const bool there = d < q.D, adds = there && warp == 0;
    const int64_t at = (int64_t)(by_slot ? slot : f)*q.D + d;
    float sum_dec[each] = {}, sum_enc[each] = {};
    if (adds && !by_slot) {
        load_run(sum_dec, dec + at);
        load_run(sum_enc, enc + at);
    }
    for (int i = 0; i < q.parts; i++) {
        const CodePart &p = q.part[i];
        const int count = entries_of(p, f), from = count ? p.start[f] : 0;
        float all_dec[each] = {}, all_enc[each] = {};
        for (int e = 0; e < count; e += WARPS*CHUNK) {
            const int mine = e + warp*CHUNK;
            if (there && mine < count) {
                float of_dec[each], of_enc[each];
                sum_chunk(of_dec, of_enc, p, q.x, q.D, d, from + mine, from + min(mine + CHUNK, count));
                for (int v = 0; v < each; v++) {
                    room[warp][0][v*WARP + lane] = of_dec[v];
                    room[warp][1][v*WARP + lane] = of_enc[v];
                }
            }
            __syncthreads();
            for (int w = 0; adds && w < WARPS && e + w*CHUNK < count; w++)
                for (int v = 0; v < each; v++) {
                    all_dec[v] += room[w][0][v*WARP + lane];
                    all_enc[v] += room[w][1][v*WARP + lane];
                }
            __syncthreads();
        }
        for (int v = 0; v < each && count; v++) {
            sum_dec[v] = fmaf(p.c, all_dec[v], sum_dec[v]);
            sum_enc[v] = fmaf(p.c, all_enc[v], sum_enc[v]);
        }
    }
    if (adds) {
        store_run(dec + at, sum_dec);
        store_run(enc + at, sum_enc);
    }
}

template <int each> static void launch_long(float *dec, float *enc, bool by_slot, const LongList *list, const Parts *q)
{
    gpu_check(cudaMemsetAsync(list->count, 0, sizeof *list->count, gpu_stream));
    LAUNCH(find_long, gpu_blocks(q->F, 256), 256, 0, *list, *q);
    LAUNCH(sum_long<each>, dim3(MOST_LONG, gpu_blocks(q->D, WARP*each)), WARPS*WARP, 0, dec, enc, by_slot, *list, *q);
}

/* Space for a list, 16 bytes aligned. */
static size_t list_bytes(int F)
{
    return sizeof(int32_t)*(4 + MOST_LONG + ((size_t)F + 3)/4*4);
}

static LongList list_at(void *space)
{
    int32_t *p = (int32_t *)space;
    return LongList{p, p + 4, p + 4 + MOST_LONG};
}

/* ---- gradients apart: block (WARPS features, strip of columns) ---- */

template <int each> static __global__ void sum_short(float *dW_dec, float *dW_enc, LongList list, Parts q)
{
    const int f = blockIdx.x*WARPS + threadIdx.x/WARP, d = (blockIdx.y*WARP + threadIdx.x%WARP)*each;
    if (f >= q.F || d >= q.D || list.slot[f] >= 0 || entries_of(q.part[0], f) == 0)
        return;
    const int64_t at = (int64_t)f*q.D + d;
    float dec[each], enc[each];
    load_run(dec, dW_dec + at);
    load_run(enc, dW_enc + at);
    add_part(dec, enc, q.part[0], q.x, q.D, d, f);
    store_run(dW_dec + at, dec);
    store_run(dW_enc + at, enc);
}

template <int each> static void launch_rows(float *dW_dec, float *dW_enc, const Parts *q)
{
    const LongList list = list_at(gpu_scratch(SCRATCH_SAE2, list_bytes(q->F)));
    launch_long<each>(dW_dec, dW_enc, false, &list, q);
    LAUNCH(sum_short<each>, dim3(gpu_blocks(q->F, WARPS), gpu_blocks(q->D, WARP*each)), WARPS*WARP, 0, dW_dec, dW_enc,
           list, *q);
}

static void row_grads(float *dW_dec, float *dW_enc, const CodePart *part, const float *x, int D)
{
    const Parts q = {{*part}, x, 1, part->to, D};
    if (sae_by_four(D, dW_dec, dW_enc, part->g, x))
        launch_rows<4>(dW_dec, dW_enc, &q);
    else
        launch_rows<1>(dW_dec, dW_enc, &q);
}

/* ---- Adam ---- */

/* A row's step along dp, by a block; a thread has the same columns throughout. unit: the gradient's part along p is
 * taken off, and p gets length 1. dp becomes 0. It goes over the row up to three times, the later ones in the caches.
 * */
template <int each>
__device__ __forceinline__ void adam_row(float *p, float *m, float *v, float *dp, int D, const AdamStep &s, bool unit,
                                         float *room)
{
    const float rate = s.rate*s.unbias1, root = sqrtf(s.unbias2);
    float along = 0, square = 0;
    if (unit) {
        for (int d = threadIdx.x*each; d < D; d += blockDim.x*each) {
            float P[each], G[each];
            load_run(P, p + d);
            load_run(G, dp + d);
            for (int k = 0; k < each; k++)
                along = fmaf(G[k], P[k], along);
        }
        along = block_sum(along, room);
    }
    for (int d = threadIdx.x*each; d < D; d += blockDim.x*each) {
        float P[each], M[each], V[each], G[each];
        load_run(P, p + d);
        load_run(M, m + d);
        load_run(V, v + d);
        load_run(G, dp + d);
        for (int k = 0; k < each; k++) {
            const float g = s.scale*fmaf(-along, P[k], G[k]);
            M[k] = fmaf(s.beta1, M[k], (1 - s.beta1)*g);
            V[k] = fmaf(s.beta2, V[k], (1 - s.beta2)*g*g);
            P[k] -= rate*M[k]/fmaf(root, sqrtf(V[k]), s.eps);
            G[k] = 0;
            square = fmaf(P[k], P[k], square);
        }
        store_run(p + d, P);
        store_run(m + d, M);
        store_run(v + d, V);
        store_run(dp + d, G);
    }
    if (!unit)
        return;
    const float length = sqrtf(block_sum(square, room)), r = length > 0 ? 1/length : 0;
    for (int d = threadIdx.x*each; d < D; d += blockDim.x*each) {
        float P[each];
        load_run(P, p + d);
        for (int k = 0; k < each; k++)
            P[k] *= r;
        store_run(p + d, P);
    }
}

/* One block a row. Streams p, m, v, dp in and out, 32 bytes a parameter: bound by memory. */
template <int each>
static __global__ void adam_rows(float *p, float *m, float *v, float *dp, int D, AdamStep s)
{
    __shared__ float room[WARP];
    const int64_t at = (int64_t)blockIdx.x*D;
    adam_row<each>(p + at, m + at, v + at, dp + at, D, s, s.unit_rows, room);
}

static unsigned row_threads(int D, int each)
{
    return sae_threads((D + each - 1)/each, ROW_THREADS);
}

static void adam(float *p, float *m, float *v, float *dp, int64_t rows, int D, const AdamStep *step)
{
    if (!step->unit_rows && rows*D%256 == 0) {  /* each value by itself: rows of any length will do */
        rows = rows*D/256;
        D = 256;
    }
    if (sae_by_four(D, p, m, v, dp))
        LAUNCH(adam_rows<4>, (unsigned)rows, row_threads(D, 4), 0, p, m, v, dp, D, *step);
    else
        LAUNCH(adam_rows<1>, (unsigned)rows, row_threads(D, 1), 0, p, m, v, dp, D, *step);
}

/* ---- both at once: one block a feature, its two rows of the gradient in shared memory ---- */

template <int each>
static __global__ void __launch_bounds__(ROW_THREADS)
update_rows(double *square, AdamState W_dec, AdamState W_enc, const float *long_dec, const float *long_enc,
            LongList list, Parts q, AdamStep s)
{
    __shared__ float room[WARP];
    __shared__ double room_squares[WARP];
    float *to_dec = (float *)shared_memory(), *to_enc = to_dec + q.D;
    const int f = blockIdx.x;
    const int64_t at = (int64_t)f*q.D, slot = list.slot[f];
    float sum = 0;
    for (int d = threadIdx.x*each; d < q.D; d += blockDim.x*each) {
        float dec[each] = {}, enc[each] = {};
        if (slot >= 0) {
            load_run(dec, long_dec + slot*q.D + d);
            load_run(enc, long_enc + slot*q.D + d);
        } else {
            for (int p = 0; p < q.parts; p++)
                add_part(dec, enc, q.part[p], q.x, q.D, d, f);
        }
        store_run(to_dec + d, dec);
        store_run(to_enc + d, enc);
        for (int v = 0; v < each; v++)
            sum += dec[v]*dec[v] + enc[v]*enc[v];
    }
    const double squares = block_sum((double)sum, room_squares);
    if (threadIdx.x == 0)
        square[f] = squares;
    adam_row<each>(W_dec.p + at, W_dec.m + at, W_dec.v + at, to_dec, q.D, s, true, room);
    adam_row<each>(W_enc.p + at, W_enc.m + at, W_enc.v + at, to_enc, q.D, s, false, room);
}

template <int each>
static double launch_update(const AdamState *W_dec, const AdamState *W_enc, const Parts *q, const AdamStep *step)
{
    const size_t squares = sizeof(double)*(((size_t)q->F + 2)/2*2), rows = sizeof(float)*MOST_LONG*(size_t)q->D;
    char *at = (char *)gpu_scratch(SCRATCH_SAE2, 2*rows + squares + list_bytes(q->F));
    float *dec = (float *)at, *enc = (float *)(at + rows);
    double *square = (double *)(at + 2*rows);
    const LongList list = list_at(at + 2*rows + squares);
    launch_long<each>(dec, enc, true, &list, q);
    LAUNCH(update_rows<each>, (unsigned)q->F, row_threads(q->D, each), 2*sizeof(float)*(size_t)q->D, square + 1, *W_dec,
           *W_enc, dec, enc, list, *q, *step);
    return sae_read_sum(square, square + 1, q->F);
}

static double row_update(const AdamState *W_dec, const AdamState *W_enc, const CodePart *part, int parts,
                         const float *x, int F, int D, const AdamStep *step)
{
    Parts q = {{}, x, parts, F, D};
    bool by_four = sae_by_four(D, W_dec->p, W_dec->m, W_dec->v, W_enc->p, W_enc->m, W_enc->v, x);
    if (parts > MOST_PARTS)
        gpu_fail(__FILE__, __LINE__, "row_update", "too many parts");
    for (int p = 0; p < parts; p++) {
        q.part[p] = part[p];
        by_four = by_four && sae_by_four(D, part[p].g);
    }
    return by_four ? launch_update<4>(W_dec, W_enc, &q, step) : launch_update<1>(W_dec, W_enc, &q, step);
}

void cuda_sae_update_ops(SaeOps *ops)
{
    ops->row_grads = row_grads;
    ops->adam = adam;
    ops->row_update = row_update;
}
