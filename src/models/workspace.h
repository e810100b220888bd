/* SPDX-License-Identifier: MIT */
/* workspace.h -- device memory that an evaluation takes and gives back in the order of a stack.
 *
 * The first evaluation of a shape grows the workspace piece by piece; workspace_settle then makes it one piece of the
 * size that was needed, so that later evaluations of that shape or a smaller one allocate nothing. */
#ifndef SRC_MODELS_WORKSPACE_H
#define SRC_MODELS_WORKSPACE_H

#include <stdbool.h>
#include <stddef.h>
#include "formats/dtype.h"
#include "formats/err.h"

enum { WORKSPACE_PIECES = 48 };

typedef struct WorkspaceMark { int at; size_t used, live; } WorkspaceMark;

typedef struct Workspace {
    struct { char *data; size_t size; } piece[WORKSPACE_PIECES];
    int pieces;
    WorkspaceMark top;              /* piece in use, bytes used of it, bytes in use altogether */
    size_t peak;                    /* most bytes ever in use */
    bool failed;
} Workspace;                        /* all zero: empty */

/* Memory for bytes, aligned to 256. NULL with e set when there is none left; every later take then fails too, until a
 * release, so that a caller of several checks its last. */
void *workspace_take(Workspace *w, size_t bytes, Err *e);
/* n values of host memory on the device, as type, in memory taken from the workspace. NULL as workspace_take. */
void *workspace_upload(Workspace *w, const float *values, size_t n, DType type, Err *e);
WorkspaceMark workspace_mark(const Workspace *w);
void workspace_release(Workspace *w, WorkspaceMark mark);       /* gives back all that was taken since the mark */
/* To be called with nothing taken. Returns 0, or -1 with e set. */
int workspace_settle(Workspace *w, Err *e);
void workspace_free(Workspace *w);

/* Device memory by itself: *p holds *have bytes (NULL and 0 at first) and bytes or more afterwards, not what it held.
 * -1: out of memory */
int device_grow(void **p, size_t *have, size_t bytes, Err *e);

#endif
