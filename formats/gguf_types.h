/* SPDX-License-Identifier: MIT */
/* gguf_types.h -- how ggml stores numbers: plain, or in blocks of a few bits a value and the scales that they share.
 * float8.h has types of this form that are not ggml's. */
#ifndef FORMATS_GGUF_TYPES_H
#define FORMATS_GGUF_TYPES_H

#include "formats/dtype.h"

enum { GGUF_MOST_VALUES = 256 };        /* of a block */

typedef struct GgufType {
    const char *name;                   /* "q4_0": ggml's, in lower case */
    int values, bytes;                  /* of a block; 0 of a type that is not read */
    DType type;                         /* of plain values; of blocks, what their values are written as by default */
    void (*unpack)(float *y, const uint8_t *block);     /* a block's values, as f32; NULL: plain */
} GgufType;

/* The type that a file calls `number`; NULL where ggml has none. */
const GgufType *gguf_type(uint32_t number);
/* y[i] = the values of n/values blocks; n is whole blocks. */
void gguf_unpack(float *y, const GgufType *t, const void *blocks, size_t n);

#endif
