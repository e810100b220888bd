/* SPDX-License-Identifier: MIT */
/* source.h -- the bytes inside a file or pipe: zstd frames decompressed, or plain msgpack as it is. Used by the stream
 * reader only. */
#ifndef FORMATS_SOURCE_H
#define FORMATS_SOURCE_H

#include <stdint.h>
#include <sys/types.h>
#include "formats/err.h"
#include "formats/seek_table.h"

typedef struct Source Source;

/* Opens path (NULL or "-": stdin) and looks at its first bytes. Fails on a terminal, an empty file, and what is
 * neither. */
Source *source_open(const char *path, Err *e);
void source_close(Source *s);                       /* NULL is fine */
/* Up to room bytes, at least one unless the source ends: their number, 0 at the end, -1 on damage or a cut inside a
 * frame. `where` begins the message. */
ssize_t source_read(Source *s, uint8_t *to, size_t room, const char *where, Err *e);
/* Every frame from now on is added to notes, before its first byte is given. One call of source_read gives bytes of one
 * frame; the sizes that are noted of it are right once bytes of the next are given, or the source has ended. */
void source_note(Source *s, SeekTable *notes);
/* The index at the end of a regular file, which the caller clears. 1, 0: there is none, -1: it is damaged. */
int source_index(const Source *s, SeekTable *t, Err *e);
/* Of a file: reads the frame that was begun to its end, if that is not far, for its checksum. Its bytes are lost. */
int source_settle(Source *s, const char *where, Err *e);
/* Reads on at this frame of the index. -1: it is not there. */
int source_jump(Source *s, const SeekFrame *f, Err *e);
const char *source_name(const Source *s);
long long source_taken(const Source *s);            /* bytes read of the file itself */
long long source_total(const Source *s);            /* its size, -1 for a pipe */

#endif
