/* SPDX-License-Identifier: MIT */
/* stream_private.h -- what reads a stream on (stream_in.c) and what finds its way in it (stream_seek.c) share. */
#ifndef FORMATS_STREAM_PRIVATE_H
#define FORMATS_STREAM_PRIVATE_H

#include "formats/pack.h"
#include "formats/source.h"

struct StreamIn {
    Source *source;
    Bytes raw;                          /* data[at..size) is decompressed and unread */
    size_t at;
    uint64_t passed;                    /* bytes of the decompressed stream before data[at] */
    Arena arena, header_arena;
    uint8_t *header_bytes;              /* the header's own copy of its object: its tensors may lie in it */
    Record header, record;
    long number;                        /* of the last record */
    long begun_after;                   /* number before the first record of this part of a joined stream */
    bool ended;                         /* an end record came; a further header may follow */
    bool failed;

    SeekTable notes;                    /* frames so far, where noting */
    size_t noted;                       /* the one in which the last object began */
    bool noting, checking;              /* checking: in the end, notes must be what the index says */
    StreamPlace place;                  /* of the last object, where noting */
    SeekTable index;
    int has_index;                      /* as stream_index returns it, once index_known */
    bool index_known;
};

/* Reads to the next record: stream_next, but for the record that it fills in. */
int stream_advance(StreamIn *in, Err *e);
/* Reads one object. 1: a record, 0: a header or an end record, 2: the stream ends, -1: error. */
int stream_object(StreamIn *in, Err *e);
/* An object of this kind lies at data[at]. */
void stream_note_object(StreamIn *in, Unpacked kind, size_t bytes);
/* The stream has ended: notes are made whole, and checked. */
int stream_note_end(StreamIn *in, Err *e);

#endif
