/* SPDX-License-Identifier: MIT */
/* weights_either.h -- weights in whichever kind of file they come. */
#ifndef FORMATS_WEIGHTS_EITHER_H
#define FORMATS_WEIGHTS_EITHER_H

#include "formats/weights.h"

/* A file of torch.save or a safetensors file, by its first bytes. *w is NULL on failure. */
int weights_open_either(Weights **w, const char *path, Err *e);
/* Either, or a GGUF file; tensors may be in blocks (gguf.h, float8.h). */
int weights_open_any(Weights **w, const char *path, Err *e);

#endif
