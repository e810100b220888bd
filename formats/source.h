/* SPDX-License-Identifier: MIT */
/* source.h -- the bytes inside a file or pipe: zstd frames decompressed, or plain msgpack as it is. Used by stream_in.c
 * only. */
#ifndef FORMATS_SOURCE_H
#define FORMATS_SOURCE_H

#include <stdint.h>
#include <sys/types.h>
#include "formats/err.h"

typedef struct Source Source;

/* Opens path (NULL or "-": stdin) and looks at its first bytes. Fails on a terminal, an empty file, and what is
 * neither. */
Source *source_open(const char *path, Err *e);
void source_close(Source *s);                       /* NULL is fine */
/* Up to room bytes, at least one unless the source ends: their number, 0 at the end, -1 on damage or a cut inside a
 * frame. `where` begins the message. */
ssize_t source_read(Source *s, uint8_t *to, size_t room, const char *where, Err *e);
const char *source_name(const Source *s);
long long source_taken(const Source *s);            /* bytes read of the file itself */
long long source_total(const Source *s);            /* its size, -1 for a pipe */

#endif
