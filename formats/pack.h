/* SPDX-License-Identifier: MIT */
/* pack.h -- records to msgpack bytes and back. Used by the stream reader and writer, and where records are kept as
 * bytes. */
#ifndef FORMATS_PACK_H
#define FORMATS_PACK_H

#include "formats/stream.h"

/* Bytes that grow at the end. */
typedef struct Bytes {
    uint8_t *data;
    size_t size, capacity;
} Bytes;

int bytes_reserve(Bytes *b, size_t more);           /* room for more bytes after size; -1: out of memory */

/* Aligned memory for the tensors of one record. */
typedef struct Arena {
    uint8_t *data;
    size_t used, capacity;
} Arena;

/* Appends the map of rec to b; a tensor's data goes last, so with `tail` set the data of a last tensor is left to the
 * caller (*tail points to that tensor, or is NULL when there is none). Fails on what the format cannot hold. */
int pack_record(Bytes *b, const Record *rec, const StreamTensor **tail, const char *where, Err *e);
/* Appends a record as stream_write writes it. source: of the record, for messages. */
int stream_pack(Bytes *b, const Record *rec, const char *source, Err *e);
int pack_end(Bytes *b, long count);                 /* {"end": count}; -1: out of memory */

typedef enum { UNPACK_RECORD, UNPACK_HEADER, UNPACK_END } Unpacked;

/* Decodes the n bytes of one whole object that mp_scan has passed. UNPACK_RECORD and UNPACK_HEADER fill rec (fields
 * fresh, tensors in p or in arena), UNPACK_END fills *count and leaves rec empty. -1 with an error that begins with
 * where. */
int unpack_object(Record *rec, long long *count, const uint8_t *p, size_t n, Arena *arena, const char *where, Err *e);

#endif
