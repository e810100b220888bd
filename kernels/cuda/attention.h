/* SPDX-License-Identifier: MIT */
/* attention.h -- what the kinds of attention share: their arguments, and where a row of a head lies. Private to
 * kernels/cuda. */
#ifndef KERNELS_CUDA_ATTENTION_H
#define KERNELS_CUDA_ATTENTION_H

#include "kernels/cuda/cuda.h"

typedef struct Attention {
    void *y;
    const void *q, *k, *v;
    int64_t y_stride, q_stride, k_stride, v_stride, Sq, Sk;
    const int32_t *kv_index;
    const float *bias;          /* (heads,Sq,Sk), added to scaled scores; NULL: none */
    int heads, d;
    float scale;
    bool causal;
    bool pieces;                /* rows of q, k and v are whole 16-byte pieces */

    __device__ __forceinline__ int64_t keys_image(int64_t b) const
    {
        return kv_index ? kv_index[b] : b;
    }

    /* Keys that query s sees are [0, visible). */
    __device__ __forceinline__ int64_t visible(int64_t s) const
    {
        return causal && s + 1 < Sk ? s + 1 : Sk;
    }
} Attention;

/* attention_hopper.cu, BF16 or F16. false: nothing was done, it is not wanted (hopper_wanted) or not for this
 * shape; the same answer each time. */
bool attention_hopper(const Attention *a, DType type, int64_t B);
/* dnn_attention.cu, BF16 or F16. false: nothing was done, cuDNN does not take the shape; the same answer each time. */
bool attention_dnn(const Attention *a, DType type, int64_t B);
/* attention_half.cu, BF16 or F16, d up to ATTENTION_WIDEST. false: nothing was done, the head is wide and has a bias,
 * or a block has too little shared memory for it; the same answer each time. */
bool attention_half(const Attention *a, DType type, int64_t B);
void attention_plain(const Attention *a, DType type, int64_t B);    /* attention.cu */

enum { ATTENTION_WIDEST = 512 };

#endif
