/* SPDX-License-Identifier: MIT */
/* op.h -- the table of operations that a backend fills in, and the one table in use.
 *
 * Everything above kernels/ computes through `op`. Tensors are plain pointers into the backend's memory, dimensions are
 * arguments. Activations are channels-last: an image is rows (H*W, C), a batch is rows (B*H*W, C), so that a
 * convolution, a linear layer and an autoencoder read the same layout.
 *
 * `type` is the type of what enters a matrix product: F32, or BF16 or F16 where the device has it (BF16: best; F16:
 * what conv_create takes); products accumulate in f32. An op that says "T" reads or writes that type, everything else
 * is f32. The residual stream, R, is f32, but that a UNet of products of 16 bits may keep its own in `residual`. Values
 * beyond 65504 are infinite in F16.
 *
 * Same bytes: the value of an output row depends on that row's inputs and the op's shape alone, not on the number of
 * rows, their neighbours or the number of threads. Every op keeps this; the op tests check it.
 * Nothing here fails after *_create except by abort: sizes were checked above. Rows are 64-bit counts, widths are
 * ints. */
#ifndef KERNELS_OP_H
#define KERNELS_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"
#include "formats/weights.h"
#include "kernels/op_comm.h"
#include "kernels/op_sae.h"

/* gelu: exact (erf); gelu_tanh: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), torch's approximate="tanh"; quick:
 * x sigmoid(1.702 x). geglu: a linear layer's alone (ConvSpec); the others are of a value. */
typedef enum { ACT_NONE, ACT_SILU, ACT_GELU, ACT_GELU_TANH, ACT_QUICK_GELU, ACT_RELU, ACT_GEGLU } Activation;
typedef enum { PREDICT_EPSILON, PREDICT_V, PREDICT_SAMPLE } Prediction;    /* what the network predicts */

/* A convolution with its weights packed for the device; a linear layer is one with kernel 1. */
typedef struct Conv Conv;
typedef struct ConvSpec {
    int in, out;                /* channels */
    int kernel, stride;         /* square; 1 and 1 for a linear layer */
    int pad_before, pad_after;  /* zeros on top and left, below and right */
    DType x_type, y_type;       /* T of the input (the product's type), and F32, T or R of the output. From F32 to an
                                 * R of 16 bits x counts with 22 of them */
    Activation act;             /* applied to x*W + bias; not together with add. ACT_GEGLU, of a linear layer whose
                                 * `out` is even: a * gelu(b), a the first out/2 of x*W + bias and b the rest, so that
                                 * rows of y are out/2 wide */
    int rows;                   /* of a linear layer: how many x is likely to have, where they are few, so that weights
                                 * are packed for these; 0: many */
} ConvSpec;

static inline bool conv_is_linear(const ConvSpec *s)
{
    return s->kernel == 1 && s->stride == 1 && s->pad_before == 0 && s->pad_after == 0;
}

/* What group_norm takes: rows of one matrix, or of two side by side (the UNet's skip connection) that are never joined
 * in memory. */
typedef struct NormInput {
    const void *x;              /* (B,HW,C) of `type`: F32, R or y_type */
    DType type;
    int C;
    const void *beside;         /* (B,HW,C_beside) of `type` on its right. NULL: none, and C_beside is 0 */
    int C_beside;
    const float *shift;         /* (B,C+C_beside), added before the statistics (the time embedding); NULL: none */
} NormInput;

typedef struct Recording Recording;

typedef struct Ops {
    const char *name;           /* "cpu", "cuda:0" */
    DType best;                 /* BF16 where the device multiplies it at twice f32's rate or better, else F32 */
    DType residual;             /* F16 where a residual stream of it, beside products of 16 bits, is faster, else F32 */

    /* memory of the device, 64-byte aligned, zeroed. alloc sets e and returns NULL when there is none left. */
    void *(*alloc)(size_t bytes, Err *e);
    void (*free)(void *p);
    void (*upload)(void *device, const void *host, size_t bytes);        /* host has been read when it returns */
    /* An upload beside what is queued: nothing that was asked for since the last download may use `device`, and `host`
     * stays as it is until the next one. Fastest from alloc_host's memory, which is 64-byte aligned; NULL when there is
     * none left. */
    void (*upload_early)(void *device, const void *host, size_t bytes);
    void *(*alloc_host)(size_t bytes);
    void (*free_host)(void *p);
    void (*clear)(void *device, size_t bytes);                           /* zeros */
    void (*download)(void *host, const void *device, size_t bytes);      /* waits for what was queued */
    /* A download beside what is queued, which is not waited for: nothing that was asked for since the last download
     * writes to `device`. NULL where nothing is ever queued (the CPU). */
    void (*download_early)(void *host, const void *device, size_t bytes);
    void (*copy)(void *to, const void *from, size_t bytes);              /* device to device */

    /* weight[parts]: [out_p, in, kernel, kernel] or [out_p, in] each, any float type, stacked along out (sum of out_p
     * is spec.out), so that q, k and v are one product. bias[parts] (f32 or f16/bf16, [out_p]) or NULL. Host pointers,
     * copied. Fails for want of memory, for weights of another size, and for an x_type that the device does not
     * multiply (see best). */
    int (*conv_create)(Conv **c, const ConvSpec *spec, const Weight *const *weight, const Weight *const *bias,
                       int parts, Err *e);
    void (*conv_free)(Conv *c);                                          /* NULL: nothing */
    /* y (B,Ho,Wo,out) = act(conv(x (B,H,W,in)) + bias), or y += conv(x) + bias when add (y_type F32 or R, act NONE).
     * Ho = (H + pads - kernel)/stride + 1. A linear layer over N rows is conv_run(c, y, x, 1, N, 1, add). The first
     * call at a shape prepares it; later ones allocate nothing. */
    void (*conv_run)(Conv *c, void *y, const void *x, int64_t B, int64_t H, int64_t W, bool add);

    /* y T (B,HW,C) = act(group_norm(in) * gamma + beta), C being in->C + in->C_beside here, statistics over HW and
     * C/groups, biased variance. act NONE or SILU. as_is (B,HW,C), or NULL, gets the input itself without its shift,
     * for a product that takes it: of y_type where the input is f32, else of the input's. */
    void (*group_norm)(void *y, DType y_type, void *as_is, const NormInput *in, const float *gamma, const float *beta,
                       int64_t B, int64_t HW, int groups, float eps, Activation act);
    /* y T (N,D) = layer_norm(x R) * gamma + beta. y may be x when both are F32. */
    void (*layer_norm)(void *y, DType y_type, const void *x, DType x_type, const float *gamma, const float *beta,
                       int64_t N, int D, float eps);

    /* y T (B,S,D) = layer_norm(x) * (1 + scale[b]) + shift[b], the norm without gamma and beta; image b's scale and
     * shift are the D values at b*stride (adaptive layer norm, Peebles and Xie 2023, arXiv 2212.09748). y may be x when
     * y_type is F32. */
    void (*modulate)(void *y, DType y_type, const float *x, const float *shift, const float *scale, int64_t stride,
                     int64_t B, int64_t S, int D, float eps);
    /* x (B,S,D) += gate[b] * y, y of y_type (F32 or T); image b's gate is the D values at b*stride. */
    void (*add_gated)(float *x, const void *y, DType y_type, const float *gate, int64_t stride, int64_t B, int64_t S,
                      int D);
    /* y = x / sqrt(mean(x^2) + eps) * gamma of each of `groups` runs of D values of a row: run g of row n lies at
     * n*stride + g*D of its matrix, gamma (D). y may be x. x of x_type (F32 or T), y T or F32, sums in f32. */
    void (*rms_norm)(void *y, DType y_type, int64_t y_stride, const void *x, DType x_type, int64_t x_stride,
                     const float *gamma, int64_t N, int groups, int D, float eps);

    /* softmax(q k^T * scale) v, scores never written out. All T. Row s of image b of q is q + (b*Sq + s)*q_stride
     * elements, head h at h*head_dim from there; k and v likewise with Sk; y rows have y_stride. kv_index: image b uses
     * k and v of image kv_index[b] (NULL: b). causal: query s sees keys <= s. Any head_dim (512 in SD's VAE). */
    void (*attention)(void *y, int64_t y_stride, const void *q, int64_t q_stride, const void *k, int64_t k_stride,
                      const void *v, int64_t v_stride, DType type, int64_t B, int heads, int head_dim, int64_t Sq,
                      int64_t Sk, const int32_t *kv_index, float scale, bool causal);

    /* The same with bias f32 (heads,Sq,Sk), finite, added to the scaled scores of every image. T5's relative
     * positions. */
    void (*attention_biased)(void *y, int64_t y_stride, const void *q, int64_t q_stride, const void *k,
                             int64_t k_stride, const void *v, int64_t v_stride, DType type, int64_t B, int heads,
                             int head_dim, int64_t Sq, int64_t Sk, const float *bias, float scale);

    void (*activate)(void *y, DType y_type, const float *x, int64_t n, Activation act);      /* y T = act(x) */
    void (*convert)(void *y, DType y_type, const void *x, DType x_type, int64_t n);
    /* y T (F32, F16 or BF16) = x, n < 2^32 values, and whether T holds them: *unfit (device memory) = the least of
     * itself and of i << 32 | x[i]'s bits, of all i whose |x[i]| is not below dtype_bound(T). */
    void (*store)(void *y, DType y_type, const float *x, int64_t n, uint64_t *unfit);
    void (*add)(float *y, const float *x, int64_t n);                            /* y += x */
    void (*multiply)(void *y, const void *x, DType type, int64_t n);             /* y *= x, both of type (F32 or T) */
    void (*subtract)(float *y, const float *a, const float *b, int64_t n);       /* y = a - b */
    /* nearest; x F32, or y's type */
    void (*upsample)(void *y, DType y_type, const void *x, DType x_type, int64_t B, int64_t H, int64_t W, int C,
                     int64_t Ho, int64_t Wo);
    /* y (B, h*p, w*p, C) = x (B, h*w, p*p*C), pixels from rows of patches */
    void (*unpatch)(float *y, const float *x, int64_t B, int64_t h, int64_t w, int p, int C);
    /* y (N,D) = table f32 (rows,D)[ids[n]] + (position ? position (S,D)[n % S] : 0) */
    void (*embed)(float *y, const float *table, const float *position, const int32_t *ids, int64_t N, int64_t S, int D);

    /* Classifier-free guidance and one DDIM step over n values of each image, in f32:
     *   eps = uncond + guidance (cond - uncond)    x0 = (x - sqrt_1m_a eps) / sqrt_a
     *   x = sqrt_a_prev x0 + sqrt_1m_a_prev eps
     * for PREDICT_EPSILON; of a network that predicts v or x0, x0 and eps are formed from that (diffusers
     * DDIMScheduler.step). uncond NULL: what was predicted is cond. Written as diffusers orders the operations, so that
     * rounding agrees. */
    void (*ddim_step)(float *x, const float *uncond, const float *cond, float guidance, float sqrt_a, float sqrt_1m_a,
                      float sqrt_a_prev, float sqrt_1m_a_prev, Prediction prediction, int64_t n);

    /* The same with one step of DPM-Solver++(2M), from what it took the picture for at the step before (x0; the first
     * step has change 0 and finite numbers there) and leaves there now:
     *   x0' = (x - sigma eps)/alpha     x = keep x + data x0' + change (x0' - x0)     x0 = x0' */
    void (*dpm_step)(float *x, float *x0, const float *uncond, const float *cond, float guidance, float alpha,
                     float sigma, float keep, float data, float change, Prediction prediction, int64_t n);

    /* Guidance as above, and what a linear multistep method goes by: the network's output with three of those before,
     *   out = uncond + guidance (cond - uncond)
     *   y = share (weight[0] out + weight[1] before[0] + weight[2] before[1] + weight[3] before[2])
     * from left to right. store = out, NULL: nowhere; it may be one of before, all of which are read (a weight of 0
     * wants finite numbers there). before, weight: host arrays. */
    void (*multistep)(float *y, float *store, const float *uncond, const float *cond, float guidance,
                      const float *const before[3], const float weight[4], float share, int64_t n);

    /* Ops between record_begin and record_end are taken down instead of run, and run at each replay, with the arguments
     * that they had: for networks whose many small ops take the host longer to start than the device to run. Only ops
     * that have run at the same shapes before, no alloc, upload or download. record_end returns NULL where what was
     * asked for cannot be taken down. All four are NULL where starting an op costs nothing (the CPU). */
    void (*record_begin)(void);
    Recording *(*record_end)(void);
    void (*replay)(Recording *r);
    void (*record_free)(Recording *r);                                   /* NULL: nothing */

    SaeOps sae;                 /* op_sae.h: encode, decode, steer, training */
    CommOps comm;               /* op_comm.h: devices together */
} Ops;

/* The table in use. backend_pick sets it: "auto" (the GPU where one answers, else the CPU), "cpu", "cuda", "cuda:N";
 * threads 0: all processors. An unknown or absent backend is an error that says what there is. Call once, when the tool
 * starts. */
extern const Ops *op;
int backend_pick(const char *name, int threads, Err *e);
/* For one of several processes: the device that comes `rank` after the one named; with the CPU a share of the
 * threads. */
int backend_pick_rank(const char *name, int threads, int rank, int ranks, Err *e);

#endif
