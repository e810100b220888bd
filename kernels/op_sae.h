/* SPDX-License-Identifier: MIT */
/* op_sae.h -- the sparse autoencoder's operations in a backend's table.
 *
 *     h = (x - b_dec) W_enc^T + b_enc      a, i = the K largest of h, at least 0      y = sum_j a_j W_dec[i_j] + b_dec
 *
 *   x, y (N,D) activations   h (N,F)   a (N,K) kept values, largest first   i (N,K) their features   W_enc, W_dec (F,D)
 *
 * Everything is f32 in device memory; only the product x W_enc^T may be of another type. Encoding is one op, so that h
 * need never be written whole. A sum that an op gives as a double goes to device memory, so that nobody waits for it
 * before op->download. As in op.h, a row's values depend on that row and the sizes alone. Sums that go over
 * rows (moments, difference, row_grads, ...) are taken in an order that depends on the sizes alone. */
#ifndef KERNELS_OP_SAE_H
#define KERNELS_OP_SAE_H

#include <stdbool.h>
#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"

typedef struct SaeEncoder SaeEncoder;   /* W_enc packed for the device's product, and scratch */

/* One step of Adam (Kingma and Ba 2014, arXiv 1412.6980), for op.sae.adam. */
typedef struct AdamStep {
    float rate;             /* learning rate */
    float scale;            /* of the gradient, before anything else */
    float beta1, beta2, eps;
    float unbias1, unbias2; /* 1/(1 - beta^step) */
    /* take off the gradient's part along each row of p, and give p's rows length 1 afterwards */
    bool unit_rows;
} AdamStep;

/* Kept features of a batch through which gradients go: those with from <= feature < to. */
typedef struct CodePart {
    const float *a, *g_a;   /* (N,K) values, and dL/da */
    const float *g;         /* (N,D) dL/dx' */
    const int32_t *start, *order;   /* as invert gives them, of all F features */
    float c;                /* factor of all that the part adds */
    int K, from, to;
} CodePart;

/* A weight with Adam's moments, (F,D): m and v in f32, or both in `pairs` (adam_pair.h), where that is not NULL. */
typedef struct AdamState {
    float *p, *m, *v;
    uint32_t *pairs, chance;    /* chance: another in each step */
    int64_t first;              /* place of p's first value among all that share a chance */
} AdamState;

/* What becomes of a feature's value a: s = factor a + offset where a > over, else a. */
typedef struct SaeTurn { int32_t feature, set; float over, factor, offset; } SaeTurn;

/* Features that are turned, in device memory. Those of set n < 64 are where bit n of `sets` is. */
typedef struct SaeTurns {
    const SaeTurn *turn;    /* (count), each feature once */
    const int32_t *place;   /* (F) of each feature in those; -1: it is not turned */
    int count;
    uint64_t sets;
    bool all;               /* in a row that does not keep one of them too, where its a is 0 */
    /* row n gets share[(first + n) % shares] of each change, s = a + share (s - a); NULL: all of it */
    const float *share;
    int64_t shares, first;
} SaeTurns;

typedef struct SaeOps {
    /* An encoder for up to F features of width D; products of `type` (F32 or BF16), sums in f32. */
    int (*encoder_create)(SaeEncoder **enc, int D, int F, DType type, Err *e);
    void (*encoder_free)(SaeEncoder *enc);
    /* Takes over the weights: rows[0..F) of W_enc and b_enc (NULL: the first F). encode then gives i as numbers of
     * W_enc's rows. rows is host memory, read before this returns. W_enc NULL: the same rows as before, which are
     * unchanged or came by row_update. */
    void (*encoder_pack)(SaeEncoder *enc, const float *W_enc, const float *b_enc, const float *b_dec,
                         const int32_t *rows, int F);
    /* The K largest of h in each row, largest first, ties to the lower row number (to the earlier of rows[]); exact.
     * What is below 0 is given as 0, with the feature that it is. K <= F as packed. */
    void (*encode)(SaeEncoder *enc, float *a, int32_t *i, const float *x, int64_t N, int K);
    /* After an encode whose b_enc was less by threshold: a = scale[i] (a + threshold[i]) + offset[i], at least 0, where
     * a > 0; 0 elsewhere. NULL stands for threshold 0, scale 1, offset 0. n values. */
    void (*gate)(float *a, const int32_t *i, const float *threshold, const float *scale, const float *offset,
                 int64_t n);
    /* y = sum_j a[n,j] W_dec[i[n,j],:] + b (NULL: none) */
    void (*decode)(float *y, const float *a, const int32_t *i, const float *W_dec, const float *b, int64_t N, int D,
                   int K);
    /* y[n,:] = x[n,:] + sum_j (s[n,j] - a[n,j]) W_dec[i[n,j],:], s as a is turned: first over the K that a row keeps,
     * then over those that it does not. Terms with s == a are skipped, so that a row without a change comes back bit
     * for bit. y may be x. */
    void (*steer)(float *y, const float *x, const float *a, const int32_t *i, const SaeTurns *turns,
                  const float *W_dec, int64_t N, int D, int K);

    /* ---- training ---- */

    void (*center)(float *y, const float *x, const float *b, int64_t N, int D);            /* y = x - b */
    /* mean (D) over rows; *spread = sum over n, d of (x - mean)^2 */
    void (*moments)(float *mean, double *spread, const float *x, int64_t N, int D);
    /* g = y - x; *square = sum g^2 */
    void (*difference)(float *g, double *square, const float *y, const float *x, int64_t n);
    void (*sum_squares)(double *square, const float *x, int64_t n);
    /* y (D) += c * sum_n x[n,:], or sum_n w[n] x[n,:] where w is given */
    void (*column_sum)(float *y, float c, const float *w, const float *x, int64_t N, int D);
    /* count[f] += how often feature f was kept with a value above 0 */
    void (*count)(int32_t *count, const float *a, const int32_t *i, int64_t N, int K);
    /* g_a[n,j] = dot(g[n,:], W_dec[i[n,j],:]), 0 where a[n,j] is 0 */
    void (*code_grad)(float *g_a, const float *g, const float *a, const int32_t *i, const float *W_dec, int64_t N,
                      int D, int K);
    /* decode with b, difference from x and code_grad: g, *square and g_a, as by the three in turn but for rounding */
    void (*reconstruct)(float *g, float *g_a, double *square, const float *a, const int32_t *i, const float *W_dec,
                        const float *b, const float *x, int64_t N, int D, int K);
    /* The inverse of i: start[f]..start[f+1] (F+1 of them) are the places in order (N*K) of the n*K+j with
     * i[n,j] == f, rising. */
    void (*invert)(int32_t *start, int32_t *order, const int32_t *i, int64_t N, int F, int K);
    /* Of each of `groups` runs of n values, none negative, the `keep` largest stay, ties to the first; the others
     * become 0. least[group] = the least above 0 that stayed, 0 where there is none. */
    void (*keep_largest)(double *least, float *a, int64_t n, int64_t keep, int64_t groups);
    /* *full = how many of N rows have a last value above 0: a row that may have more than K of them. */
    void (*full_rows)(double *full, const float *a, int64_t N, int K);
    /* Of features that several ranks (op_comm.h) encoded, each its own: of a (N,K[rank]), largest first, what is among
     * the `keep` largest of all ranks' stays, in each row; the rest becomes 0. Ties to the lower rank. all: each rank's
     * a as it was, (N,K[r]), `stride` values apart. At most TEAM_MOST ranks. */
    void (*keep_of_all)(float *a, const float *all, int64_t stride, const int *K, int rank, int ranks, int64_t N,
                        int keep);
    /* b (N,K) = a in the first `keep` of each row, else 0 */
    void (*head)(float *b, const float *a, int64_t N, int K, int keep);
    /* b = a where from <= i < to, else 0; n values */
    void (*select)(float *b, const float *a, const int32_t *i, int from, int to, int64_t n);
    void (*row_lengths)(float *y, const float *x, int64_t N, int D);    /* y[n] = |x[n,:]| */
    /* For each feature f of a part, over its (n,j): db_enc[f] += c g_a[n,j]; and of the row gradients below a bound:
     *     dec[f] += |c a[n,j]| g_length[n]      enc[f] += |c g_a[n,j]| x_length[n] */
    void (*code_sums)(float *db_enc, float *dec, float *enc, const CodePart *part, const float *g_length,
                      const float *x_length);
    /* For each feature f of a part, over its (n,j) in order of rows, x (N,D) centered:
     *     dW_dec[f,:] += c a[n,j] g[n,:]      dW_enc[f,:] += c g_a[n,j] x[n,:] */
    void (*row_grads)(float *dW_dec, float *dW_enc, const CodePart *part, const float *x, int D);
    /* row_grads of all parts, one after another, and adam along them, feature by feature: the same values as by the two
     * ops, without gradients in memory. W_dec's rows are unit rows. *square = the gradients' sum of squares. The new
     * W_enc goes to encoder too, which was packed with all F rows (NULL: none). */
    void (*row_update)(double *square, const AdamState *W_dec, const AdamState *W_enc, const CodePart *part, int parts,
                       const float *x, int F, int D, const AdamStep *step, SaeEncoder *encoder);
    /* w (rows,D) after a step along dp, which is set to 0 */
    void (*adam)(const AdamState *w, float *dp, int64_t rows, int D, const AdamStep *step);

    /* ---- training with all of h in memory: variants that bound no token's number of features ---- */

    /* In all of them a NaN in h is one in z, so that the loss shows it. */

    /* C (M,N) = AB, or C += AB with add. A is (M,K), with A_turned it lies as (K,M); B is (K,N), with B_turned
     * (N,K). */
    void (*gemm)(float *C, bool add, const float *A, bool A_turned, const float *B, bool B_turned, int64_t M, int64_t N,
                 int64_t K);
    /* JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435), ReLU with threshold NULL:
     * h (N,F) += b_enc; z = h where h > threshold[f], else 0. */
    void (*jump)(float *z, float *h, const float *b_enc, const float *threshold, int64_t N, int F);
    /* g (N,F) holds dL/dz and becomes dL/dh. With threshold, by the paper's straight-through estimator of a window of
     * `width` (eq. 11 and 12):
     *     d_threshold[f] -= sum_n (threshold[f] g + sparsity)/width where |h - threshold[f]| < width/2
     *     g = g where h > threshold[f], else 0
     * without: g = g + sparsity where h > 0, else 0. */
    void (*jump_grad)(float *g, float *d_threshold, const float *h, const float *threshold, float sparsity, float width,
                      int64_t N, int F);
    /* Gated (Rajamanoharan et al. 2024, arXiv 2404.16014): gate = h + b_gate, m = exp(r_mag) h + b_mag;
     * p = gate where gate > 0, else 0; z = m where gate > 0 and m > 0, else 0. */
    void (*gated)(float *z, float *p, const float *h, const float *b_gate, const float *r_mag, const float *b_mag,
                  int64_t N, int F);
    /* g holds dL/dz and becomes dL/dh, g_p holds dL/dp. dm = g where z > 0, else 0; dgate = g_p + sparsity where
     * gate > 0, else 0: g = exp(r_mag) dm + dgate; sums over rows: d_b_gate += dgate, d_b_mag += dm,
     * d_r_mag += dm exp(r_mag) h */
    void (*gated_grad)(float *g, const float *g_p, float *d_b_gate, float *d_r_mag, float *d_b_mag, const float *h,
                       const float *b_gate, const float *r_mag, const float *b_mag, float sparsity, int64_t N, int F);
    /* count[f] += rows of z (N,F) in which it is above 0 */
    void (*count_dense)(int32_t *count, const float *z, int64_t N, int F);
    /* the largest number of values above 0 in a row */
    int (*row_most)(const float *z, int64_t N, int F);
} SaeOps;

#endif
