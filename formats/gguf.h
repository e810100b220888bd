/* SPDX-License-Identifier: MIT */
/* gguf.h -- GGUF files, in which ggml's programs (stable-diffusion.cpp, ComfyUI-GGUF) keep models, often quantised.
 *
 *     "GGUF"  version: u32, 2 or 3  tensors: u64  pairs: u64
 *     a pair:    key: text, type: u32, value          text: u64 n, n bytes; an array: type u32, count u64, values
 *     a tensor:  name: text, ndim: u32, dims: u64 each, fastest first, type: u32, offset: u64
 *     the data, from the next multiple of general.alignment (32) on, by which offsets are multiples too
 *
 * all little-endian (github.com/ggml-org/ggml, docs/gguf.md). Each count, length, dimension and offset is checked
 * against the file before it is used, and no two tensors may lie over one another. Where a pair
 * comfy.gguf.orig_shape.NAME says so, a tensor has that shape: ComfyUI-GGUF stores in rows of 256 what else would not
 * fill blocks. */
#ifndef FORMATS_GGUF_H
#define FORMATS_GGUF_H

#include "formats/weights.h"

/* Maps the file and lists its tensors, dimensions in torch's order. Those in blocks have `blocks` set: gguf_unpack
 * (gguf_types.h) reads them. A type that is not read is an error. *w is NULL on failure. */
int gguf_open(Weights **w, const char *path, Err *e);

#endif
