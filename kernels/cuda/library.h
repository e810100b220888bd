/* SPDX-License-Identifier: MIT */
/* library.h -- products of layers by NVIDIA's libraries, where they are installed and know the shape. Private to
 * kernels/cuda.
 *
 * cuBLASLt multiplies linear layers (blas.cu), cuDNN makes convolutions (dnn.cu) and attention over many keys
 * (dnn_attention.cu), NCCL carries bytes between devices (comm.cu). All are opened when they are first wanted; without
 * the first two, and with SDSTEER_CUDA_LIBRARIES=none, product.h and attention.h do everything. They are given what
 * they do well: no activation (their gelu is an approximation; conv.cu gates after them, and makes gelu_tanh), channels
 * in multiples of 8; convolutions only with sums long enough that their result may take another pass over memory when
 * it is added to y, or with a result in halves, to which nothing is added. On compute capability 9
 * product_hopper.cu makes the layers of halves and stride 1, and cuBLASLt takes the ranges of rows for which it has an
 * algorithm of the same bytes that is faster.
 *
 * Same bytes: a layer's algorithms are chosen when it is made (blas_choice.cu), or when its kind is first met at a size
 * of picture (dnn.cu), for numbers of rows or images that are always the same; no sum is split over blocks, and where
 * the number of rows decides among algorithms, they have been seen to agree. What is added to y may be made by another
 * algorithm than what is not. That an algorithm gives a row the same bytes wherever it lies is observed and not
 * documented by NVIDIA; tests/unit/op_device.h looks. */
#ifndef KERNELS_CUDA_LIBRARY_H
#define KERNELS_CUDA_LIBRARY_H

#include "kernels/cuda/product.h"

enum { LIBRARY_LEAST_K = 2048, LIBRARY_WORKSPACE = 32 << 20 };

/* Whether layers may go to a library at all. */
bool library_wanted(void);
void *library_open(const char *name);                           /* NULL when there is none; stays open */
bool library_find(void *library, const char *name, void **function);    /* false when it has no such function */
/* A line on stderr, where SDSTEER_CUDA_TRACE=1 asks for what the libraries take and refuse. */
bool library_traced(void);
__attribute__((format(printf, 1, 2))) void library_trace(const char *format, ...);

typedef struct BlasPlan BlasPlan;

/* Algorithms for y (M,out) = x (M,K) w (out,K)^T + bias, or y += it, any M: K, out, w and bias of p. beside: only those
 * that give product_hopper's bytes and are faster. NULL when there are none. */
BlasPlan *blas_plan(const Product *p, DType x_type, DType y_type, bool beside);
void blas_plan_free(BlasPlan *plan);                            /* NULL: nothing */
/* As product.h does it; p->act is not looked at. false: nothing was done, there is no algorithm for so many rows. */
bool blas_run(BlasPlan *plan, const Product *p);

typedef struct DnnLayer DnnLayer;

/* A convolution, bf16 or f16 in. NULL without cuDNN. */
DnnLayer *dnn_layer(const ConvSpec *spec, bool bias);
void dnn_layer_free(DnnLayer *layer);                           /* NULL: nothing */
/* y gets sum + bias of p, of B images, or, with add, y + sum + bias in f32 (y_type F32); p->y, act and add are not
 * looked at. false: nothing was done, cuDNN does not take the size; the same answer each time. */
bool dnn_run(const DnnLayer *layer, const Product *p, int64_t B, void *y, bool add);

#endif
