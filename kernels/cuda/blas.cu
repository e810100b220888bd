/* SPDX-License-Identifier: MIT */
/* blas.cu -- linear layers by cuBLASLt: y (M,out) = x (M,K) w (out,K)^T + bias, sums in f32, never in TF32.
 *
 * cuBLASLt's matrices are columns first, so x is (K,M), w is (K,out) and taken transposed, y is (out,M), each with its
 * rows' length as leading dimension; the bias runs down y's columns, which is what its epilogue adds. The algorithm is
 * chosen once, for ROWS rows, among those that split no sum, and asked for its consent to few and many rows. */
#include <cublasLt.h>
#include "kernels/cuda/library.h"

enum { ROWS = 4096 };

#define EACH_FUNCTION(f)                                                                                               \
    f(cublasLtCreate) f(cublasLtMatmulDescCreate) f(cublasLtMatmulDescDestroy) f(cublasLtMatmulDescSetAttribute)       \
    f(cublasLtMatrixLayoutCreate) f(cublasLtMatrixLayoutDestroy) f(cublasLtMatrixLayoutSetAttribute)                   \
    f(cublasLtMatmulPreferenceCreate) f(cublasLtMatmulPreferenceDestroy) f(cublasLtMatmulPreferenceSetAttribute)       \
    f(cublasLtMatmulAlgoGetHeuristic) f(cublasLtMatmulAlgoCheck) f(cublasLtMatmul)

#define AS_TEXT_(x) #x
#define AS_TEXT(x) AS_TEXT_(x)

/* cuBLASLt's functions, under their own names. */
static struct Blas {
#define MEMBER(name) decltype(&::name) name;
    EACH_FUNCTION(MEMBER)
    cublasLtHandle_t handle;
} blas;

struct BlasPlan {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace;
};

#define blas_check(call)                                                                                               \
    do {                                                                                                               \
        const cublasStatus_t status_ = (call);                                                                         \
        if (status_ != CUBLAS_STATUS_SUCCESS)                                                                          \
            blas_fail(__LINE__, #call, status_);                                                                       \
    } while (0)

[[noreturn]] static void blas_fail(int line, const char *what, cublasStatus_t status)
{
    char why[64];
    snprintf(why, sizeof why, "cuBLASLt's status %d", (int)status);
    gpu_fail(__FILE__, line, what, why);
}

/* Opens the library, once. */
static bool blas_open(void)
{
    static bool tried;
    if (tried)
        return blas.handle != NULL;
    tried = true;
    void *library = library_open("libcublasLt.so." AS_TEXT(CUBLAS_VER_MAJOR));
    bool whole = library != NULL;
#define FIND(name) whole = whole && library_find(library, #name, (void **)&blas.name);
    EACH_FUNCTION(FIND)
    return whole && blas.cublasLtCreate(&blas.handle) == CUBLAS_STATUS_SUCCESS;
}

static cudaDataType_t data_type(DType type)
{
    return type == BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static bool set_rows(BlasPlan *plan, int64_t M)
{
    const uint64_t columns = (uint64_t)M;
    return blas.cublasLtMatrixLayoutSetAttribute(plan->x, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof columns)
            == CUBLAS_STATUS_SUCCESS
        && blas.cublasLtMatrixLayoutSetAttribute(plan->y, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof columns)
            == CUBLAS_STATUS_SUCCESS;
}

static bool set_bias(BlasPlan *plan, const float *bias)
{
    return blas.cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias)
        == CUBLAS_STATUS_SUCCESS;
}

/* The product's description, but for the number of rows and the address of the bias. */
static bool describe(BlasPlan *plan, int K, int out, DType x_type, DType y_type, bool bias)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t bias_type = CUDA_R_32F;
    bool good = blas.cublasLtMatmulDescCreate(&plan->product, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS
        && blas.cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                               sizeof transposed)
            == CUBLAS_STATUS_SUCCESS
        && blas.cublasLtMatrixLayoutCreate(&plan->w, data_type(x_type), (uint64_t)K, (uint64_t)out, K)
            == CUBLAS_STATUS_SUCCESS
        && blas.cublasLtMatrixLayoutCreate(&plan->x, data_type(x_type), (uint64_t)K, ROWS, K) == CUBLAS_STATUS_SUCCESS
        && blas.cublasLtMatrixLayoutCreate(&plan->y, data_type(y_type), (uint64_t)out, ROWS, out)
            == CUBLAS_STATUS_SUCCESS;
    if (good && bias)
        good = blas.cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                                   sizeof epilogue)
                == CUBLAS_STATUS_SUCCESS
            && blas.cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type,
                                                   sizeof bias_type) == CUBLAS_STATUS_SUCCESS
            && set_bias(plan, (const float *)(uintptr_t)256);       /* none yet; its alignment is looked at */
    return good;
}

/* The library's first choice for ROWS rows that leaves sums whole, if it takes other numbers of rows too. */
static bool choose(BlasPlan *plan)
{
    const size_t workspace = LIBRARY_WORKSPACE;
    const uint32_t whole_sums = CUBLASLT_REDUCTION_SCHEME_NONE, alignment = 16;
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    static const int64_t counts[] = {1, 77, 1000, ROWS, 1 << 20};
    cublasLtMatmulPreference_t wish = NULL;
    cublasLtMatmulHeuristicResult_t found = {};
    int count = 0;
    bool good = blas.cublasLtMatmulPreferenceCreate(&wish) == CUBLAS_STATUS_SUCCESS
        && blas.cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                     sizeof workspace) == CUBLAS_STATUS_SUCCESS
        && blas.cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &whole_sums,
                                                     sizeof whole_sums) == CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; i < sizeof aligned/sizeof *aligned; i++)
        good = good && blas.cublasLtMatmulPreferenceSetAttribute(wish, aligned[i], &alignment, sizeof alignment)
            == CUBLAS_STATUS_SUCCESS;
    good = good && blas.cublasLtMatmulAlgoGetHeuristic(blas.handle, plan->product, plan->w, plan->x, plan->y, plan->y,
                                                       wish, 1, &found, &count) == CUBLAS_STATUS_SUCCESS
        && count == 1 && found.state == CUBLAS_STATUS_SUCCESS;
    plan->algorithm = found.algo;
    plan->workspace = found.workspaceSize;
    for (size_t i = 0; good && i < sizeof counts/sizeof *counts; i++) {
        good = set_rows(plan, counts[i])
            && blas.cublasLtMatmulAlgoCheck(blas.handle, plan->product, plan->w, plan->x, plan->y, plan->y,
                                            &plan->algorithm, &found) == CUBLAS_STATUS_SUCCESS
            && found.workspaceSize <= workspace;
        if (good && found.workspaceSize > plan->workspace)
            plan->workspace = found.workspaceSize;
    }
    if (wish)
        blas.cublasLtMatmulPreferenceDestroy(wish);
    return good;
}

BlasPlan *blas_plan(int K, int out, DType x_type, DType y_type, bool bias)
{
    if (!blas_open())
        return NULL;
    BlasPlan *plan = (BlasPlan *)calloc(1, sizeof *plan);
    if (plan && describe(plan, K, out, x_type, y_type, bias) && choose(plan))
        return plan;
    blas_plan_free(plan);
    return NULL;
}

void blas_plan_free(BlasPlan *plan)
{
    if (!plan)
        return;
    if (plan->product)
        blas.cublasLtMatmulDescDestroy(plan->product);
    const cublasLtMatrixLayout_t layouts[] = {plan->w, plan->x, plan->y};
    for (int i = 0; i < 3; i++)
        if (layouts[i])
            blas.cublasLtMatrixLayoutDestroy(layouts[i]);
    free(plan);
}

void blas_run(BlasPlan *plan, const Product *p, void *y)
{
    const float one = 1, zero = 0;
    void *workspace = gpu_scratch(SCRATCH_LIBRARY, LIBRARY_WORKSPACE);
    if (!set_rows(plan, p->M) || (p->bias && !set_bias(plan, p->bias)))
        gpu_fail(__FILE__, __LINE__, "blas_run", "cuBLASLt does not take a shape that it took before");
    blas_check(blas.cublasLtMatmul(blas.handle, plan->product, &one, p->w, plan->w, p->x, plan->x, &zero, y, plan->y, y,
                                   plan->y, &plan->algorithm, workspace, plan->workspace, gpu_stream));
}
