/* SPDX-License-Identifier: MIT */
/* sae_rows.h -- the gradients of a feature's two rows through its kept entries: what row_grads and row_update share.
 *
 *     dec[:] += c sum a[n,j] g[n,:]     enc[:] += c sum g_a[n,j] x[n,:]     over (n,j), i[n,j] = f
 *
 *   x (N,D) centered, g (N,D)   a, g_a (N,K)
 *
 * A feature sums CHUNK entries at a time in order of rows, and adds the chunks in order, however the work is shared
 * out: row_grads and row_update give the same values. Most features have few entries. One of LONG or more would keep a
 * block busy long after the others, since its loads wait for memory one after another: blocks of their own sum it. */
#ifndef KERNELS_CUDA_SAE_ROWS_H
#define KERNELS_CUDA_SAE_ROWS_H

#include "kernels/cuda/sae_cuda.h"

enum { CHUNK = 64, LONG = 128, MOST_LONG = 2048, MOST_PARTS = 16 };

typedef struct Parts {
    CodePart part[MOST_PARTS];
    const float *x;
    int parts, F, D;
} Parts;

typedef struct LongList {
    int32_t *count;             /* how many; more than MOST_LONG: the others are done as short ones */
    int32_t *next;              /* 0, for whoever takes features in turn */
    int32_t *feature;           /* (MOST_LONG) */
    int32_t *slot;              /* (F) place in feature[], -1: none */
} LongList;

/* Space for a list, a multiple of 16 bytes, and the list in it. */
size_t sae_list_bytes(int F);
LongList sae_list_at(void *space);

/* Lists the long features and sums them. by_slot: the sums of slot s go to row s of dec and enc, else they are added to
 * the feature's. by_four: rows and pointers are aligned so (sae_by_four). */
void sae_sum_long(float *dec, float *enc, bool by_slot, const LongList *list, const Parts *q, bool by_four);

/* dW_dec, dW_enc += those of the one part of q; list: as sae_list_bytes says */
void sae_sum_rows(float *dW_dec, float *dW_enc, const LongList *list, const Parts *q);

__device__ __forceinline__ int entries_of(const CodePart &p, int f)
{
    return f < p.from || f >= p.to ? 0 : p.start[f + 1] - p.start[f];
}

/* Columns d..d+each of entries [from, to) of a part, from 0, by a whole warp; lanes that are not there only take part.
 * A lane reads one entry; those with a = 0 do not count. */
template <int at_once, int each>
__device__ __forceinline__ void sum_chunk(float (&dec)[each], float (&enc)[each], const CodePart &p, const float *all_x,
                                          int D, int d, bool there, int from, int to)
{
    for (int v = 0; v < each; v++)
        dec[v] = enc[v] = 0;
    for (int e = from; e < to; e += WARP) {
        const int at = e + (int)(threadIdx.x%WARP);
        const uint32_t place = at < to ? (uint32_t)p.order[at] : 0;
        const float my_a = at < to ? p.a[place] : 0, my_g_a = at < to ? p.g_a[place] : 0;
        const int32_t my_row = (int32_t)(place/(uint32_t)p.K);
        unsigned left = __ballot_sync(ALL_LANES, my_a != 0);
        while (left) {
            float a[at_once], g_a[at_once], g[at_once][each], x[at_once][each];
            #pragma unroll
            for (int u = 0; u < at_once; u++) {
                const int lane = left ? __ffs((int)left) - 1 : 0;
                a[u] = __shfl_sync(ALL_LANES, my_a, lane);
                g_a[u] = __shfl_sync(ALL_LANES, my_g_a, lane);
                const int64_t row = (int64_t)__shfl_sync(ALL_LANES, my_row, lane)*D + d;
                if (!left)
                    a[u] = 0;
                else if (there) {
                    load_run(g[u], p.g + row);
                    load_run(x[u], all_x + row);
                }
                left &= left - 1;
            }
            #pragma unroll
            for (int u = 0; u < at_once; u++)
                if (there && a[u] != 0)
                    for (int v = 0; v < each; v++) {
                        dec[v] = fmaf(a[u], g[u][v], dec[v]);
                        enc[v] = fmaf(g_a[u], x[u][v], enc[v]);
                    }
        }
    }
}

/* dec, enc += those of one part, of the `count` entries from `from` on, by a whole warp */
template <int at_once, int each>
__device__ __forceinline__ void add_part(float (&dec)[each], float (&enc)[each], const CodePart &p, const float *x,
                                         int D, int d, bool there, int from, int count)
{
    for (int e = 0; e < count; e += CHUNK) {
        float of_dec[each], of_enc[each];
        sum_chunk<at_once>(of_dec, of_enc, p, x, D, d, there, from + e, from + min(e + CHUNK, count));
        for (int v = 0; v < each; v++) {
            dec[v] = fmaf(p.c, of_dec[v], dec[v]);
            enc[v] = fmaf(p.c, of_enc[v], enc[v]);
        }
    }
}

#endif
