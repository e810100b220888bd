/* SPDX-License-Identifier: MIT */
/* stream.h -- tensor streams (*.mpk.zst): one msgpack map a record inside zstd frames. formats/STREAM.md specifies the
 * bytes.
 *
 *     header   {"stream": kind, "version": 1, ..., "provenance": [{program, version, arguments}, ...]}
 *     records  small fields first, tensors last, each tensor as msgpack-numpy writes it
 *     end      {"end": number of records}
 *
 * Header and records are both Records: small fields as a jansson object, tensors beside it. A tensor's data is aligned
 * to 64 bytes. Sizes that the bytes claim are checked against limits before memory is taken: see STREAM_MAX_*. */
#ifndef FORMATS_STREAM_H
#define FORMATS_STREAM_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"

enum { STREAM_MAX_TENSORS = 8, STREAM_MAX_DIMS = 6, STREAM_VERSION = 1 };

typedef struct StreamTensor {
    char name[40];
    DType type;
    int ndim;
    int64_t dim[STREAM_MAX_DIMS];
    const void *data;
    size_t bytes;
} StreamTensor;

typedef struct Record {
    json_t *fields;                                 /* object of small fields, in their order; owned by whom fills it */
    StreamTensor tensor[STREAM_MAX_TENSORS];
    int tensors;
    long number;                                    /* 1 for a stream's first record; 0 for the header */
} Record;

typedef struct StreamIn StreamIn;
typedef struct StreamOut StreamOut;

/* ---- reading ---- */

/* Opens path (NULL or "-": stdin), compressed or not (told by the first bytes), and reads its header.
 * Fails on a terminal, a stream of no bytes, a bad header, an unknown version. *in is NULL on failure. */
int stream_open(StreamIn **in, const char *path, Err *e);
/* As stream_open, and the kind must be the one named ("conditioning", "activations", ...). */
int stream_open_kind(StreamIn **in, const char *path, const char *kind, Err *e);
void stream_close(StreamIn *in);                    /* NULL is fine */

const char *stream_name(const StreamIn *in);        /* the file's name, or "standard input", for messages */
const char *stream_kind(const StreamIn *in);
const Record *stream_header(const StreamIn *in);    /* lives as long as in */

/* Next record. rec points into the stream and is good until the next call (fields too: json_incref to keep).
 * Joined streams read on: a later header must agree with the first in all but provenance.
 * Returns 1 with a record, 0 after the last end record, -1 on error and when the input stops without an end record,
 * when the end's count is wrong, a checksum fails, or a size is over the limits. */
int stream_next(StreamIn *in, Record *rec, Err *e);
long long stream_bytes_in(const StreamIn *in);      /* bytes consumed of the file so far */
long long stream_bytes_total(const StreamIn *in);   /* size of the file, -1 for a pipe */

/* ---- finding the way: STREAM.md, "Index" ---- */

typedef struct SeekTable SeekTable;                 /* formats/seek_table.h */

/* Passes over the next `count` records, by the index where a regular file closes with one, else by reading. Returns how
 * many were passed, fewer where the stream ends; -1 on error, and where the index is damaged. */
long stream_skip(StreamIn *in, long count, Err *e);
/* The index. *t lives as long as in. 1: it is there, 0: none is, or in is no regular file; -1: it is damaged. */
int stream_index(StreamIn *in, const SeekTable **t, Err *e);
/* As stream_open, and a damaged index, or one that does not agree with what comes, is an error too (of this call, or of
 * the stream_next that would return 0). Memory then grows by some 60 bytes a frame. */
int stream_open_checked(StreamIn **in, const char *path, Err *e);

/* Where a record lies: the byte of the file at which the zstd frame begins that it begins in (0 in plain msgpack), the
 * record's first byte in what that frame holds, and how many bytes it has. */
typedef struct StreamPlace { long long frame, offset, bytes; } StreamPlace;
/* As stream_open, and places are noted. Memory grows by some 60 bytes a frame. */
int stream_open_places(StreamIn **in, const char *path, Err *e);
StreamPlace stream_place(const StreamIn *in);       /* of the last record */
/* All frames, once stream_next has returned 0; none in plain msgpack. *t is then the caller's to clear. */
void stream_take_places(StreamIn *in, SeekTable *t);
/* What has come so far is known to be undamaged: of a file, the zstd frame that holds the last record is read to its
 * checksum (where it says that it holds no more than 64 MiB). Nothing can be read from in after this. */
int stream_settle(StreamIn *in, Err *e);

/* ---- a record's parts; the getters return the fallback where the field is missing or of another type ---- */

const StreamTensor *record_tensor(const Record *rec, const char *name);                    /* NULL when missing */
/* Tensor `name` with `ndim` dimensions equal to dim[] (-1: any) and of `type` (-1: any of F32, F16, BF16).
 * Errors name file, record, found and expected. NULL on error. */
const StreamTensor *stream_need(const StreamIn *in, const Record *rec, const char *name, int type, int ndim,
                                const int64_t *dim, Err *e);
/* Copies a tensor of F32, F16 or BF16 to f32, refusing NaN and infinity with the index of the first. y holds the
 * tensor's count. */
int stream_floats(const StreamIn *in, const Record *rec, const StreamTensor *t, float *y, Err *e);
/* The same refusal without the copy, of any type: integers are finite. */
int stream_finite(const StreamIn *in, const Record *rec, const StreamTensor *t, Err *e);
/* An error that does not know of streams, said of a record: "NAME: record N: why". Returns -1. */
int stream_blame(const StreamIn *in, long number, const Err *why, Err *e);
size_t tensor_count(const StreamTensor *t);
bool tensor_is_float(const StreamTensor *t);        /* F32, F16 or BF16 */
const char *tensor_shape_text(const StreamTensor *t, char text[128]);                      /* "f16 (8, 8, 128)" */
const char *record_text(const Record *rec, const char *name, const char *fallback);
long long record_int(const Record *rec, const char *name, long long fallback);
double record_number(const Record *rec, const char *name, double fallback);
/* The first field or tensor in which two headers disagree, provenance apart; NULL when they agree. */
const char *record_difference(const Record *a, const Record *b);

/* ---- building ---- */

void record_init(Record *rec, const char *kind);    /* kind: a header of that kind; NULL: an empty record */
void record_clear(Record *rec);                     /* drops the fields; tensors' data is the caller's */
void record_set_text(Record *rec, const char *name, const char *value);
void record_set_int(Record *rec, const char *name, long long value);
void record_set_number(Record *rec, const char *name, double value);
void record_set_json(Record *rec, const char *name, json_t *value);                        /* takes the reference */
/* A label as text, whatever its type (json_value_text); "" where there is none, or null. The caller frees it; NULL: out
 * of memory. */
char *record_label(const json_t *fields, const char *name);
/* Whether a field of that name goes with a record to the last stage: those of the stream's own making do not. */
bool record_is_label(const char *name);
/* Copies id, seed and the labels from one record to another. */
void record_copy_fields(Record *to, const Record *from);
/* Adds a tensor that points to data (not copied). dims: ndim values follow, as int64_t array. */
void record_add_tensor(Record *rec, const char *name, DType type, int ndim, const int64_t *dim, const void *data);
/* The header of an output made from in (NULL: from nothing): provenance of in, plus `step` (reference taken). */
void record_provenance(Record *header, const StreamIn *in, json_t *step);
/* The provenance of what is made of several streams, from an array of theirs, fresh. Where all are one, that; else the
 * steps of all, each once: as they come, or sorted, where the order of the streams must play no part, by their JSON. So
 * sorted, parts of parts give what all parts at once give. NULL: out of memory */
json_t *provenance_join(const json_t *parts, bool sorted);

/* ---- writing ---- */

typedef struct StreamOptions {
    int level;              /* zstd level; 0 means the default, 1; STREAM_NO_COMPRESS writes plain msgpack */
    int threads;            /* of the compressor; the bytes are the same whatever it is */
    bool index;             /* close with an index; not with STREAM_NO_COMPRESS */
} StreamOptions;
enum { STREAM_NO_COMPRESS = -1000 };

/* Opens path (NULL or "-": stdout, which must not be a terminal) and writes the header. A file is written aside
 * (PATH.part-PID) and renamed by stream_finish. Frames are cut by content only: equal records, equal bytes. */
int stream_create(StreamOut **out, const char *path, const Record *header, const StreamOptions *options, Err *e);
int stream_write(StreamOut *out, const Record *rec, Err *e);    /* EPIPE sets e->closed */
/* A record that stream_pack made (formats/pack.h). */
int stream_write_packed(StreamOut *out, const void *data, size_t bytes, Err *e);
/* End record, flush, fsync, close, rename; out can only be abandoned after it, also when it fails. */
int stream_finish(StreamOut *out, Err *e);
void stream_abandon(StreamOut *out);                /* frees out; what is not finished is removed. NULL is fine */

#endif
