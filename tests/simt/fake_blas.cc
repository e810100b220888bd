/* SPDX-License-Identifier: MIT */
/* fake_blas.cc -- cuBLASLt as its manual describes it, by plain loops, for kernels/cuda/blas.cu on the host.
 *
 *     D (m,n) = alpha op(A) B + beta C, then + bias[row] where the epilogue says so; matrices lie columns first
 *
 * It refuses what the library may refuse: strides shorter than a column, addresses off the alignment that was promised,
 * an algorithm that its heuristic did not give, or that may split sums. For few columns of D it proposes two more,
 * first one that sums backwards, then one with the same sums, both faster than a kernel; the one for many is slower. */
#include "tests/simt/cublasLt.h"

enum { MARK = 0x5ade, BACKWARDS, ANOTHER, WORKSPACE = 4096, FEW = 4096 };
static const unsigned promised = 16;

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    static char one;
    *handle = (cublasLtHandle_t)(void *)&one;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale)
{
    *d = (cublasLtMatmulDesc_t)calloc(1, sizeof **d);
    (*d)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    free(d);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t take(void *to, size_t size, const void *value, size_t bytes)
{
    if (bytes != size)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t bytes)
{
    switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA:         return take(&d->transposed, sizeof d->transposed, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:       return take(&d->epilogue, sizeof d->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:   return take(&d->bias, sizeof d->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return take(&d->bias_type, sizeof d->bias_type, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t stride)
{
    *l = (cublasLtMatrixLayout_t)calloc(1, sizeof **l);
    **l = {type, rows, columns, stride};
    return stride >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    free(l);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t,
                                                const void *value, size_t bytes)
{
    return take(&l->columns, sizeof l->columns, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *wish)
{
    *wish = (cublasLtMatmulPreference_t)calloc(1, sizeof **wish);
    **wish = {0, 7, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t wish)
{
    free(wish);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t wish,
                                                    cublasLtMatmulPreferenceAttributes_t what, const void *value,
                                                    size_t bytes)
{
    switch (what) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:   return take(&wish->workspace, sizeof wish->workspace, value,
                                                                 bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return take(&wish->reductions, sizeof wish->reductions, value,
                                                                 bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return take(&wish->alignment[0], sizeof(uint32_t), value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return take(&wish->alignment[1], sizeof(uint32_t), value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return take(&wish->alignment[2], sizeof(uint32_t), value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return take(&wish->alignment[3], sizeof(uint32_t), value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

static bool fits(cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B, cublasLtMatrixLayout_t D)
{
    const bool turned = d->transposed == CUBLAS_OP_T;
    const uint64_t m = turned ? A->columns : A->rows, k = turned ? A->rows : A->columns;
    return D->rows*D->columns < 1u << 31 && B->rows*B->columns < 1u << 31 && A->type == B->type && m == D->rows
        && k == B->rows && B->columns == D->columns
        && (D->type == CUDA_R_32F || D->type == A->type)
        && (d->epilogue != CUBLASLT_EPILOGUE_BIAS || (d->bias && d->bias_type == CUDA_R_32F));
}

static bool known(const cublasLtMatmulAlgo_t *algo)
{
    return algo->data[0] >= MARK && algo->data[0] <= ANOTHER;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t A,
                                       cublasLtMatrixLayout_t B, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t D,
                                       const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *found)
{
    *found = {*algo, WORKSPACE, CUBLAS_STATUS_SUCCESS};
    return known(algo) && fits(d, A, B, D) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t A,
                                              cublasLtMatrixLayout_t B, cublasLtMatrixLayout_t C,
                                              cublasLtMatrixLayout_t D,
                                              cublasLtMatmulPreference_t wish, int most,
                                              cublasLtMatmulHeuristicResult_t *found,
                                              int *count)
{
    const uint64_t few[] = {BACKWARDS, ANOTHER, MARK}, many[] = {MARK};
    const uint64_t *mark = D->columns < FEW ? few : many;
    for (int i = 0; i < 4; i++)
        if (wish->alignment[i] > promised)
            simt_fail("matrices are promised to be aligned to %u bytes", wish->alignment[i]);
    *count = 0;
    if (wish->workspace < WORKSPACE || wish->reductions != CUBLASLT_REDUCTION_SCHEME_NONE)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (int i = 0; i < (mark == few ? 3 : 1) && i < most; i++) {
        const cublasLtMatmulAlgo_t algo = {{mark[i]}};
        const cublasStatus_t status = cublasLtMatmulAlgoCheck(handle, d, A, B, C, D, &algo, &found[(*count)++]);
        if (status != CUBLAS_STATUS_SUCCESS)
            return status;
    }
    return CUBLAS_STATUS_SUCCESS;
}

/* A matrix's values, in new memory. The caller frees. */
static float *floats(const void *p, const FakeLayout &l)
{
    const uint64_t n = (uint64_t)l.stride*(l.columns - 1) + l.rows;
    float *x = (float *)malloc(n*sizeof *x);
    for (uint64_t i = 0; i < n; i++)
        x[i] = l.type == CUDA_R_32F ? ((const float *)p)[i]
                                    : simt_from_bits(((const uint16_t *)p)[i], l.type == CUDA_R_16F);
    return x;
}

int simt_blas_calls, simt_blas_others;

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *A_,
                              cublasLtMatrixLayout_t A, const void *B_, cublasLtMatrixLayout_t B, const void *beta,
                              const void *C_, cublasLtMatrixLayout_t, void *D_, cublasLtMatrixLayout_t D,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes, cudaStream_t)
{
    const bool add = *(const float *)beta == 1;
    if (!known(algo) || !fits(d, A, B, D) || !workspace || bytes < WORKSPACE || *(const float *)alpha != 1
        || (*(const float *)beta != 0 && !add) || (add && (C_ != D_ || D->type != CUDA_R_32F))
        || ((uintptr_t)A_ | (uintptr_t)B_ | (uintptr_t)D_)%promised)
        return CUBLAS_STATUS_INVALID_VALUE;
    const FakeProduct product = *d;
    const FakeLayout left = *A, right = *B, made = *D;
    const uint64_t mark = algo->data[0];
    simt_do([=] {
        simt_blas_calls++;
        simt_time += mark == MARK ? 2 : mark == ANOTHER ? 0.5f : 0.25f;
        simt_blas_others += mark == ANOTHER;
        float *a = floats(A_, left), *b = floats(B_, right);
        for (uint64_t n = 0; n < made.columns; n++)
            for (uint64_t m = 0; m < made.rows; m++) {
                float sum = 0;
                for (uint64_t j = 0; j < right.rows; j++) {
                    const uint64_t k = mark == BACKWARDS ? right.rows - 1 - j : j;
                    sum += a[product.transposed ? k + m*(uint64_t)left.stride : m + k*(uint64_t)left.stride]
                         * b[k + n*(uint64_t)right.stride];
                }
                if (add)
                    sum += ((const float *)D_)[m + n*(uint64_t)made.stride];
                if (product.epilogue == CUBLASLT_EPILOGUE_BIAS)
                    sum += product.bias[m];
                const uint64_t at = m + n*(uint64_t)made.stride;
                if (made.type == CUDA_R_32F)
                    ((float *)D_)[at] = sum;
                else
                    ((uint16_t *)D_)[at] = made.type == CUDA_R_16F ? simt_half(sum) : simt_bf16(sum);
            }
        free(a);
        free(b);
    });
    return CUBLAS_STATUS_SUCCESS;
}
