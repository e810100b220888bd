/* SPDX-License-Identifier: MIT */
/* blas_choice.cu -- which of cuBLASLt's algorithms multiplies how many rows of a linear layer.
 *
 * What is fast for many rows leaves most of a device idle with few: there is an algorithm for each of BLAS_SIZES ranges
 * of M, all among those that split no sum, and all of the same bytes, which is tried on TRIAL_ROWS rows: a row's
 * bytes do not depend on M. The first range's is the library's choice for many rows, asked for its consent to few and
 * to as many as a plan lets through; the others are compared to that one.
 *
 * Where product_hopper.cu multiplies, a layer's bytes are its own: an algorithm is taken for a range where it has given
 * them too and has been faster there. That is looked at once for all layers that are alike. (What is added to y gets
 * the bias first here, and last by cuBLASLt: with a bias, sums that are added are never the same.) */
#include "kernels/cuda/blas.h"

enum { CANDIDATES = 8, TRIAL_ROWS = 96, TIMED = 3 };
#ifdef SIMT
static const int64_t timed_bytes = 16 << 10;
#else
static const int64_t timed_bytes = 128 << 20;           /* of x and y: more than the caches hold */
#endif
static const float gain = 0.97f;                        /* the least that is taken for one, in time */

/* ---- whether two algorithms give the same bytes ---- */

/* x (n/width, width), scale times numbers in [-1, 1) without a pattern (a multiplicative hash of their place); in the
 * second half of a row those of the first, times again. */
template <typename T> static __global__ void scatter_values(T *x, int64_t n, int width, float scale, float again)
{
    const int64_t i = thread_number();
    const int half = width/2;
    const bool second = (int)(i%width) >= half;
    const uint32_t at = (uint32_t)(second ? i - half : i);
    if (i < n)
        x[i] = from_float<T>((float)(int32_t)(at*2654435761u ^ at << 13)*0x1p-31f*scale*(second ? again : 1));
}

static void fill(void *x, DType type, int64_t n, int width, float scale, float again)
{
    if (type == F32)
        LAUNCH(scatter_values<float>, gpu_blocks(n, 256), 256, 0, (float *)x, n, width, scale, again);
    else if (type == BF16)
        LAUNCH(scatter_values<bf16>, gpu_blocks(n, 256), 256, 0, (bf16 *)x, n, width, scale, again);
    else
        LAUNCH(scatter_values<f16>, gpu_blocks(n, 256), 256, 0, (f16 *)x, n, width, scale, again);
}

static __global__ void compare(int32_t *differ, const uint32_t *a, const uint32_t *b, int64_t n)
{
    const int64_t i = thread_number();
    if (i < n && a[i] != b[i])
        *differ = 1;
}

/* p by an algorithm, or by the layer's own product where that is NULL. */
static bool multiply(BlasPlan *plan, const Product *p, const cublasLtMatmulAlgo_t *algorithm)
{
    if (algorithm)
        return (!p->bias || blas_set_bias(plan, p->bias)) && blas_set_rows(plan, p->M)
            && blas_multiply(plan, algorithm, p->y, p->x, p->w, p->add) == CUBLAS_STATUS_SUCCESS;
    product_hopper(p, plan->x_type, plan->y_type);
    return true;
}

/* A linear layer of the plan's shape over M rows; its addresses are still to come. */
static Product layer_of(const BlasPlan *plan, int64_t M, bool add)
{
    Product p = {};
    p.M = M;
    p.in = p.K = plan->K;
    p.out = plan->out;
    p.W = p.Wo = (int)M;
    p.H = p.Ho = p.kernel = p.stride = 1;
    p.add = add;
    return p;
}

/* On values whose sums are zero but for their rounding, second halves against first, which tells any two orders of
 * addition apart, in halves too; what else is added is as small. */
static bool same_bytes(BlasPlan *plan, const cublasLtMatmulAlgo_t *one, const cublasLtMatmulAlgo_t *other, bool bias,
                       bool add)
{
    const int K = plan->K, out = plan->out;
    const int64_t n_x = (int64_t)TRIAL_ROWS*K, n_w = (int64_t)out*K, n_y = (int64_t)TRIAL_ROWS*out;
    const int64_t size = (int64_t)dtype_size(plan->x_type);
    const float small = 0x1p-20f;
    char *at = (char *)gpu_scratch(SCRATCH_PRODUCT, (size_t)((n_x + n_w)*size + (2*n_y + out)*4 + 2048));
    void *x = gpu_take(&at, n_x*size), *w = gpu_take(&at, n_w*size), *b = gpu_take(&at, out*4);
    void *y[] = {gpu_take(&at, n_y*4), gpu_take(&at, n_y*4)};
    int32_t *differ = (int32_t *)at, found = 0;
    const cublasLtMatmulAlgo_t *const algorithm[] = {one, other};
    fill(x, plan->x_type, n_x, K, 1, -1);
    fill(w, plan->x_type, n_w, K, 1, 1);
    fill(b, F32, out, out, small, 1);
    gpu_check(cudaMemsetAsync(differ, 0, sizeof *differ, gpu_stream));
    Product p = layer_of(plan, TRIAL_ROWS, add);
    p.x = x;
    p.w = w;
    p.bias = bias ? (const float *)b : NULL;
    for (int i = 0; i < 2; i++) {
        fill(y[i], F32, n_y, out, small, 1);
        p.y = y[i];
        if (!multiply(plan, &p, algorithm[i]))
            return false;
    }
    LAUNCH(compare, gpu_blocks(n_y, 256), 256, 0, differ, (const uint32_t *)y[0], (const uint32_t *)y[1], n_y);
    gpu_check(cudaMemcpyAsync(&found, differ, sizeof found, cudaMemcpyDeviceToHost, gpu_stream));
    gpu_check(cudaStreamSynchronize(gpu_stream));
    return !found;
}

/* ---- one algorithm for each range ---- */

static int propose(BlasPlan *plan, cublasLtMatmulPreference_t wish, int64_t M,
                   cublasLtMatmulHeuristicResult_t found[CANDIDATES])
{
    int count = 0;
    return blas_set_rows(plan, M)
        && blas.cublasLtMatmulAlgoGetHeuristic(blas.handle, plan->product, plan->w, plan->x, plan->y, plan->y, wish,
                                               CANDIDATES, found, &count) == CUBLAS_STATUS_SUCCESS ? count : 0;
}

/* Whether it takes what a range gives it. */
static bool takes_range(BlasPlan *plan, const cublasLtMatmulAlgo_t *algorithm, int size)
{
    const int64_t most = size ? blas_most[size] : plan->most, counts[] = {1, 77, TRIAL_ROWS, 1000, 4096, most};
    bool good = true;
    for (size_t i = 0; i < sizeof counts/sizeof *counts; i++)
        good = good && (counts[i] > most || blas_takes(plan, algorithm, counts[i]));
    return good;
}

static bool choose_first(BlasPlan *plan, cublasLtMatmulPreference_t wish, cublasLtMatmulAlgo_t *first)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    const int count = propose(plan, wish, blas_typical[0], found);
    for (int i = 0; i < count; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS && takes_range(plan, &found[i].algo, 0)) {
            *first = found[i].algo;
            return true;
        }
    return false;
}

bool blas_choose(BlasPlan *plan, const Product *p, cublasLtMatmulPreference_t wish)
{
    const bool bias = p->bias != NULL;
    cublasLtMatmulAlgo_t chosen[BLAS_SIZES];
    if (!choose_first(plan, wish, &chosen[0]))
        return false;
    for (int s = 1; s < BLAS_SIZES; s++) {
        cublasLtMatmulHeuristicResult_t found[CANDIDATES];
        const int count = propose(plan, wish, blas_typical[s], found);
        chosen[s] = chosen[s - 1];
        for (int i = 0; i < count; i++) {
            const cublasLtMatmulAlgo_t *other = &found[i].algo;
            if (memcmp(other, &chosen[s], sizeof *other) == 0)
                break;
            if (found[i].state == CUBLAS_STATUS_SUCCESS && takes_range(plan, other, s)
                && same_bytes(plan, &chosen[0], other, bias, false)
                && (plan->y_type != F32 || same_bytes(plan, &chosen[0], other, bias, true))) {
                chosen[s] = *other;
                break;
            }
        }
    }
    for (int s = 0; s < BLAS_SIZES; s++)
        plan->choice[0][s] = plan->choice[1][s] = {true, chosen[s]};
    return true;
}

/* ---- beside the own product ---- */

/* Milliseconds for a range's typical number of rows, or as many as timed_bytes hold. */
static float time_of(BlasPlan *plan, const Product *layer, const cublasLtMatmulAlgo_t *algorithm, int size, bool add)
{
    const int64_t x_row = plan->K*(int64_t)dtype_size(plan->x_type);
    const int64_t y_row = plan->out*(int64_t)dtype_size(plan->y_type);
    const int64_t fit = timed_bytes/(x_row + y_row), rows = fit < blas_typical[size] ? fit : blas_typical[size];
    char *at = (char *)gpu_scratch(SCRATCH_PRODUCT, (size_t)(rows*(x_row + y_row) + 512));
    void *x = gpu_take(&at, rows*x_row), *y = gpu_take(&at, rows*y_row);
    Product p = layer_of(plan, rows, add);
    bool good = true;
    fill(x, plan->x_type, rows*plan->K, plan->K, 1, 1);
    fill(y, plan->y_type, rows*plan->out, plan->out, 1, 1);
    p.x = x;
    p.y = y;
    p.w = layer->w;
    p.bias = layer->bias;
    const float ms = gpu_milliseconds(TIMED, [&] { good = good && multiply(plan, &p, algorithm); });
    return good ? ms : INFINITY;
}

/* The fastest of those that give the own product's bytes, if it is faster. */
static BlasChoice choose_range(BlasPlan *plan, const Product *p, cublasLtMatmulPreference_t wish, int size, bool add)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    const int count = propose(plan, wish, blas_typical[size], found);
    BlasChoice best = {};
    float least = -1;                   /* not known yet */
    for (int i = 0; i < count; i++) {
        if (found[i].state != CUBLAS_STATUS_SUCCESS || !takes_range(plan, &found[i].algo, size)
            || !same_bytes(plan, NULL, &found[i].algo, p->bias != NULL, add))
            continue;
        if (least < 0)
            least = gain*time_of(plan, p, NULL, size, add);
        const float ms = time_of(plan, p, &found[i].algo, size, add);
        if (ms < least) {
            least = ms;
            best = {true, found[i].algo};
        }
    }
    library_trace("cuBLASLt %d-%d %s%s%s, %ld rows: %s", plan->K, plan->out, dtype_name(plan->y_type),
                  p->bias ? " with bias" : "", add ? " added" : "", (long)blas_typical[size],
                  best.taken ? "same bytes, and faster" : least < 0 ? "other bytes" : "same bytes, and slower");
    return best;
}

/* What was found for a kind of layer. */
typedef struct Known {
    int K, out;
    DType x_type, y_type;
    bool bias;
    BlasChoice choice[2][BLAS_SIZES];
    struct Known *next;
} Known;

bool blas_choose_beside(BlasPlan *plan, const Product *p, cublasLtMatmulPreference_t wish)
{
    static Known *first;
    Known *k = first;
    while (k && !(k->K == plan->K && k->out == plan->out && k->x_type == plan->x_type && k->y_type == plan->y_type
                  && k->bias == (p->bias != NULL)))
        k = k->next;
    bool any = false;
    for (int add = 0; add < 2; add++)
        for (int s = 0; s < BLAS_SIZES; s++) {
            BlasChoice *const c = &plan->choice[add][s];
            if (k)
                *c = k->choice[add][s];
            else if (!add || (plan->y_type == F32 && !p->bias))
                *c = choose_range(plan, p, wish, s, add);
            c->taken = c->taken && takes_range(plan, &c->algorithm, s);
            any = any || c->taken;
        }
    if (!k && (k = (Known *)calloc(1, sizeof *k))) {
        *k = {plan->K, plan->out, plan->x_type, plan->y_type, p->bias != NULL, {}, first};
        memcpy(k->choice, plan->choice, sizeof k->choice);
        first = k;
    }
    return any;
}
