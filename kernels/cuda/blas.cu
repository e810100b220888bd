/* SPDX-License-Identifier: MIT */
/* blas.cu -- linear layers by cuBLASLt: y (M,out) = x (M,K) w (out,K)^T + bias, or y += it, sums in f32, never in TF32.
 *
 * cuBLASLt's matrices are columns first, so x is (K,M), w is (K,out) and taken transposed, y is (out,M), each with its
 * rows' length as leading dimension; the bias runs down y's columns, which is what its epilogue adds.
 *
 * What is fast for many rows leaves most of a device idle with few: there is an algorithm for each of SIZES ranges of
 * M, all among those that split no sum. The first range's is the library's choice for many rows, asked for its consent
 * to few and to as many as make MOST_ELEMENTS of x or y; more rows go in pieces. Another range's must give the same
 * bytes as that one, which is tried on TRIAL_ROWS rows when the layer is made: a row's bytes do not depend on M. */
#include <cublasLt.h>
#include "kernels/cuda/library.h"

enum { SIZES = 4, CANDIDATES = 8, TRIAL_ROWS = 96, MOST_ELEMENTS = 1 << 30 };

/* Rows that a range's algorithm is chosen for, and the most that it gets. */
static const int64_t typical[SIZES] = {65536, 8192, 1024, 128}, most_rows[SIZES] = {INT64_MAX, 16384, 2048, 256};

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
    cublasLtMatmulAlgo_t algorithm[SIZES];
    size_t workspace;
    DType x_type, y_type;
    int K, out;
    int64_t most;               /* rows at once: what is fast counts elements in 32 bits */
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
        && blas.cublasLtMatrixLayoutCreate(&plan->x, data_type(x_type), (uint64_t)K, 1, K) == CUBLAS_STATUS_SUCCESS
        && blas.cublasLtMatrixLayoutCreate(&plan->y, data_type(y_type), (uint64_t)out, 1, out)
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

/* Whether an algorithm takes M rows; the workspace grows to what it needs. */
static bool takes(BlasPlan *plan, const cublasLtMatmulAlgo_t *algorithm, int64_t M)
{
    cublasLtMatmulHeuristicResult_t found = {};
    if (!set_rows(plan, M)
        || blas.cublasLtMatmulAlgoCheck(blas.handle, plan->product, plan->w, plan->x, plan->y, plan->y, algorithm,
                                        &found) != CUBLAS_STATUS_SUCCESS
        || found.workspaceSize > LIBRARY_WORKSPACE)
        return false;
    if (found.workspaceSize > plan->workspace)
        plan->workspace = found.workspaceSize;
    return true;
}

static cublasStatus_t multiply(const BlasPlan *plan, const cublasLtMatmulAlgo_t *algorithm, void *y, const void *x,
                               const void *w, bool add)
{
    const float one = 1, zero = 0;
    void *workspace = gpu_scratch(SCRATCH_LIBRARY, LIBRARY_WORKSPACE);
    return blas.cublasLtMatmul(blas.handle, plan->product, &one, w, plan->w, x, plan->x, add ? &one : &zero, y, plan->y,
                               y, plan->y, algorithm, workspace, plan->workspace, gpu_stream);
}

/* ---- whether two algorithms give the same bytes ---- */

/* Numbers in [-1, 1) without a pattern (a multiplicative hash of their place). */
template <typename T> static __global__ void scatter_values(T *x, int64_t n)
{
    const int64_t i = thread_number();
    if (i < n)
        x[i] = from_float<T>((float)(int32_t)((uint32_t)i*2654435761u ^ (uint32_t)i << 13)*0x1p-31f);
}

static void fill(void *x, DType type, int64_t n)
{
    if (type == F32)
        LAUNCH(scatter_values<float>, gpu_blocks(n, 256), 256, 0, (float *)x, n);
    else
        LAUNCH(scatter_values<bf16>, gpu_blocks(n, 256), 256, 0, (bf16 *)x, n);
}

static __global__ void compare(int32_t *differ, const uint32_t *a, const uint32_t *b, int64_t n)
{
    const int64_t i = thread_number();
    if (i < n && a[i] != b[i])
        *differ = 1;
}

static bool same_bytes(BlasPlan *plan, const cublasLtMatmulAlgo_t *other, const void *w, bool add)
{
    const int64_t n_x = (int64_t)TRIAL_ROWS*plan->K, n_y = (int64_t)TRIAL_ROWS*plan->out;
    const size_t x_bytes = ((size_t)n_x*dtype_size(plan->x_type) + 255)/256*256, y_bytes = (size_t)n_y*sizeof(float);
    char *x = (char *)gpu_scratch(SCRATCH_PRODUCT, x_bytes + 2*y_bytes + 256), *y = x + x_bytes;
    int32_t *differ = (int32_t *)(y + 2*y_bytes), found = 0;
    const cublasLtMatmulAlgo_t *const algorithm[] = {&plan->algorithm[0], other};
    fill(x, plan->x_type, n_x);
    gpu_check(cudaMemsetAsync(differ, 0, sizeof *differ, gpu_stream));
    for (int i = 0; i < 2; i++) {
        fill(y + i*y_bytes, F32, n_y);
        if (multiply(plan, algorithm[i], y + i*y_bytes, x, w, add) != CUBLAS_STATUS_SUCCESS)
            return false;
    }
    LAUNCH(compare, gpu_blocks(n_y, 256), 256, 0, differ, (const uint32_t *)y, (const uint32_t *)(y + y_bytes), n_y);
    gpu_check(cudaMemcpyAsync(&found, differ, sizeof found, cudaMemcpyDeviceToHost, gpu_stream));
    gpu_check(cudaStreamSynchronize(gpu_stream));
    return !found;
}

/* ---- the choice ---- */

static int propose(BlasPlan *plan, cublasLtMatmulPreference_t wish, int64_t M,
                   cublasLtMatmulHeuristicResult_t found[CANDIDATES])
{
    int count = 0;
    return set_rows(plan, M)
        && blas.cublasLtMatmulAlgoGetHeuristic(blas.handle, plan->product, plan->w, plan->x, plan->y, plan->y, wish,
                                               CANDIDATES, found, &count) == CUBLAS_STATUS_SUCCESS ? count : 0;
}

static bool choose_first(BlasPlan *plan, cublasLtMatmulPreference_t wish)
{
    const int64_t counts[] = {1, 77, 1000, 4096, plan->most};
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    const int count = propose(plan, wish, typical[0], found);
    for (int i = 0; i < count; i++) {
        bool good = found[i].state == CUBLAS_STATUS_SUCCESS;
        for (size_t j = 0; j < sizeof counts/sizeof *counts; j++)
            good = good && takes(plan, &found[i].algo, counts[j]);
        if (good) {
            plan->algorithm[0] = found[i].algo;
            return true;
        }
    }
    return false;
}

static bool choose(BlasPlan *plan, const Product *p)
{
    cublasLtMatmulPreference_t wish = wishes();
    const bool good = wish && choose_first(plan, wish);
    if (good && p->bias && !set_bias(plan, p->bias))
        gpu_fail(__FILE__, __LINE__, "blas_plan", "cuBLASLt does not take a bias");
    for (int s = 1; good && s < SIZES; s++) {
        cublasLtMatmulHeuristicResult_t found[CANDIDATES];
        const int count = propose(plan, wish, typical[s], found);
        plan->algorithm[s] = plan->algorithm[s - 1];
        for (int i = 0; i < count; i++) {
            const cublasLtMatmulAlgo_t *other = &found[i].algo;
            if (memcmp(other, &plan->algorithm[s], sizeof *other) == 0)
                break;
            if (found[i].state == CUBLAS_STATUS_SUCCESS && takes(plan, other, 1) && takes(plan, other, most_rows[s])
                && takes(plan, other, TRIAL_ROWS) && same_bytes(plan, other, p->w, false)
                && (plan->y_type == BF16 || same_bytes(plan, other, p->w, true))) {
                plan->algorithm[s] = *other;
                break;
            }
        }
    }
    if (wish)
        blas.cublasLtMatmulPreferenceDestroy(wish);
    return good;
}

BlasPlan *blas_plan(const Product *p, DType x_type, DType y_type)
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
    if (plan && plan->most >= typical[0] && describe(plan, p->K, p->out, x_type, y_type, p->bias != NULL)
        && choose(plan, p))
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

void blas_run(BlasPlan *plan, const Product *p)
{
    const size_t x_row = (size_t)plan->K*dtype_size(plan->x_type), y_row = (size_t)plan->out*dtype_size(plan->y_type);
    int size = 0;
    while (size + 1 < SIZES && p->M <= most_rows[size + 1])
        size++;
    if (p->bias && !set_bias(plan, p->bias))
        gpu_fail(__FILE__, __LINE__, "blas_run", "cuBLASLt does not take a bias that it took before");
    for (int64_t m = 0; m < p->M; m += plan->most) {
        if (!set_rows(plan, p->M - m < plan->most ? p->M - m : plan->most))
            gpu_fail(__FILE__, __LINE__, "blas_run", "cuBLASLt does not take a shape that it took before");
        blas_check(multiply(plan, &plan->algorithm[size], (char *)p->y + (size_t)m*y_row,
                            (const char *)p->x + (size_t)m*x_row, p->w, p->add));
    }
}
