/* SPDX-License-Identifier: MIT */
/* pipe.h -- pipes made large, and large writes that lend their pages to a reader known to copy them.
 *
 * write() copies into the pipe and read() out of it, one after the other under the pipe's lock; vmsplice() puts the
 * writer's pages into the pipe as they are, which leaves one copy. Such a page must not change before it has been
 * read, and a reader that splices on (pv) may hold it for ever. So pages are lent only to a reader that has said
 * that it copies: it holds a shared lock (fcntl(2), F_SETLK) on one byte of the pipe's inode, which the writer sees
 * from the pipe's other end and which goes with the reader. Behind tee, cat or pv there is no such lock, and the
 * bytes are written. The bytes in the pipe are the same either way. */
#ifndef FORMATS_PIPE_H
#define FORMATS_PIPE_H

#include <stddef.h>
#include "formats/err.h"

enum { PIPE_SIZE = 1 << 20 };       /* what an unprivileged user may ask for: /proc/sys/fs/pipe-max-size */

/* Either end: room for PIPE_SIZE bytes, where fd is a pipe and the system allows it. */
void pipe_enlarge(int fd);
/* The reading end: says that what comes is copied out with read() alone, until fd is closed. */
void pipe_announce(int fd);

typedef struct PipeOut PipeOut;

/* For writes to fd, which is enlarged. NULL where fd is no pipe; also without memory, since fd_write does as well. */
PipeOut *pipe_out_create(int fd);
void pipe_out_free(PipeOut *p);     /* NULL is fine; pages that are lent live on until they are read */
/* As fd_write to p's descriptor. data may change as soon as this returns. */
int pipe_write(PipeOut *p, const char *name, const void *data, size_t n, Err *e);

#endif
