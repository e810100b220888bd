/* SPDX-License-Identifier: MIT */
/* dtype.h -- element types of tensors: their names in messages, streams and weight files, conversion to and from float;
 * shapes as messages spell them. */
#ifndef FORMATS_DTYPE_H
#define FORMATS_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { F32, F16, BF16, F64, I8, U8, I16, I32, I64, DTYPE_COUNT } DType;

size_t dtype_size(DType t);
const char *dtype_name(DType t);                    /* "f32", "bf16", "u8", ... as --dtype and messages spell it */
int dtype_parse(const char *name);                  /* DType of such a name, -1 when unknown */
const char *dtype_numpy(DType t);                   /* "<f4", "|u1", and "bfloat16", in streams and .npy files */
const char *dtype_safetensors(DType t);             /* "F32", "BF16", "U8", ... */
bool dtype_is_float(DType t);                       /* one of those that activations and weights have: F32, F16, BF16 */

enum { SHAPE_SIZE = 160 };
/* "(320, 4, 3, 3)"; * for a dimension below 0. Returns text. */
const char *shape_text(char text[SHAPE_SIZE], int ndim, const int64_t *dim);

/* y[i] = x[i] for n values; f32 to bf16 and f16 round to nearest even, NaN stays NaN. y and x do not overlap. */
void dtype_to_f32(float *y, const void *x, DType x_type, size_t n);
void dtype_from_f32(void *y, DType y_type, const float *x, size_t n);     /* F32, F16, BF16 only */
void dtype_to_f64(double *y, const void *x, DType x_type, size_t n);      /* exact, of I64 up to 2^53 */
/* The least |x| that becomes infinite in F32, F16 or BF16: half a step above the largest that they hold. */
static inline float dtype_bound(DType t)
{
    return t == F16 ? 65520.0f : t == BF16 ? 0x1.ffp127f : __builtin_inff();
}
/* Whether all n values are numbers: neither NaN nor infinite. Integers are. */
bool dtype_finite(const void *x, DType x_type, size_t n);

#endif
