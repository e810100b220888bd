/* SPDX-License-Identifier: MIT */
/* fdio.h -- reads and writes of whole buffers on file descriptors: partial transfers and interruptions are seen to;
 * files mapped. */
#ifndef FORMATS_FDIO_H
#define FORMATS_FDIO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "formats/err.h"

/* Up to n bytes, at least one unless the file ends: their number, 0 at the end, -1 on error. A thread that forbids its
 * cancellation may be cancelled while it waits here: nothing is held, nothing has been read. */
ssize_t fd_read(int fd, const char *name, void *data, size_t n, Err *e);
/* All n bytes from byte `at` of a file on. -1: errno says why, 0 that the file ends before. */
int fd_read_at(int fd, void *data, size_t n, uint64_t at);
/* All n bytes. A reader that went away sets e->closed. */
int fd_write(int fd, const char *name, const void *data, size_t n, Err *e);
/* what: "binary data is". An error where fd is a terminal. */
int fd_refuse_terminal(int fd, const char *name, const char *what, Err *e);
/* After the last write to a descriptor that stays open, standard output: what a file system on a network says only when
 * a descriptor is closed, a quota that is full. */
int fd_settle(int fd, const char *name, Err *e);

/* Maps the regular file path to be read: *data is for munmap, NULL of a file of no bytes. what: "a safetensors file",
 * for the message. */
int file_map(uint8_t **data, size_t *size, const char *path, const char *what, Err *e);

typedef enum { FD_READ, FD_WRITE } FdEnd;

/* After a call that failed, by errno: whether it should be made again, since it was interrupted, or the descriptor is
 * non-blocking and has been waited for. */
int fd_again(int fd, FdEnd end);

#endif
