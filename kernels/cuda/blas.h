/* SPDX-License-Identifier: MIT */
/* blas.h -- what blas.cu and blas_choice.cu share: cuBLASLt's functions and a layer's plan. */
#ifndef KERNELS_CUDA_BLAS_H
#define KERNELS_CUDA_BLAS_H

#include <cublasLt.h>
#include "kernels/cuda/library.h"

#define EACH_BLAS_FUNCTION(f)                                                                                          \
    f(cublasLtCreate) f(cublasLtMatmulDescCreate) f(cublasLtMatmulDescDestroy) f(cublasLtMatmulDescSetAttribute)       \
    f(cublasLtMatrixLayoutCreate) f(cublasLtMatrixLayoutDestroy) f(cublasLtMatrixLayoutSetAttribute)                   \
    f(cublasLtMatmulPreferenceCreate) f(cublasLtMatmulPreferenceDestroy) f(cublasLtMatmulPreferenceSetAttribute)       \
    f(cublasLtMatmulAlgoGetHeuristic) f(cublasLtMatmulAlgoCheck) f(cublasLtMatmul)

/* cuBLASLt's functions, under their own names. */
typedef struct Blas {
#define MEMBER(name) decltype(&::name) name;
    EACH_BLAS_FUNCTION(MEMBER)
#undef MEMBER
    cublasLtHandle_t handle;
} Blas;
extern Blas blas;

enum { BLAS_SIZES = 4 };        /* ranges of M */

/* Rows that a range's algorithm is chosen for, and the most that it gets. */
static const int64_t blas_typical[BLAS_SIZES] = {65536, 8192, 1024, 128};
static const int64_t blas_most[BLAS_SIZES] = {INT64_MAX, 16384, 2048, 256};

/* Who multiplies a range of M: an algorithm, or no one here. */
typedef struct BlasChoice {
    bool taken;
    cublasLtMatmulAlgo_t algorithm;
} BlasChoice;

struct BlasPlan {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t w, x, y;
    BlasChoice choice[2][BLAS_SIZES];   /* for what is stored, for what is added to y */
    size_t workspace;
    DType x_type, y_type;
    int K, out;
    int64_t most;               /* rows at once: what is fast counts elements in 32 bits */
};

bool blas_set_rows(BlasPlan *plan, int64_t M);
bool blas_set_bias(BlasPlan *plan, const float *bias);
/* Whether an algorithm takes M rows; the workspace grows to what it needs. */
bool blas_takes(BlasPlan *plan, const cublasLtMatmulAlgo_t *algorithm, int64_t M);
/* M rows by one algorithm, M as it was set. */
cublasStatus_t blas_multiply(const BlasPlan *plan, const cublasLtMatmulAlgo_t *algorithm, void *y, const void *x,
                             const void *w, bool add);

/* blas_choice.cu: fills in plan->choice; false: cuBLASLt is not for this layer. */
bool blas_choose(BlasPlan *plan, const Product *p, cublasLtMatmulPreference_t wish);
/* The same where product_hopper.cu multiplies: what gives its bytes and is faster. */
bool blas_choose_beside(BlasPlan *plan, const Product *p, cublasLtMatmulPreference_t wish);

#endif
