/* SPDX-License-Identifier: MIT */
/* checkpoint.h -- one file from which a training goes on bit for bit: named tensors, and small fields as JSON.
 *
 * A safetensors file, written aside, synced and renamed: whatever ends the program, the last whole one is there. The
 * tensors of a part are named PART/NAME; the fields are JSON in the metadata, where a checksum of all stands too: a
 * file that was damaged since is refused when it is opened. What may be put and got back is the caller's matter; a
 * tensor of another size or type than asked for is an error. */
#ifndef SRC_MODELS_CHECKPOINT_H
#define SRC_MODELS_CHECKPOINT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "formats/dtype.h"
#include "formats/err.h"

typedef struct Checkpoint Checkpoint;

int checkpoint_create(Checkpoint **c, Err *e);                      /* empty, to be filled and written */
/* To be read: goes through all of it for the checksum. *c is NULL on failure. */
int checkpoint_open(Checkpoint **c, const char *path, Err *e);
void checkpoint_free(Checkpoint *c);                                /* NULL is fine */
int checkpoint_write(const Checkpoint *c, const char *path, Err *e);
/* All fields: the checkpoint's own object. */
json_t *checkpoint_fields(Checkpoint *c);
/* A copy of n values of host or device memory goes in as PART/NAME, */
int checkpoint_put(Checkpoint *c, const char *part, const char *name, DType type, const void *values, size_t n,
                   bool device, Err *e);
/* and comes back into memory of that size. NaN and infinity in F32 and F64 are errors. */
int checkpoint_get(const Checkpoint *c, const char *part, const char *name, DType type, void *values, size_t n,
                   bool device, Err *e);

#endif
