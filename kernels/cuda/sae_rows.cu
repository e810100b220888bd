/* SPDX-License-Identifier: MIT */
/* sae_rows.cu -- gradients of the weights' rows through the kept features, in memory; and those of long features for
 * row_update.
 *
 *     dW_dec[f,:] += c sum a[n,j] g[n,:]     dW_enc[f,:] += c sum g_a[n,j] x[n,:]     over (n,j), i[n,j] = f
 *
 *   x (N,D) centered, g (N,D)   a, g_a (N,K)   dW_enc, dW_dec (F,D)
 *
 * 4*N*K*D flop where the dense products would take 4*N*F*D. Reads 8*N*K*D bytes of x and g, which about fit the
 * second-level cache of an H100 (N = 4096, D = 1280: 42 MB). */
#include "kernels/cuda/sae_rows.h"

enum { WARPS = 8, LONG_WARPS = 8, AT_ONCE = 4, LONG_AT_ONCE = 8, FIND_THREADS = 256 };

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

/* One feature's sums in a strip of WARP*each columns: a warp a chunk. */
template <int each>
__device__ __forceinline__ void sum_strip(float *dec, float *enc, bool adds_to, const Parts &q, int f, int64_t row,
                                          float (*room)[2][WARP*each])
{
    const int lane = threadIdx.x%WARP, warp = threadIdx.x/WARP, d = (blockIdx.y*WARP + lane)*each;
    const bool there = d < q.D, adds = there && warp == 0;
    const int64_t at = row*q.D + d;
    float sum_dec[each] = {}, sum_enc[each] = {};
    if (adds && adds_to) {
        load_run(sum_dec, dec + at);
        load_run(sum_enc, enc + at);
    }
    for (int i = 0; i < q.parts; i++) {
        const CodePart &p = q.part[i];
        const int count = entries_of(p, f), from = count ? p.start[f] : 0;
        for (int e = 0; e < count; e += LONG_WARPS*CHUNK) {
            const int mine = e + warp*CHUNK;
            if (mine < count) {
                float of_dec[each], of_enc[each];
                sum_chunk<LONG_AT_ONCE>(of_dec, of_enc, p, q.x, q.D, d, there, from + mine,
                                        from + min(mine + CHUNK, count));
                for (int v = 0; v < each; v++) {
                    room[warp][0][v*WARP + lane] = of_dec[v];
                    room[warp][1][v*WARP + lane] = of_enc[v];
                }
            }
            __syncthreads();
            for (int w = 0; adds && w < LONG_WARPS && e + w*CHUNK < count; w++)
                for (int v = 0; v < each; v++) {
                    sum_dec[v] = fmaf(p.c, room[w][0][v*WARP + lane], sum_dec[v]);
                    sum_enc[v] = fmaf(p.c, room[w][1][v*WARP + lane], sum_enc[v]);
                }
            __syncthreads();
        }
    }
    if (adds) {
        store_run(dec + at, sum_dec);
        store_run(enc + at, sum_enc);
    }
}

/* Blocks (any number, strips of columns) go over the slots. */
template <int each>
static __global__ void sum_long(float *dec, float *enc, bool by_slot, LongList list, Parts q)
{
    __shared__ float room[LONG_WARPS][2][WARP*each];
    const int slots = min(*list.count, (int32_t)MOST_LONG);
    for (int slot = blockIdx.x; slot < slots; slot += gridDim.x) {
        const int f = list.feature[slot];
        sum_strip<each>(dec, enc, !by_slot, q, f, by_slot ? slot : f, room);
    }
}

template <int each> static void launch_long(float *dec, float *enc, bool by_slot, const LongList *list, const Parts *q)
{
    const int strips = (int)gpu_blocks(q->D, WARP*each), blocks = 4*gpu_processors/strips;
    LAUNCH(sum_long<each>, dim3(max(blocks, 1), strips), LONG_WARPS*WARP, 0, dec, enc, by_slot, *list, *q);
}

void sae_sum_long(float *dec, float *enc, bool by_slot, const LongList *list, const Parts *q, bool by_four)
{
    gpu_check(cudaMemsetAsync(list->count, 0, 2*sizeof *list->count, gpu_stream));
    LAUNCH(find_long, gpu_blocks(q->F, FIND_THREADS), FIND_THREADS, 0, *list, *q);
    (by_four ? launch_long<4> : launch_long<1>)(dec, enc, by_slot, list, q);
}

size_t sae_list_bytes(int F)
{
    return sizeof(int32_t)*(4 + MOST_LONG + ((size_t)F + 3)/4*4);
}

LongList sae_list_at(void *space)
{
    int32_t *p = (int32_t *)space;
    return LongList{p, p + 1, p + 4, p + 4 + MOST_LONG};
}

/* ---- the others: block (WARPS features, strip of columns) ---- */

template <int each> static __global__ void sum_short(float *dW_dec, float *dW_enc, LongList list, Parts q)
{
    const int f = blockIdx.x*WARPS + threadIdx.x/WARP, d = (blockIdx.y*WARP + threadIdx.x%WARP)*each;
    const int count = f < q.F && list.slot[f] < 0 ? entries_of(q.part[0], f) : 0;
    if (count == 0)
        return;
    const int64_t at = (int64_t)f*q.D + d;
    const bool there = d < q.D;
    float dec[each] = {}, enc[each] = {};
    if (there) {
        load_run(dec, dW_dec + at);
        load_run(enc, dW_enc + at);
    }
    add_part<AT_ONCE>(dec, enc, q.part[0], q.x, q.D, d, there, q.part[0].start[f], count);
    if (there) {
        store_run(dW_dec + at, dec);
        store_run(dW_enc + at, enc);
    }
}

void sae_sum_rows(float *dW_dec, float *dW_enc, const LongList *list, const Parts *q)
{
    const bool by_four = sae_by_four(q->D, dW_dec, dW_enc, q->part[0].g, q->x);
    const int each = by_four ? 4 : 1;
    sae_sum_long(dW_dec, dW_enc, false, list, q, by_four);
    LAUNCH(by_four ? sum_short<4> : sum_short<1>, dim3(gpu_blocks(q->F, WARPS), gpu_blocks(q->D, WARP*each)),
           WARPS*WARP, 0, dW_dec, dW_enc, *list, *q);
}

static void row_grads(float *dW_dec, float *dW_enc, const CodePart *part, const float *x, int D)
{
    const Parts q = {{*part}, x, 1, part->to, D};
    const LongList list = sae_list_at(gpu_scratch(SCRATCH_SAE2, sae_list_bytes(q.F)));
    sae_sum_rows(dW_dec, dW_enc, &list, &q);
}

void cuda_sae_row_ops(SaeOps *ops)
{
    ops->row_grads = row_grads;
}
