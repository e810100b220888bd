/* SPDX-License-Identifier: MIT */
/* sae_cuda.h -- what the CUDA backend's autoencoder files share. Private to kernels/cuda.
 *
 *     h = (x - b_dec) W_enc^T + b_enc      a, i = the K largest of each row of h
 *
 *   x (N,D)   W_enc (F,D)   h (N,F)   a, i (N,K)      D padded with zeros to D_p, F to `tiles` tiles of TILE features
 *
 * h is computed by blocks of TILE rows x TILE features. Most rows need only the KEEP largest of each tile, the
 * candidates: the K largest of those are the K largest of h unless some tile's last candidate was chosen, since that
 * tile may hide more. Such rows are listed, and h is computed again for them, whole. */
#ifndef KERNELS_CUDA_SAE_CUDA_H
#define KERNELS_CUDA_SAE_CUDA_H

#include "kernels/cuda/cuda.h"

void cuda_sae_ops(SaeOps *ops);

void cuda_sae_encode_ops(SaeOps *ops);      /* sae_encode.cu */
void cuda_sae_code_ops(SaeOps *ops);        /* sae_codes.cu */
void cuda_sae_invert_ops(SaeOps *ops);      /* sae_invert.cu */
void cuda_sae_sum_ops(SaeOps *ops);         /* sae_sums.cu */
void cuda_sae_grad_ops(SaeOps *ops);        /* sae_grad.cu */
void cuda_sae_reconstruct_ops(SaeOps *ops); /* sae_reconstruct.cu */
void cuda_sae_row_ops(SaeOps *ops);         /* sae_rows.cu */
void cuda_sae_update_ops(SaeOps *ops);      /* sae_update.cu */
void cuda_sae_dense_ops(SaeOps *ops);       /* sae_dense.cu */

/* ---- encoding ---- */

enum { TILE = 128, DEPTH = 32 };            /* D_p is a multiple of DEPTH */
enum { MOST_LISTED = 2048 };

typedef struct SaeProduct {
    const void *x, *W;          /* (N,D_p), (tiles*TILE,D_p), both f32 or both bf16 */
    const float *bias;          /* (tiles*TILE) */
    const int32_t *count;       /* rows of x that are there, at most N, in device memory; NULL: N */
    int64_t N;
    int D_p, tiles;
    /* one of: all of h (N or *count, tiles*TILE), or the candidates, (N,tiles,keep), largest first, ties by column */
    float *h;
    float *value;
    uint8_t *column;            /* in the tile */
} SaeProduct;

/* sae_product.cu: keep 4 or 8 candidates, or 0 for all of h */
void sae_product(const SaeProduct *p, DType type, int keep);

/* sae_hopper.cu: the same in bf16, on compute capability 9 (hopper_wanted). Its sums differ from sae_product.cu's in
 * their last bits. */
void sae_hopper_product(const SaeProduct *p, int keep);

typedef struct SaeChoice {
    float *a;                   /* (N,K) */
    int32_t *i;
    const int32_t *names;       /* features by their places; NULL: the places */
    const float *h;             /* as of SaeProduct; h in row r is of output row rows[r] */
    const float *value;
    const uint8_t *column;
    int32_t *rows, *count;      /* rows to do again: added to by candidates, read by rows (NULL: all N) */
    unsigned long long *least;  /* of each of those, the key (sae_choose.cu) of the last of its K candidates */
    const void *x;              /* rows of SaeProduct, of row_bytes (a multiple of 16): those to do again are copied */
    void *x_again;
    int row_bytes;
    int64_t N;
    int F, tiles, K;
} SaeChoice;

/* How many candidates of a tile are to be kept so that few rows are done again: 4, 8, or 0 for all of h. */
int sae_candidates(int tiles, int K);

/* sae_choose.cu */
void sae_choose_candidates(const SaeChoice *c, int keep);
void sae_choose_rows(const SaeChoice *c);

/* Where an encoder keeps W_enc: row f at f*D_p elements of `type`, zeros from D on. */
typedef struct SaePacked {
    void *W;
    DType type;
    int D_p;
} SaePacked;

/* sae_encode.cu. Of an encoder that was packed with all rows in order. */
SaePacked sae_packed(SaeEncoder *e);
void sae_pack_rows(SaeEncoder *e, const float *W_enc);      /* the rows again, not the biases */

/* ---- three ops that another calls: sae_decode.cu, sae_sums.cu, sae_grad.cu ---- */

void sae_decode(float *y, const float *a, const int32_t *i, const float *W_dec, const float *b, int64_t N, int D,
                int K);
void sae_difference(float *g, double *square, const float *y, const float *x, int64_t n);
void sae_code_grad(float *g_a, const float *g, const float *a, const int32_t *i, const float *W_dec, int64_t N, int D,
                   int K);

/* ---- columns ---- */

enum { RUN = 64, STRIP = 256 };             /* rows that a thread sums in f32; columns of a block */

static inline dim3 sae_runs(int64_t N, int D)
{
    return dim3(gpu_blocks(N, RUN), gpu_blocks(D, STRIP));
}

/* y[d] += c * sum of parts[r,d] over `runs` rows r, in order, in double */
void sae_add_runs(float *y, float c, const float *parts, int64_t runs, int D);

/* *total = sum of n parts, in order of places modulo a block; all in device memory */
void sae_join_sum(double *total, const double *part, int64_t n);

/* ---- four neighbours at once where every row and pointer is aligned to 16 bytes ---- */

template <int each> __device__ __forceinline__ void store_run(float *p, const float (&v)[each])
{
    if constexpr (each == 4)
        *(float4 *)p = make_float4(v[0], v[1], v[2], v[3]);
    else
        *p = v[0];
}

template <typename... P> static inline bool sae_by_four(int D, const P *...pointers)
{
    return D%4 == 0 && (((uintptr_t)pointers | ...)&15) == 0;
}

/* Threads of a block that strides over n, whole warps. */
static inline unsigned sae_threads(int n, int most)
{
    return (unsigned)(n >= most ? most : n < 1 ? WARP : (n + WARP - 1)/WARP*WARP);
}

#endif
