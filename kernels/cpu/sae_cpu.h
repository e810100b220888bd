/* SPDX-License-Identifier: MIT */
/* sae_cpu.h -- what the CPU's autoencoder files share. Private to kernels/cpu. */
#ifndef KERNELS_CPU_SAE_CPU_H
#define KERNELS_CPU_SAE_CPU_H

#include "kernels/cpu/level.h"

/* Floats that cpu_topk_row needs beside its row. */
static inline size_t cpu_topk_scratch(int K)
{
    return 8*(size_t)K + 320;
}

/* The K largest of one row h of F values (a multiple of 32, those after the last feature -FLT_MAX), largest first, ties
 * to the lower index, then values below 0 made 0. scratch: cpu_topk_scratch(K) floats, 64-byte aligned. A NaN is
 * never chosen before a number. */
void cpu_topk_row(float *a, int32_t *i, const float *h, int F, int K, float *scratch);

/* The panel (tile.h) of features from `first` on, as encoder_pack would pack it. */
void cpu_pack_panel(const SaeEncoder *e, const float *W_enc, int first);

void cpu_sae_decode(float *y, const float *a, const int32_t *i, const float *W_dec, const float *b, int64_t N, int D,
                    int K);

void cpu_sae_encode_ops(SaeOps *ops);       /* sae_encode.c */
void cpu_sae_grad_ops(SaeOps *ops);         /* sae_grad.c */
void cpu_sae_dense_ops(SaeOps *ops);        /* sae_dense.c */

#endif
