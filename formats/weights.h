/* SPDX-License-Identifier: MIT */
/* weights.h -- safetensors files: read by mapping, written aside and renamed.
 *
 * Format: u64 little-endian n, n bytes of JSON {name: {dtype, shape, data_offsets}, "__metadata__": {...}}, then the
 * data. (github.com/huggingface/safetensors, README "Format"). Offsets, shapes and overlaps are checked before use. */
#ifndef FORMATS_WEIGHTS_H
#define FORMATS_WEIGHTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"

typedef struct Weight {
    const char *name;
    DType type;
    int ndim;
    int64_t dim[8];
    const void *data;       /* into the mapping, or the caller's when writing */
    const struct GgufType *blocks;      /* NULL, or data are blocks (gguf_types.h, float8.h), whose values become of
                                           `type` */
} Weight;

typedef struct Weights Weights;

int weights_open(Weights **w, const char *path, Err *e);        /* maps the file; *w is NULL on failure */
/* The same for who unpacks blocks: tensors of eight-bit floats are read too, as such (float8.h). */
int weights_open_packed(Weights **w, const char *path, Err *e);
/* The same over tensors that another reader laid out (torch_zip.h, gguf.h). `tensor` (from malloc), `metadata` (an
 * object of strings, or NULL) and `owner`, in which names and data live, are taken, also on failure; weights_close
 * gives owner to release. A name twice is an error. */
int weights_adopt(Weights **w, const char *path, Weight *tensor, size_t count, json_t *metadata, void *owner,
                  void (*release)(void *), Err *e);
void weights_close(Weights *w);
const char *weights_path(const Weights *w);
size_t weights_count(const Weights *w);
const Weight *weights_at(const Weights *w, size_t i);           /* in the order of the file's JSON */
const Weight *weights_find(const Weights *w, const char *name); /* NULL when missing */
bool weights_has(const Weights *w, const char *name);           /* also one of a type that is not read */
const char *weights_unread(const Weights *w);                   /* the first of such a type, NULL: all are read */
const json_t *weights_metadata(const Weights *w);               /* object of strings, or NULL */

/* Tensor `name` with ndim dimensions as given (-1: any), of F32, F16 or BF16. NULL with an error that names the file,
 * the tensor, what was found and what was expected. */
const Weight *weights_need(const Weights *w, const char *name, int ndim, const int64_t *dim, Err *e);
size_t weight_count(const Weight *t);
size_t weight_bytes(const Weight *t);
const char *weight_type(const Weight *t);               /* for messages: "f16", "q4_0" */
/* Refuses a tensor of F32, F16 or BF16 that holds NaN or infinity, with the place of the first. */
int weights_finite(const Weights *w, const Weight *t, Err *e);
/* Both. */
const Weight *weights_need_finite(const Weights *w, const char *name, int ndim, const int64_t *dim, Err *e);
/* The parts one after another as count values of f32, fresh: the caller frees. NULL when they are not as many. */
float *weights_stack(const Weight *const *part, int parts, size_t count, Err *e);
/* weights_need, then a fresh f32 copy (64-byte aligned; the caller frees). NULL on error. */
float *weights_floats(const Weights *w, const char *name, int ndim, const int64_t *dim, Err *e);

/* Writes count tensors and metadata (object of strings, or NULL) to path, aside and renamed. */
int weights_write(const char *path, const Weight *tensors, size_t count, const json_t *metadata, Err *e);
/* The same where tensors have no data yet: `data` is called once for each, in the order in which they lie in the file,
 * and gives what is read before the next call. NULL: e is set. */
typedef const void *WeightData(void *context, size_t i, Err *e);
int weights_write_each(const char *path, const Weight *tensors, size_t count, const json_t *metadata, WeightData *data,
                       void *context, Err *e);

#endif
