/* SPDX-License-Identifier: MIT */
/* lora_apply.c -- adds low-rank changes to a tensor.
 *
 *     y[o,j] = w[o,j] + sum_d scale_d sum_r up_d[u(o),r] down_d[r,j]        u(o) = (first_d + o) mod rows of up_d
 *
 * w, y (out,n), n being in*k*k   up (out or more,rank)   down (rank,n). Sums run over d and r in their order, in f64,
 * for BLOCK columns of a row at a time; rows are shared out over threads. */
#include <stdlib.h>
#include "src/models/lora.h"
#pragma GCC optimize("O3")      /* the loop over columns is to be vectorised */

enum { BLOCK = 256 };

/* A delta with its tensors as f32. */
typedef struct Factors { float *up, *down; int64_t rank, rows, first; double scale; } Factors;      /* rows: of up */

static float *as_f32(const Weight *w)
{
    const size_t n = weight_count(w);
    float *y = malloc(n*sizeof *y);
    if (y)
        dtype_to_f32(y, w->data, w->type, n);
    return y;
}

static void add_block(double *sum, const Factors *f, int count, int64_t o, int64_t n, int64_t from, int64_t width)
{
    for (int d = 0; d < count; d++) {
        const float *up = f[d].up + (f[d].first + o)%f[d].rows*f[d].rank;
        for (int64_t r = 0; r < f[d].rank; r++) {
            const double times = f[d].scale*up[r];
            const float *down = f[d].down + r*n + from;
            for (int64_t j = 0; j < width; j++)
                sum[j] += times*down[j];
        }
    }
}

static void apply(char *y, DType y_type, const Weight *w, const Factors *f, int count)
{
    const int64_t rows = w->dim[0], n = (int64_t)weight_count(w)/rows;
    const int64_t size = (int64_t)dtype_size(w->type), y_size = (int64_t)dtype_size(y_type);
    #pragma omp parallel for
    for (int64_t o = 0; o < rows; o++)
        for (int64_t from = 0; from < n; from += BLOCK) {
            const int64_t width = n - from < BLOCK ? n - from : BLOCK;
            double sum[BLOCK];
            float x[BLOCK];
            dtype_to_f32(x, (const char *)w->data + (o*n + from)*size, w->type, (size_t)width);
            for (int64_t j = 0; j < width; j++)
                sum[j] = x[j];
            add_block(sum, f, count, o, n, from, width);
            for (int64_t j = 0; j < width; j++)
                x[j] = (float)sum[j];
            dtype_from_f32(y + (o*n + from)*y_size, y_type, x, (size_t)width);
        }
}

int lora_apply(void *y, DType y_type, const Weight *w, const Delta *d, Err *e)
{
    int count = 0, read = 0;
    for (const Delta *next = d; next; next = next->next)
        count++;
    Factors *f = calloc((size_t)count + 1, sizeof *f);
    for (; f && read < count; d = d->next, read++) {
        f[read] = (Factors){as_f32(d->up), as_f32(d->down), d->down->dim[0], d->up->dim[0], d->first, d->scale};
        if (!f[read].up || !f[read].down)
            break;
    }
    const int failed = !f || read < count ? err_set(e, "out of memory") : 0;
    if (!failed)
        apply(y, y_type, w, f, count);
    for (int i = 0; f && i < count; i++) {
        free(f[i].up);
        free(f[i].down);
    }
    free(f);
    return failed;
}
