/* SPDX-License-Identifier: MIT */
/* clusters.h -- clusters.cc's kernels, of clusters and of products, and the mistakes that can be put into them. */
#ifndef TESTS_SIMT_CLUSTERS_H
#define TESTS_SIMT_CLUSTERS_H

#include <stdint.h>

typedef enum {
    NO_MISTAKE,
    NO_BEGIN,           /* no meeting of the cluster before another's memory is reached */
    NO_END,             /* nor after it was */
    NO_ARRIVAL, TWO_ARRIVALS, NO_WAIT, LATE_WARP,       /* at the cluster's barrier */
    ONE_SLOT,           /* read while a block that is ahead writes it */
    OWN_ARRIVALS,       /* a stage is given back to its own block alone */
    OUTSIDE, OTHER_CLUSTER,                             /* a multicast and a load beyond the cluster */
    SHARED_VARIABLE, ODD_GRID,
    NOT_SHOWN,          /* barriers, to those who wait there */
    NO_FENCE,           /* before products */
    NOT_AWAITED,        /* a stage, before its products */
    GIVEN_BACK_EARLY,   /* a stage, before its products are waited for */
    OTHER_OPERAND,      /* of one warp of four */
    BOXES_NOT_SHOWN,    /* to the copy engine, to which they are given */
    WRITTEN_LATE        /* the second of them, when the fence for both was passed */
} Mistake;

enum { JOIN_THREADS = 64, RING_ROWS = 8, RING_DEPTH = 64, PRODUCT_ROWS = 64, PRODUCT_COLUMNS = 32, BOX_ROWS = 8 };

#ifdef __cplusplus
extern "C" {
#endif
/* y (clusters*blocks, rounds): sums over the blocks of a cluster and their JOIN_THREADS threads.
 * x (clusters*blocks*JOIN_THREADS, rounds) */
void simt_join_sums(float *y, const float *x, int blocks, int clusters, int rounds, Mistake mistake);

/* y[b] = sum_k x[b*RING_ROWS, k] * sum_r W[r, k], in bf16.
 * y (clusters*blocks)   x (clusters*blocks*RING_ROWS, steps*RING_DEPTH)   W (blocks*RING_ROWS, steps*RING_DEPTH) */
void simt_ring(float *y, const uint16_t *x, const uint16_t *W, int blocks, int clusters, int steps, Mistake mistake);

/* y = x W^T, in bf16, by wgmma.
 * y (PRODUCT_ROWS, PRODUCT_COLUMNS)   x (PRODUCT_ROWS, steps*RING_DEPTH)   W (PRODUCT_COLUMNS, steps*RING_DEPTH) */
void simt_product(float *y, const uint16_t *x, const uint16_t *W, int steps, Mistake mistake);

/* y[i] = i, by two boxes to memory that one fence shows. y (2*BOX_ROWS, RING_DEPTH) */
void simt_two_boxes(uint16_t *y, Mistake mistake);
#ifdef __cplusplus
}
#endif

#endif
