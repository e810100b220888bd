/* SPDX-License-Identifier: MIT */
/* stream_out.c -- writes a tensor stream.
 *
 * A frame ends after the header, then at each record that makes it 1 MiB of msgpack or more, then after the end record:
 * by content only, so that equal records make equal bytes. Each frame is compressed whole, with its size and a
 * checksum, beside the caller (frame_writer.h). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/aside.h"
#include "formats/fdio.h"
#include "formats/frame_writer.h"
#include "formats/pack.h"
#include "formats/pipe.h"

static const size_t FRAME_SIZE = (size_t)1 << 20, WRITE_STRAIGHT = (size_t)64 << 10;

struct StreamOut {
    char *name;
    Aside *aside;                       /* NULL: standard output */
    int fd;
    PipeOut *pipe;                      /* NULL: fd is no pipe */
    FrameWriter *frames;                /* NULL: plain msgpack */
    Bytes frame;                        /* msgpack not yet written */
    long count;
};

/* FrameWrite */
static int put(void *stream, const void *data, size_t n, Err *e)
{
    const StreamOut *out = stream;
    return out->pipe ? pipe_write(out->pipe, out->name, data, n, e) : fd_write(out->fd, out->name, data, n, e);
}

static int flush_frame(StreamOut *out, Err *e)
{
    const size_t n = out->frame.size;
    if (n == 0)
        return 0;
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
    if (is_stdout && isatty(STDOUT_FILENO) && !options->force)
        return err_set(e, "standard output is a terminal: binary data is not written to it; use -o FILE or a pipe");

    StreamOut *out = calloc(1, sizeof *out);
    if (!out || !(out->name = strdup(is_stdout ? "standard output" : path))) {
        free(out);
        return err_set(e, "out of memory");
    }
    int failed = options->level != STREAM_NO_COMPRESS
        && frame_writer_create(&out->frames, options->level ? options->level : 1, options->threads, out->name,
                               put, out, e);
    failed = failed || (!is_stdout && !(out->aside = aside_open(path, e)));
    if (!failed) {
        out->fd = is_stdout ? STDOUT_FILENO : aside_fd(out->aside);
        out->pipe = pipe_out_create(out->fd);
        failed = pack_record(&out->frame, header, NULL, out->name, e) || flush_all(out, e);
    }
    if (failed)
        stream_abandon(out);
    else
        *result = out;
    return failed ? -1 : 0;
}

int stream_write(StreamOut *out, const Record *rec, Err *e)
{
    const char *own = json_object_get(rec->fields, "stream") ? "stream" : json_object_get(rec->fields,
                                                                                          "end") ? "end" : NULL;
    if (own)
        return err_set(e, "%s: record %ld: a field may not be named %s, the format keeps that name", out->name,
                       out->count + 1, own);
    const StreamTensor *tail;
    if (pack_record(&out->frame, rec, &tail, out->name, e))
        return -1;
    out->count++;
    if (tail && !out->frames && tail->bytes >= WRITE_STRAIGHT)
        return flush_frame(out, e) ? -1 : put(out, tail->data, tail->bytes, e);
    if (tail) {
        if (bytes_reserve(&out->frame, tail->bytes))
            return err_set(e, "%s: out of memory", out->name);
        memcpy(out->frame.data + out->frame.size, tail->data, tail->bytes);
        out->frame.size += tail->bytes;
    }
    return out->frames && out->frame.size < FRAME_SIZE ? 0 : flush_frame(out, e);
}

int stream_finish(StreamOut *out, Err *e)
{
    int failed = pack_end(&out->frame, out->count) ? err_set(e, "%s: out of memory", out->name) : flush_all(out, e);
    if (!failed && out->aside) {
        failed = aside_commit(out->aside, true, e);
        out->aside = NULL;
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
