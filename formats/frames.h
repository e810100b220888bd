/* SPDX-License-Identifier: MIT */
/* frames.h -- frames of a stream, compressed by threads of their own and written in order, while the caller makes the
 * next. The bytes do not depend on the number of threads. */
#ifndef FORMATS_FRAMES_H
#define FORMATS_FRAMES_H

#include "formats/err.h"
#include "formats/pack.h"

typedef struct Frames Frames;

/* Called for one frame after another, from any thread. */
typedef int (*FrameWrite)(void *context, const void *data, size_t n, Err *e);

/* level: zstd's. threads 0: one a processor, four at most; 1: none, frames_add compresses and writes. name: in messages,
 * kept by the caller. */
int frames_create(Frames **f, int level, int threads, const char *name, FrameWrite write, void *context, Err *e);
/* Takes frame's contents and leaves it empty. Fails for an earlier frame too; nothing is written after a failure. */
int frames_add(Frames *f, Bytes *frame, Err *e);
int frames_drain(Frames *f, Err *e);            /* waits until all is written */
void frames_free(Frames *f);                    /* what is not written is dropped. NULL is fine */

#endif
