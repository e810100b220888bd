/* SPDX-License-Identifier: MIT */
/* stream_out.c -- writes a tensor stream.
 *
 * A frame ends after the header, then at each record that makes it 1 MiB of msgpack or more, then after the end record:
 * by content only, so that equal records make equal bytes. Each frame is compressed whole, with its size and a
 * checksum, beside the caller (frame_writer.h). An index, where it is wanted, is what was noted of each frame. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/aside.h"
#include "formats/fdio.h"
#include "formats/frame_writer.h"
#include "formats/pack.h"
#include "formats/pipe.h"
#include "formats/seek_table.h"

static const size_t FRAME_SIZE = (size_t)1 << 20, WRITE_STRAIGHT = (size_t)64 << 10;

typedef struct Packed { uint32_t size, checksum; } Packed;

struct StreamOut {
    char *name;
    Aside *aside;                       /* NULL: standard output */
    int fd;
    PipeOut *pipe;                      /* NULL: fd is no pipe */
    FrameWriter *frames;                /* NULL: plain msgpack */
    Bytes frame;                        /* msgpack not yet written */
    long count;
    bool index;
    SeekTable table;                    /* of the index: what is known when a frame is full */
    uint64_t first;                     /* records before those in frame */
    Packed *packed;                     /* of the index: what is known when it is written, by whichever thread */
    size_t packed_count, packed_room;
};

/* Bytes of a frame that is written. */
static int note_packed(StreamOut *out, const uint8_t *frame, size_t n, Err *e)
{
    if (out->packed_count == out->packed_room) {
        const size_t room = out->packed_room ? 2*out->packed_room : 64;
        Packed *more = realloc(out->packed, room * sizeof *more);
        if (!more)
            return err_set(e, "%s: out of memory for its index", out->name);
        out->packed = more;
        out->packed_room = room;
    }
    out->packed[out->packed_count++] = (Packed){(uint32_t)n, seek_checksum(frame + n)};
    return 0;
}

static int put(StreamOut *out, const void *data, size_t n, Err *e)
{
    return out->pipe ? pipe_write(out->pipe, out->name, data, n, e) : fd_write(out->fd, out->name, data, n, e);
}

/* FrameWrite */
static int put_frame(void *stream, const void *data, size_t n, Err *e)
{
    StreamOut *out = stream;
    return (out->index && note_packed(out, data, n, e)) || put(out, data, n, e) ? -1 : 0;
}

static int flush_frame(StreamOut *out, Err *e)
{
    const size_t n = out->frame.size;
    if (n == 0)
        return 0;
    if (out->index) {
        SeekFrame *f = seek_table_add(&out->table);
        if (!f)
            return err_set(e, "%s: out of memory for its index", out->name);
        *f = (SeekFrame){.plain = n, .first = out->first, .checked = true, .whole = true,
                         .header = out->table.count == 1};
        out->first = (uint64_t)out->count;
    }
    if (out->frames)
        return frame_writer_add(out->frames, &out->frame, e);
    out->frame.size = 0;
    return put(out, out->frame.data, n, e);
}

/* All that was given is written, or known not to be. */
static int flush_all(StreamOut *out, Err *e)
{
    return flush_frame(out, e) || (out->frames && frame_writer_drain(out->frames, e)) ? -1 : 0;
}

/* Releases all but the struct itself, which stream_abandon frees: it may be called after stream_finish. */
static void out_release(StreamOut *out)
{
    frame_writer_free(out->frames);     /* first: nobody writes to a descriptor that is closed */
    aside_abandon(out->aside);
    pipe_out_free(out->pipe);
    free(out->frame.data);
    seek_table_clear(&out->table);
    free(out->packed);
    free(out->name);
    *out = (StreamOut){0};
}

int stream_create(StreamOut **result, const char *path, const Record *header, const StreamOptions *options, Err *e)
{
    static const StreamOptions none = {0};
    const bool is_stdout = !path || strcmp(path, "-") == 0;
    if (!options)
        options = &none;
    *result = NULL;

    StreamOut *out = calloc(1, sizeof *out);
    if (!out || !(out->name = strdup(is_stdout ? "standard output" : path))) {
        free(out);
        return err_set(e, "out of memory");
    }
    out->index = options->index && options->level != STREAM_NO_COMPRESS;
    int failed = options->level != STREAM_NO_COMPRESS
        && frame_writer_create(&out->frames, options->level ? options->level : 1, options->threads, out->name,
                               put_frame, out, e);
    failed = failed || (!is_stdout && !(out->aside = aside_open(path, e)));
    if (!failed) {
        out->fd = is_stdout ? STDOUT_FILENO : aside_fd(out->aside);
        out->pipe = pipe_out_create(out->fd);
        failed = fd_refuse_terminal(out->fd, out->name, "binary data is", e)
              || pack_record(&out->frame, header, NULL, out->name, e) || flush_all(out, e);
    }
    if (failed)
        stream_abandon(out);
    else
        *result = out;
    return failed ? -1 : 0;
}

/* The last bytes of a record. */
static int write_last(StreamOut *out, const void *data, size_t bytes, Err *e)
{
    if (!out->frames && bytes >= WRITE_STRAIGHT)
        return flush_frame(out, e) || put(out, data, bytes, e) ? -1 : 0;
    if (bytes_reserve(&out->frame, bytes))
        return err_set(e, "%s: out of memory", out->name);
    memcpy(out->frame.data + out->frame.size, data, bytes);
    out->frame.size += bytes;
    return out->frames && out->frame.size < FRAME_SIZE ? 0 : flush_frame(out, e);
}

static int check_names(const Record *rec, const char *name, long number, Err *e)
{
    const char *own = json_object_get(rec->fields, "stream") ? "stream"
                    : json_object_get(rec->fields, "end") ? "end" : NULL;
    return !own ? 0 : err_set(e, "%s: record %ld: a field may not be named %s, the format keeps that name", name,
                              number, own);
}

int stream_pack(Bytes *b, const Record *rec, const char *source, Err *e)
{
    return check_names(rec, source, rec->number, e) || pack_record(b, rec, NULL, source, e) ? -1 : 0;
}

int stream_write(StreamOut *out, const Record *rec, Err *e)
{
    const StreamTensor *tail;
    if (check_names(rec, out->name, out->count + 1, e) || pack_record(&out->frame, rec, &tail, out->name, e))
        return -1;
    out->count++;
    return tail ? write_last(out, tail->data, tail->bytes, e) : write_last(out, "", 0, e);
}

int stream_write_packed(StreamOut *out, const void *data, size_t bytes, Err *e)
{
    out->count++;
    return write_last(out, data, bytes, e);
}

static int write_index(StreamOut *out, Err *e)
{
    Bytes index = {0};
    out->table.records = (uint64_t)out->count;
    for (size_t i = 0; i < out->table.count; i++) {
        out->table.frame[i].packed = out->packed[i].size;
        out->table.frame[i].checksum = out->packed[i].checksum;
    }
    const int failed = seek_table_pack(&out->table, &index, out->name, e) || put(out, index.data, index.size, e);
    free(index.data);
    return failed;
}

int stream_finish(StreamOut *out, Err *e)
{
    int failed = pack_end(&out->frame, out->count) ? err_set(e, "%s: out of memory", out->name) : flush_all(out, e);
    failed = failed || (out->index && write_index(out, e));
    if (!failed && out->aside) {
        failed = aside_commit(out->aside, true, e);
        out->aside = NULL;
    } else if (!failed) {
        failed = fd_settle(out->fd, out->name, e);
    }
    out_release(out);
    return failed;
}

void stream_abandon(StreamOut *out)
{
    if (!out)
        return;
    out_release(out);
    free(out);
}
