/* SPDX-License-Identifier: MIT */
/* blas.cu -- linear layers by cuBLASLt: y (M,out) = x (M,K) w (out,K)^T + bias, or y += it, sums in f32, never in TF32.
 *
 * cuBLASLt's matrices are columns first, so x is (K,M), w is (K,out) and taken transposed, y is (out,M), each with its
 * rows' length as leading dimension; the bias runs down y's columns, which is what its epilogue adds. More rows than
 * make MOST_ELEMENTS of x or y go in pieces. Which algorithm multiplies how many rows: blas_choice.cu. */
#include "kernels/cuda/blas.h"

enum { MOST_ELEMENTS = 1 << 30 };

#define AS_TEXT_(x) #x
#define AS_TEXT(x) AS_TEXT_(x)

Blas blas;

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
    EACH_BLAS_FUNCTION(FIND)
    return whole && blas.cublasLtCreate(&blas.handle) == CUBLAS_STATUS_SUCCESS;
}

static cudaDataType_t data_type(DType type)
{
    return type == F32 ? CUDA_R_32F : type == BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

bool blas_set_rows(BlasPlan *plan, int64_t M)
{
    const uint64_t columns = (uint64_t)M;
    return blas.cublasLtMatrixLayoutSetAttribute(plan->x, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof columns)
            == CUBLAS_STATUS_SUCCESS
        && blas.cublasLtMatrixLayoutSetAttribute(plan->y, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof columns)
            == CUBLAS_STATUS_SUCCESS;
}

bool blas_set_bias(BlasPlan *plan, const float *bias)
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
        && blas.cublasLtMatrixLayoutCreate(&plan->x, data_type(x_type), (uint64_t)K, 1, K) == CUBLAS_STATUS_SUCCESS
        && blas.cublasLtMatrixLayoutCreate(&plan->y, data_type(y_type), (uint64_t)out, 1, out)
            == CUBLAS_STATUS_SUCCESS;
    if (good && bias)
        good = blas.cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                                   sizeof epilogue)
                == CUBLAS_STATUS_SUCCESS
            && blas.cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type,
                                                   sizeof bias_type) == CUBLAS_STATUS_SUCCESS
            && blas_set_bias(plan, (const float *)(uintptr_t)256);       /* none yet; its alignment is looked at */
    return good;
}

static cublasLtMatmulPreference_t wishes(void)
{
    const size_t workspace = LIBRARY_WORKSPACE;
    const uint32_t whole_sums = CUBLASLT_REDUCTION_SCHEME_NONE, alignment = 16;
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasLtMatmulPreference_t wish = NULL;
    bool good = blas.cublasLtMatmulPreferenceCreate(&wish) == CUBLAS_STATUS_SUCCESS
        && blas.cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                     sizeof workspace) == CUBLAS_STATUS_SUCCESS
        && blas.cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &whole_sums,
                                                     sizeof whole_sums) == CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; i < sizeof aligned/sizeof *aligned; i++)
        good = good && blas.cublasLtMatmulPreferenceSetAttribute(wish, aligned[i], &alignment, sizeof alignment)
            == CUBLAS_STATUS_SUCCESS;
    if (wish && !good)
        blas.cublasLtMatmulPreferenceDestroy(wish);
    return good ? wish : NULL;
}

bool blas_takes(BlasPlan *plan, const cublasLtMatmulAlgo_t *algorithm, int64_t M)
{
    cublasLtMatmulHeuristicResult_t found = {};
    if (!blas_set_rows(plan, M)
        || blas.cublasLtMatmulAlgoCheck(blas.handle, plan->product, plan->w, plan->x, plan->y, plan->y, algorithm,
                                        &found) != CUBLAS_STATUS_SUCCESS
        || found.workspaceSize > LIBRARY_WORKSPACE)
        return false;
    if (found.workspaceSize > plan->workspace)
        plan->workspace = found.workspaceSize;
    return true;
}

cublasStatus_t blas_multiply(const BlasPlan *plan, const cublasLtMatmulAlgo_t *algorithm, void *y, const void *x,
                               const void *w, bool add)
{
    const float one = 1, zero = 0;
    void *workspace = gpu_scratch(SCRATCH_LIBRARY, LIBRARY_WORKSPACE);
    return blas.cublasLtMatmul(blas.handle, plan->product, &one, w, plan->w, x, plan->x, add ? &one : &zero, y, plan->y,
                               y, plan->y, algorithm, workspace, plan->workspace, gpu_stream);
}

BlasPlan *blas_plan(const Product *p, DType x_type, DType y_type, bool beside)
{
    if (!blas_open())
        return NULL;
    BlasPlan *plan = (BlasPlan *)calloc(1, sizeof *plan);
    if (plan) {
        plan->x_type = x_type;
        plan->y_type = y_type;
        plan->K = p->K;
        plan->out = p->out;
        plan->most = MOST_ELEMENTS/(p->K > p->out ? p->K : p->out)/256*256;
    }
    bool good = plan && plan->most >= blas_typical[0] && describe(plan, p->K, p->out, x_type, y_type, p->bias != NULL);
    cublasLtMatmulPreference_t wish = good ? wishes() : NULL;
    good = wish && (beside ? blas_choose_beside : blas_choose)(plan, p, wish);
    if (wish)
        blas.cublasLtMatmulPreferenceDestroy(wish);
    if (good)
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

bool blas_run(BlasPlan *plan, const Product *p)
{
    const size_t x_row = (size_t)plan->K*dtype_size(plan->x_type), y_row = (size_t)plan->out*dtype_size(plan->y_type);
    int size = 0;
    while (size + 1 < BLAS_SIZES && p->M <= blas_most[size + 1])
        size++;
    const BlasChoice *choice = &plan->choice[p->add][size];
    if (!choice->taken)
        return false;
    if (p->bias && !blas_set_bias(plan, p->bias))
        gpu_fail(__FILE__, __LINE__, "blas_run", "cuBLASLt does not take a bias that it took before");
    for (int64_t m = 0; m < p->M; m += plan->most) {
        if (!blas_set_rows(plan, p->M - m < plan->most ? p->M - m : plan->most))
            gpu_fail(__FILE__, __LINE__, "blas_run", "cuBLASLt does not take a shape that it took before");
        blas_check(blas_multiply(plan, &choice->algorithm, (char *)p->y + (size_t)m*y_row,
                                 (const char *)p->x + (size_t)m*x_row, p->w, p->add));
    }
    return true;
}
