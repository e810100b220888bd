/* SPDX-License-Identifier: MIT */
/* seek_table.h -- where the zstd frames of a file lie and which records begin in them: the index that may close a
 * stream. formats/STREAM.md specifies the bytes. */
#ifndef FORMATS_SEEK_TABLE_H
#define FORMATS_SEEK_TABLE_H

#include <stdbool.h>
#include "formats/pack.h"

typedef struct SeekFrame {
    uint64_t at, packed;            /* its bytes in the file */
    uint64_t plain_at, plain;       /* the bytes that it holds, in the decompressed stream; none: a skippable frame */
    uint64_t first;                 /* records of the file before those that begin in it */
    uint32_t checksum;              /* its own, where checked */
    bool checked;
    bool whole;                     /* an object begins where it begins */
    bool header;                    /* and that is a header */
} SeekFrame;

/* Every frame of the file, one after the other. */
typedef struct SeekTable {
    SeekFrame *frame;
    size_t count, room;
    uint64_t records;
    bool header_inside;             /* a header lies in a frame, and not at its beginning */
} SeekTable;

/* The checksum that a frame ends with, if it has one. */
static inline uint32_t seek_checksum(const uint8_t *end)
{
    return end[-4] | (uint32_t)end[-3] << 8 | (uint32_t)end[-2] << 16 | (uint32_t)end[-1] << 24;
}

SeekFrame *seek_table_add(SeekTable *t);            /* zeros; NULL: out of memory */
void seek_table_clear(SeekTable *t);

/* What keeps the frames from being indexed as they are; NULL: nothing. */
const char *seek_table_unfit(const SeekTable *t);
/* Appends the index, two skippable frames, to b. -1: out of memory, or more frames than an index holds. */
int seek_table_pack(const SeekTable *t, Bytes *b, const char *name, Err *e);
/* Reads the index at the end of the file whose stream goes from byte `begin` to byte `end`, and those of the parts that
 * were joined to it. 1: t is filled; 0: there is none that says where all frames are; -1: one is there, and damaged. */
int seek_table_read(SeekTable *t, int fd, uint64_t begin, uint64_t end, const char *name, Err *e);
/* Whether a skippable frame of the file is part of an index, ours or another program's. */
bool seek_table_owns(int fd, const SeekFrame *f);

/* The frame in which record number `record` (1: the first) begins, and the one that holds the header before it. */
size_t seek_table_find(const SeekTable *t, uint64_t record);
size_t seek_table_header(const SeekTable *t, size_t frame);
/* The first frame in which two tables differ; the larger count where one goes on; -1: they agree. */
long seek_table_difference(const SeekTable *a, const SeekTable *b);

#endif
