/* SPDX-License-Identifier: MIT */
/* sae_encode.cu -- the encoder: weights packed for the product, and encoding in runs of rows.
 *
 *     x_c = x - b_dec, in the product's type      candidates of h = x_c W_enc^T + b_enc      a, i = the K largest
 *
 *   x (N,D)   W_enc (F,D) packed as (tiles*TILE,D_p), zeros beyond F and D   a, i (N,K)
 *
 * A run is short enough that all its rows of h fit in WHOLE_BYTES, since any number of them may have to be done again.
 * The choice copies them together, the blocks that do them read on the device how many there are and end at once where
 * there are none: the host never waits. */
#include <float.h>
#include "kernels/cuda/sae_cuda.h"

enum { PACK_THREADS = 128 };
static const int64_t MOST_ROWS = 8192, WHOLE_BYTES = 1 << 30;

struct SaeEncoder {
    int D, D_p, F, tiles;       /* F now, and its tiles */
    DType type;
    void *W;
    float *b_enc, *b_dec;       /* b_enc (tiles*TILE): the least number after the last feature */
    int32_t *rows;              /* (tiles*TILE) rows of W_enc by places */
    bool subset;
};

static int up_to(int n, int multiple)
{
    return (n + multiple - 1)/multiple*multiple;
}

static void encoder_free(SaeEncoder *e)
{
    if (!e)
        return;
    gpu_check(cudaFree(e->W));
    gpu_check(cudaFree(e->b_enc));
    gpu_check(cudaFree(e->b_dec));
    gpu_check(cudaFree(e->rows));
    free(e);
}

static int encoder_create(SaeEncoder **out, int D, int F, DType type, Err *err)
{
    *out = NULL;
    if (type != F32 && type != BF16)
        return err_set(err, "an encoder multiplies f32 or bf16, not %s", dtype_name(type));
    SaeEncoder *e = (SaeEncoder *)calloc(1, sizeof *e);
    if (!e)
        return err_set(err, "out of memory");
    e->D = D;
    e->D_p = up_to(D, DEPTH);
    e->type = type;
    const size_t places = (size_t)up_to(F, TILE), bytes = places*(size_t)e->D_p*dtype_size(type);
    if (cudaMalloc(&e->W, bytes) != cudaSuccess
        || cudaMalloc((void **)&e->b_enc, places*sizeof(float)) != cudaSuccess
        || cudaMalloc((void **)&e->b_dec, (size_t)D*sizeof(float)) != cudaSuccess
        || cudaMalloc((void **)&e->rows, places*sizeof(int32_t)) != cudaSuccess) {
        cudaGetLastError();
        encoder_free(e);
        return err_set(err, "cannot allocate %zu bytes for an encoder of %d features of width %d", bytes, F, D);
    }
    *out = e;
    return 0;
}

/* One block a place f: its row of W_enc, in the product's type. Bound by memory. */
template <typename T>
static __global__ void pack_weights(T *packed, const float *W_enc, const int32_t *rows, int F, int D, int D_p)
{
    const int f = blockIdx.x;
    const int64_t row = f >= F ? 0 : rows ? rows[f] : f;
    for (int d = threadIdx.x; d < D_p; d += blockDim.x)
        packed[(int64_t)f*D_p + d] = from_float<T>(f < F && d < D ? W_enc[row*D + d] : 0);
}

/* A thread a place. */
static __global__ void pack_biases(float *b_packed, const float *b_enc, const int32_t *rows, int F, int places)
{
    const int f = (int)thread_number();
    if (f < places)
        b_packed[f] = f < F ? b_enc[rows ? rows[f] : f] : -FLT_MAX;
}

SaePacked sae_packed(SaeEncoder *e)
{
    return SaePacked{e->W, e->type, e->D_p};
}

void sae_pack_rows(SaeEncoder *e, const float *W_enc)
{
    const unsigned blocks = (unsigned)(e->tiles*TILE);
    const int32_t *rows = e->subset ? e->rows : NULL;
    if (e->type == BF16)
        LAUNCH(pack_weights<bf16>, blocks, PACK_THREADS, 0, (bf16 *)e->W, W_enc, rows, e->F, e->D, e->D_p);
    else
        LAUNCH(pack_weights<float>, blocks, PACK_THREADS, 0, (float *)e->W, W_enc, rows, e->F, e->D, e->D_p);
}

static void encoder_pack(SaeEncoder *e, const float *W_enc, const float *b_enc, const float *b_dec, const int32_t *rows,
                         int F)
{
    e->F = F;
    e->tiles = up_to(F, TILE)/TILE;
    e->subset = rows != NULL;
    gpu_check(cudaMemcpyAsync(e->b_dec, b_dec, sizeof(float)*(size_t)e->D, cudaMemcpyDeviceToDevice, gpu_stream));
    if (rows)
        gpu_upload(e->rows, rows, sizeof(int32_t)*(size_t)F);
    LAUNCH(pack_biases, gpu_blocks(e->tiles*TILE, PACK_THREADS), PACK_THREADS, 0, e->b_enc, b_enc,
           rows ? e->rows : NULL, F, e->tiles*TILE);
    if (W_enc)
        sae_pack_rows(e, W_enc);
}

/* One block a row, zeros from D to D_p. Bound by memory. */
template <typename T>
static __global__ void pack_rows(T *packed, const float *x, const float *b_dec, int D, int D_p)
{
    const int64_t n = blockIdx.x;
    for (int d = threadIdx.x; d < D_p; d += blockDim.x)
        packed[n*D_p + d] = from_float<T>(d < D ? x[n*D + d] - b_dec[d] : 0);
}

/* At most `room` rows of a run, whose buffers lie in the scratch memory as `room` of them need. */
static void encode_run(const SaeEncoder *e, float *a, int32_t *i, const float *x, int64_t N, int K, int64_t room,
                       int keep)
{
    const size_t rows = (size_t)room, places = (size_t)e->tiles*TILE, kept = rows*(size_t)(e->tiles*keep);
    const size_t x_bytes = rows*(size_t)e->D_p*dtype_size(e->type), h_bytes = rows*places*sizeof(float);
    char *at = (char *)gpu_scratch(SCRATCH_SAE, 2*x_bytes + h_bytes + kept*(sizeof(float) + 1)
                                                + (rows + 1)*sizeof(int32_t) + rows*sizeof(long long) + 8*256);
    void *packed = gpu_take(&at, x_bytes), *packed_again = gpu_take(&at, x_bytes);
    float *h = (float *)gpu_take(&at, h_bytes), *value = (float *)gpu_take(&at, kept*sizeof(float));
    uint8_t *column = (uint8_t *)gpu_take(&at, kept);
    unsigned long long *least = (unsigned long long *)gpu_take(&at, rows*sizeof *least);
    int32_t *again = (int32_t *)gpu_take(&at, rows*sizeof(int32_t)), *count = (int32_t *)gpu_take(&at, sizeof(int32_t));

    if (e->type == BF16)
        LAUNCH(pack_rows<bf16>, (unsigned)N, PACK_THREADS, 0, (bf16 *)packed, x, e->b_dec, e->D, e->D_p);
    else
        LAUNCH(pack_rows<float>, (unsigned)N, PACK_THREADS, 0, (float *)packed, x, e->b_dec, e->D, e->D_p);

    SaeProduct product = {packed, e->W, e->b_enc, NULL, N, e->D_p, e->tiles, h, value, column};
    SaeChoice choice = {a, i, e->subset ? e->rows : NULL, h, value, column, NULL, NULL, least, packed,
                        packed_again, (int)(x_bytes/rows), N, e->F, e->tiles, K};
    if (keep) {
        gpu_check(cudaMemsetAsync(count, 0, sizeof *count, gpu_stream));
        sae_product(&product, e->type, keep);
        choice.rows = again;
        choice.count = count;
        sae_choose_candidates(&choice, keep);
        product.x = packed_again;
        product.count = count;
    }
    sae_product(&product, e->type, 0);
    sae_choose_rows(&choice);
}

static void encode(SaeEncoder *e, float *a, int32_t *i, const float *x, int64_t N, int K)
{
    const int keep = sae_candidates(e->tiles, K);
    int64_t most = WHOLE_BYTES/((int64_t)e->tiles*TILE*(int64_t)sizeof(float))/TILE*TILE;
    most = most < TILE ? (int64_t)TILE : min(most, MOST_ROWS);
    const int64_t room = N < most ? (N + TILE - 1)/TILE*TILE : most;
    for (int64_t n = 0; n < N; n += most)
        encode_run(e, a + n*K, i + n*K, x + n*e->D, N - n < most ? N - n : most, K, room, keep);
}

void cuda_sae_encode_ops(SaeOps *ops)
{
    ops->encoder_create = encoder_create;
    ops->encoder_free = encoder_free;
    ops->encoder_pack = encoder_pack;
    ops->encode = encode;
}
