/* SPDX-License-Identifier: MIT */
/* layout.c -- ops that move rows: nearest upsampling, pixels from patches, token embedding. Bound by memory. */
#include <assert.h>
#include <string.h>
#include "kernels/cpu/level.h"
#include "kernels/cpu/vec.h"

/* C values from the at-th of x on, to the i-th of y on. */
static void move_row(void *y, DType y_type, int64_t i, const void *x, DType x_type, int64_t at, int C)
{
    const size_t size = dtype_size(x_type);
    const float *from = (const float *)x + at;
    if (x_type == y_type) {
        memcpy((char *)y + (size_t)i*size, (const char *)x + (size_t)at*size, (size_t)C*size);
        return;
    }
    for (int c = 0; c < C; c += LANES) {
        const int w = C - c < LANES ? C - c : LANES;
        v_store_as(y, y_type, i + c, v_load(from + c, w), w);
    }
}

/* y[b,h,w,:] = x[b, floor(h H/Ho), floor(w W/Wo), :], as torch's interpolate(mode="nearest") takes it for whole
 * multiples. */
void cpu_upsample(void *y, DType y_type, const void *x, DType x_type, int64_t B, int64_t H, int64_t W, int C,
                  int64_t Ho, int64_t Wo)
{
    assert(x_type == F32 || x_type == y_type);
#pragma omp parallel for collapse(2) if (B*Ho*Wo*C >= CPU_PARALLEL)
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < Ho; h++)
            for (int64_t w = 0; w < Wo; w++)
                move_row(y, y_type, ((b*Ho + h)*Wo + w)*C, x, x_type, ((b*H + h*H/Ho)*W + w*W/Wo)*C, C);
}

/* y[b, i p + r, j p + s, c] = x[b, i w + j, (r p + s) C + c]: a patch's line of pixels lies together in both. */
void cpu_unpatch(float *y, const float *x, int64_t B, int64_t h, int64_t w, int p, int C)
{
    const int64_t line = (int64_t)p*C;
#pragma omp parallel for if (B*h*w*p*line >= CPU_PARALLEL)
    for (int64_t n = 0; n < B*h; n++)
        for (int64_t j = 0; j < w; j++)
            for (int r = 0; r < p; r++)
                memcpy(y + ((n*p + r)*w + j)*line, x + ((n*w + j)*p + r)*line, (size_t)line*sizeof *y);
}

/* y[n,:] = table[ids[n],:] + position[n mod S,:] */
void cpu_embed(float *y, const float *table, const float *position, const int32_t *ids, int64_t N, int64_t S, int D)
{
#pragma omp parallel for if (N*D >= CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++) {
        const float *row = table + (int64_t)ids[n]*D, *at = position ? position + n%S*D : NULL;
        for (int d = 0; d < D; d++)
            y[n*D + d] = at ? row[d] + at[d] : row[d];
    }
}
