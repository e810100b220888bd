/* SPDX-License-Identifier: MIT */
/* stream_in.c -- reads a tensor stream record by record.
 *
 *     bytes --source--> raw --mp_scan--> one whole object --unpack--> Record
 *
 * raw grows only as bytes arrive. Objects are used where they lie in raw. Where a large tensor begins, what has come
 * of its object is moved by less than a cache line, so that the tensor is aligned where it arrives; others are
 * copied to be so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/mpscan.h"
#include "formats/stream_private.h"

enum {
    ROOM = 256 << 10,                   /* least free space that a read is given */
    AHEAD = 64 << 10,                   /* bytes read at once while it is not known what comes */
    NEXT_HEAD = 4 << 10,                /* bytes read behind a large tensor: what comes next may be known from them */
    LARGE = 64 << 10,                   /* of a tensor that is aligned where it arrives */
    LINE = 64
};

static const char *where_next(const StreamIn *in, char *text, size_t n)
{
    if (in->header.fields)
        snprintf(text, n, "%s: %s %ld", source_name(in->source), in->ended ? "after record" : "record",
                 in->ended ? in->number : in->number + 1);
    else
        snprintf(text, n, "%s: header", source_name(in->source));
    return text;
}

/* Moves what is unread to the front of raw, so that its byte `body` is aligned. */
static void move_to_front(StreamIn *in, size_t body)
{
    const size_t shift = -((uintptr_t)in->raw.data + body) % LINE;
    memmove(in->raw.data + shift, in->raw.data + in->at, in->raw.size - in->at);
    in->raw.size += shift - in->at;
    in->at = shift;
}

/* Reads more bytes behind raw, which has been scanned. 1: some came, 0: the source ended, -1: error. */
static int fill(StreamIn *in, const MpScan *scan, const char *where, Err *e)
{
    const bool large = scan->wants > scan->body + LARGE;
    const size_t have = in->raw.size - in->at, body = large ? scan->body : 0;
    const size_t wanted = large ? scan->wants - have + NEXT_HEAD : AHEAD;
    const size_t least = wanted < ROOM ? wanted : ROOM;
    if (in->raw.capacity - in->raw.size < least && in->at > LINE)
        move_to_front(in, body);
    if (in->raw.capacity - in->raw.size < least && bytes_reserve(&in->raw, in->raw.size > ROOM ? in->raw.size : ROOM))
        return err_set(e, "%s: out of memory for a record of over %zu bytes", where, in->raw.size);
    if (large && ((uintptr_t)in->raw.data + in->at + body) % LINE != 0)
        move_to_front(in, body);
    const size_t room = in->raw.capacity - in->raw.size;
    const ssize_t got = source_read(in->source, in->raw.data + in->raw.size, wanted < room ? wanted : room, where, e);
    in->raw.size += got > 0 ? (size_t)got : 0;
    return got > 0 ? 1 : (int)got;
}

/* Finds the next whole object at raw.data + at. 1: *length holds its length, 0: the source ended, -1: error. */
static int find_object(StreamIn *in, size_t *length, const char *where, Err *e)
{
    MpScan scan = {0};
    for (;;) {
        const char *why = NULL;
        const int found = in->raw.data ? mp_scan(&scan, in->raw.data + in->at, in->raw.size - in->at, &why) : 0;
        *length = scan.at;
        if (found < 0)
            return err_set(e, "%s: %s", where, why);
        if (found && scan.at > 0)
            return 1;
        const int more = fill(in, &scan, where, e);
        if (more < 0)
            return -1;
        if (more == 0)
            return in->raw.size == in->at ? 0 : err_set(e, "%s: the stream was cut in the middle of it", where);
    }
}

/* A value of a header as messages show it: JSON, or a tensor's type and shape. */
static void value_text(const Record *header, const char *name, char text[256])
{
    char shape[128];
    const StreamTensor *tensor = record_tensor(header, name);
    char *json = json_dumps(json_object_get(header->fields, name), JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(text, 256, "%.200s", json ? json : tensor ? tensor_shape_text(tensor, shape) : "none");
    free(json);
}

static int check_header(const StreamIn *in, const Record *header, const char *where, Err *e)
{
    const char *kind = record_text(header, "stream", NULL);
    const json_t *version = json_object_get(header->fields, "version");
    if (!kind || !*kind)
        return err_set(e, "%s: the header's \"stream\" is not the name of a kind", where);
    if (!json_is_integer(version))
        return err_set(e, "%s: the header has no version", where);
    if (json_integer_value(version) != STREAM_VERSION)
        return err_set(e, "%s: is version %lld of the format, this program reads version %d", where,
                       (long long)json_integer_value(version), STREAM_VERSION);
    const char *other = in->header.fields ? record_difference(&in->header, header) : NULL;
    if (!other)
        return 0;
    char first[256], now[256];
    value_text(&in->header, other, first);
    value_text(header, other, now);
    return strcmp(now, first) == 0
        ? err_set(e, "%s: a joined stream's header has another %s: %s of other values", where, other, now)
        : err_set(e, "%s: a joined stream's header has another %s: %s, the first has %s", where, other, now, first);
}

static void pass(StreamIn *in, size_t bytes)
{
    in->at += bytes;
    in->passed += bytes;
}

/* The first object, kept in memory of its own for the stream's life. */
static int read_header(StreamIn *in, Err *e)
{
    char where[4200];
    size_t length = 0;
    long long count;
    const int found = find_object(in, &length, where_next(in, where, sizeof where), e);
    if (found <= 0)
        return found < 0 ? -1 : err_set(e, "%s: holds no bytes inside its frames", source_name(in->source));
    if (!(in->header_bytes = malloc(length)))
        return err_set(e, "%s: out of memory", where);
    memcpy(in->header_bytes, in->raw.data + in->at, length);
    if (in->noting)
        stream_note_object(in, UNPACK_HEADER, length);
    pass(in, length);
    Record header;
    const int kind = unpack_object(&header, &count, in->header_bytes, length, &in->header_arena, where, e);
    if (kind >= 0 && kind != UNPACK_HEADER)
        err_set(e, "%s: expected {\"stream\": kind, ...}, found another map: is this a tensor stream?", where);
    if (kind != UNPACK_HEADER || check_header(in, &header, where, e)) {
        if (kind >= 0)
            record_clear(&header);
        return -1;
    }
    in->header = header;
    return 0;
}

typedef enum { AS_IT_IS, PLACES, CHECKED } OpenHow;

static int open_as(StreamIn **out, const char *path, OpenHow how, Err *e)
{
    const SeekTable *index;
    *out = NULL;
    StreamIn *in = calloc(1, sizeof *in);
    if (!in)
        return err_set(e, "out of memory");
    int failed = !(in->source = source_open(path, e)) || (how == CHECKED && stream_index(in, &index, e) < 0);
    if (!failed) {
        in->checking = in->has_index > 0;
        in->noting = how == PLACES || in->checking;
        source_note(in->source, in->noting ? &in->notes : NULL);
        failed = read_header(in, e);
    }
    if (failed)
        stream_close(in);
    else
        *out = in;
    return failed ? -1 : 0;
}

int stream_open(StreamIn **in, const char *path, Err *e)
{
    return open_as(in, path, AS_IT_IS, e);
}

int stream_open_places(StreamIn **in, const char *path, Err *e)
{
    return open_as(in, path, PLACES, e);
}

int stream_open_checked(StreamIn **in, const char *path, Err *e)
{
    return open_as(in, path, CHECKED, e);
}

int stream_open_kind(StreamIn **in, const char *path, const char *kind, Err *e)
{
    if (stream_open(in, path, e))
        return -1;
    if (strcmp(stream_kind(*in), kind) == 0)
        return 0;
    err_set(e, "%s: is a stream of %s, expected %s", stream_name(*in), stream_kind(*in), kind);
    stream_close(*in);
    *in = NULL;
    return -1;
}

void stream_close(StreamIn *in)
{
    if (!in)
        return;
    source_close(in->source);
    record_clear(&in->record);
    record_clear(&in->header);
    free(in->header_bytes);
    free(in->header_arena.data);
    free(in->arena.data);
    free(in->raw.data);
    seek_table_clear(&in->notes);
    seek_table_clear(&in->index);
    free(in);
}

const char *stream_name(const StreamIn *in)
{
    return source_name(in->source);
}

const char *stream_kind(const StreamIn *in)
{
    return record_text(&in->header, "stream", "");
}

const Record *stream_header(const StreamIn *in)
{
    return &in->header;
}

long long stream_bytes_in(const StreamIn *in)
{
    return source_taken(in->source);
}

long long stream_bytes_total(const StreamIn *in)
{
    return source_total(in->source);
}

/* What an object means where the stream stands. 1: a record, 0: read on, -1: error. */
static int take_object(StreamIn *in, int kind, long long count, const char *where, Err *e)
{
    if (in->ended && kind != UNPACK_HEADER)
        return err_set(e, "%s: the stream goes on after its end record, without a new header", where);
    if (!in->ended && kind == UNPACK_HEADER)
        return err_set(e, "%s: a new header came before the end record: the stream before it was cut", where);
    if (kind == UNPACK_RECORD) {
        in->record.number = ++in->number;
        return 1;
    }
    if (kind == UNPACK_HEADER) {
        in->ended = false;
        in->begun_after = in->number;
        return check_header(in, &in->record, where, e);
    }
    in->ended = true;
    if (count == in->number - in->begun_after)
        return 0;
    return err_set(e, "%s: the end record counts %lld records, %ld came: some were lost", source_name(in->source),
                   count,
                   in->number - in->begun_after);
}

int stream_object(StreamIn *in, Err *e)
{
    char where[4200];
    size_t length = 0;
    long long count = 0;
    record_clear(&in->record);
    const int found = find_object(in, &length, where_next(in, where, sizeof where), e);
    if (found < 0)
        return -1;
    if (found == 0)
        return in->ended ? 2 : err_set(e, "%s: stopped after record %ld without an end record: the stream was cut",
                                       source_name(in->source), in->number);
    const int kind = unpack_object(&in->record, &count, in->raw.data + in->at, length, &in->arena, where, e);
    if (kind >= 0 && in->noting)
        stream_note_object(in, kind, length);
    pass(in, length);
    return kind < 0 ? -1 : take_object(in, kind, count, where, e);
}

int stream_advance(StreamIn *in, Err *e)
{
    int got;
    while ((got = stream_object(in, e)) == 0) {}
    if (got == 2)
        got = in->noting ? stream_note_end(in, e) : 0;
    return got;
}

int stream_next(StreamIn *in, Record *rec, Err *e)
{
    memset(rec, 0, sizeof *rec);
    if (in->failed)
        return err_set(e, "%s: reading went on after an error", source_name(in->source));
    const int got = stream_advance(in, e);
    in->failed = got < 0;
    if (got > 0)
        *rec = in->record;
    return got;
}

int stream_settle(StreamIn *in, Err *e)
{
    char where[4200];
    in->failed = true;
    return source_settle(in->source, where_next(in, where, sizeof where), e);
}
