/* SPDX-License-Identifier: MIT */
/* frame_writer.h -- frames of a stream, compressed by threads of their own and written in order, while the caller makes
 * the next. The bytes do not depend on the number of threads. */
#ifndef FORMATS_FRAME_WRITER_H
#define FORMATS_FRAME_WRITER_H

#include "formats/err.h"
#include "formats/pack.h"

typedef struct FrameWriter FrameWriter;

/* Called for one frame after another, from any thread. */
typedef int (*FrameWrite)(void *context, const void *data, size_t n, Err *e);

/* level: zstd's. threads 0: one a processor; four at most, started at the first frame of 256 KiB or more; before, and
 * with 1, frame_writer_add compresses and writes. name: in messages, kept by the caller. */
int frame_writer_create(FrameWriter **f, int level, int threads, const char *name, FrameWrite write, void *context,
                        Err *e);
/* Takes frame's contents and leaves it empty. Fails for an earlier frame too; nothing is written after a failure. */
int frame_writer_add(FrameWriter *f, Bytes *frame, Err *e);
int frame_writer_drain(FrameWriter *f, Err *e);            /* waits until all is written */
void frame_writer_free(FrameWriter *f);                    /* what is not written is dropped. NULL is fine */

#endif
