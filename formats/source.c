/* SPDX-License-Identifier: MIT */
/* source.c -- zstd frames, one after the other (RFC 8878), or plain msgpack, told by the first byte.
 *
 * Frames of a file are read ahead and decoded side by side where they are whole and say their size; all others,
 * those of a pipe, which must not be waited for, and those that are damaged, are decoded as their bytes come. Where a
 * frame lies is noted when its first byte is given, so that frames are noted in their order. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>
#include "formats/fdio.h"
#include "formats/frames.h"
#include "formats/pipe.h"
#include "formats/source.h"

enum {
    READ_SIZE = 256 << 10,
    HEAD = 5,                               /* a frame's magic number and its descriptor */
    WHOLE_HEAD = 18,                        /* the longest that a frame's header is */
    WHOLE = 64 << 20                        /* a longer frame is not read whole */
};

struct Source {
    int fd;
    char *name;
    bool plain;
    bool in_frame;                          /* the decoder stands inside a frame */
    bool short_frame;                       /* which says that it is not long */
    bool holds_more;                        /* it filled the last buffer, and may have more without input */
    ZSTD_DCtx *zstd;
    uint8_t *data;                          /* what was read and not yet used: data[at..size) */
    size_t at, size, room;
    Frames *frames;                         /* NULL: none is read ahead */
    bool ahead;                             /* frames may be */
    size_t given;                           /* bytes given of the first of frames */
    long long begin, taken, total;
    SeekTable *notes;                       /* NULL: frames are not noted */
    SeekFrame now;                          /* the frame whose bytes are given; once it has ended, where the next is */
    uint8_t last[4];                        /* bytes of it that came last */
};

static bool is_zstd(const uint8_t *p)
{
    return p[0] == 0x28 && p[1] == 0xb5 && p[2] == 0x2f && p[3] == 0xfd;
}

static bool is_skippable(const uint8_t *p)
{
    return (p[0] & 0xf0) == 0x50 && p[1] == 0x2a && p[2] == 0x4d && p[3] == 0x18;
}

static bool is_map(uint8_t b)
{
    return (b & 0xf0) == 0x80 || b == 0xde || b == 0xdf;
}

/* Reads until `wanted` unused bytes are there or the file ends. Returns -1 on error. */
static int want(Source *s, size_t wanted, Err *e)
{
    if (s->size - s->at >= wanted)
        return 0;
    memmove(s->data, s->data + s->at, s->size - s->at);
    s->size -= s->at;
    s->at = 0;
    if (wanted > s->room) {
        uint8_t *data = realloc(s->data, 2*wanted);
        if (!data)
            return err_set(e, "%s: out of memory for a compressed frame of over %zu bytes", s->name, s->size);
        s->data = data;
        s->room = 2*wanted;
    }
    while (s->size < wanted) {
        const ssize_t got = fd_read(s->fd, s->name, s->data + s->size, s->room - s->size, e);
        if (got <= 0)
            return (int)got;
        s->size += (size_t)got;
        s->taken += got;
    }
    return 0;
}

static int look(Source *s, Err *e)
{
    if (want(s, 4, e))
        return -1;
    const uint8_t *p = s->data;
    if (s->size == 0)
        return err_set(e, "%s: is empty, expected a tensor stream (did the program before it fail?)", s->name);
    const char *what = s->size >= 2 && p[0] == 0x1f && p[1] == 0x8b ? "a gzip file"
                     : s->size >= 4 && memcmp(p, "\x89PNG", 4) == 0 ? "a PNG picture"
                     : s->size >= 2 && p[0] == 0x80 && p[1] <= 5 ? "a Python pickle, which is never read"
                     : p[0] == '{' || p[0] == '[' ? "JSON text"
                     : NULL;
    if (what)
        return err_set(e, "%s: is %s, expected a tensor stream", s->name, what);
    s->plain = is_map(p[0]);
    if (s->plain || (s->size >= 4 && (is_zstd(p) || is_skippable(p))))
        return 0;
    return err_set(e, "%s: is not a tensor stream: it begins with byte 0x%02x, neither a zstd frame nor a msgpack map",
                   s->name, p[0]);
}

Source *source_open(const char *path, Err *e)
{
    const bool is_stdin = !path || strcmp(path, "-") == 0;
    Source *s = calloc(1, sizeof *s);
    if (!s || !(s->name = strdup(is_stdin ? "standard input" : path)) || !(s->data = malloc(READ_SIZE))
        || !(s->zstd = ZSTD_createDCtx())) {
        err_set(e, "out of memory");
        source_close(s);
        return NULL;
    }
    struct stat st;
    s->room = READ_SIZE;
    s->fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st)) {
        err_set(e, "%s: %s", s->name, strerror(errno));
        source_close(s);
        return NULL;
    }
    s->total = S_ISREG(st.st_mode) ? (long long)st.st_size : -1;
    s->ahead = S_ISREG(st.st_mode);
    s->begin = s->ahead ? (long long)lseek(s->fd, 0, SEEK_CUR) : 0;     /* of standard input some may have been read */
    s->now.at = (uint64_t)s->begin;
    if (S_ISFIFO(st.st_mode)) {
        pipe_enlarge(s->fd);
        pipe_announce(s->fd);
    }
    int failed = 0;
    if (S_ISDIR(st.st_mode))
        failed = err_set(e, "%s: is a folder, expected a tensor stream", s->name);
    else if (isatty(s->fd))
        failed = err_set(e, "%s: is a terminal, expected a tensor stream from a file or a pipe", s->name);
    if (failed || look(s, e)) {
        source_close(s);
        return NULL;
    }
    return s;
}

void source_close(Source *s)
{
    if (!s)
        return;
    if (s->fd > STDIN_FILENO)
        close(s->fd);
    ZSTD_freeDCtx(s->zstd);
    frames_free(s->frames);
    free(s->data);
    free(s->name);
    free(s);
}

static int bad_frame(size_t code, const char *where, Err *e)
{
    switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_checksum_wrong:
        return err_set(e, "%s: the checksum is wrong: the data was damaged", where);
    case ZSTD_error_frameParameter_windowTooLarge:
        return err_set(e, "%s: was compressed with a window over 128 MiB (zstd --long or --ultra); compress it anew",
                       where);
    case ZSTD_error_memory_allocation:
        return err_set(e, "%s: out of memory for decompression", where);
    default:
        return err_set(e, "%s: the compressed data was damaged (%s)", where, ZSTD_getErrorName(code));
    }
}

/* ---- where frames lie ---- */

static void frame_ends(Source *s)
{
    s->now = (SeekFrame){.at = s->now.at + s->now.packed, .plain_at = s->now.plain_at + s->now.plain};
}

/* The frame whose head lies at p; its sizes are noted as far as they are known. */
static int frame_begins(Source *s, const uint8_t *p, size_t packed, size_t plain, const char *where, Err *e)
{
    s->now.packed = packed;
    s->now.plain = plain;
    s->now.checked = is_zstd(p) && (p[4] & 0x04);
    SeekFrame *noted = s->notes ? seek_table_add(s->notes) : NULL;
    if (s->notes && !noted)
        return err_set(e, "%s: out of memory for the places of frames", where);
    if (noted)
        *noted = s->now;
    return 0;
}

static void frame_grows(Source *s, const uint8_t *p, size_t packed, size_t plain)
{
    const size_t n = packed < sizeof s->last ? packed : sizeof s->last;
    memmove(s->last, s->last + n, sizeof s->last - n);
    memcpy(s->last + sizeof s->last - n, p + packed - n, n);
    s->now.packed += packed;
    s->now.plain += plain;
    s->now.checksum = seek_checksum(s->last + sizeof s->last);
    if (s->notes) {
        SeekFrame *noted = &s->notes->frame[s->notes->count - 1];
        noted->packed = s->now.packed;
        noted->plain = s->now.plain;
        noted->checksum = s->now.checksum;
    }
}

/* At a frame's first byte: what zstd would pass over in silence is looked at here. Returns 0 where the file ends. */
static int begin_frame(Source *s, const char *where, Err *e)
{
    if (want(s, s->total < 0 ? HEAD : WHOLE_HEAD, e))
        return -1;
    const uint8_t *p = s->data + s->at;
    const size_t have = s->size - s->at;
    if (have == 0)
        return 0;
    if (is_map(p[0]))
        return err_set(e, "%s: plain msgpack follows a compressed stream; join them with tstream cat", where);
    if (have < 4 || (!is_zstd(p) && !is_skippable(p)))
        return err_set(e, "%s: bytes that are no zstd frame follow a frame: the data was damaged, or is followed by "
                          "something else",
                       where);
    if (is_zstd(p) && have >= HEAD && (p[4] & 0x10))
        return err_set(e, "%s: the compressed data was damaged (a frame header has its unused bit set)", where);
    s->in_frame = true;
    s->short_frame = is_zstd(p) && frames_takes(p, have);
    return frame_begins(s, p, 0, 0, where, e) ? -1 : 1;
}

/* Reads frames whole and has them decoded, as long as they are good for it and there is room. */
static int read_ahead(Source *s, Err *e)
{
    while (s->ahead && !s->in_frame && (!s->frames || frames_has_room(s->frames))) {
        size_t size, have;
        if (want(s, WHOLE_HEAD, e))
            return -1;
        const uint8_t *p = s->data + s->at;
        have = s->size - s->at;
        if (have < HEAD || !is_zstd(p) || (p[4] & 0x10) || !frames_takes(p, have))
            return 0;
        while (!frames_whole(s->data + s->at, have = s->size - s->at, &size)) {
            if (have > WHOLE || want(s, have + 1, e))
                return have > WHOLE ? 0 : -1;
            if (s->size - s->at == have)
                return 0;
        }
        if (!s->frames && !(s->frames = frames_create()))
            s->ahead = false;
        if (!s->ahead || !frames_put(s->frames, s->data + s->at, size))
            return 0;
        s->at += size;
    }
    return 0;
}

/* What is left of a frame that was decoded whole, as far as there is room: its bytes' number, -1 on error. */
static ssize_t give(Source *s, const Frame *f, uint8_t *to, size_t room, const char *where, Err *e)
{
    const size_t left = f->plain_size - s->given, n = left < room ? left : room;
    if (s->given == 0) {
        s->now.checksum = seek_checksum(f->packed + f->packed_size);
        if (frame_begins(s, f->packed, f->packed_size, f->plain_size, where, e))
            return -1;
    }
    memcpy(to, f->plain + s->given, n);
    s->given += n;
    if (s->given == f->plain_size) {
        frames_drop(s->frames);
        frame_ends(s);
        s->given = 0;
    }
    return (ssize_t)n;
}

/* After a frame that could not be decoded whole: it and those behind it are put back before what follows them.
 * Decoded as their bytes come, they say what is wrong. */
static int put_back(Source *s, Err *e)
{
    const size_t behind = s->size - s->at;
    uint8_t *data = malloc(frames_packed(s->frames) + behind + READ_SIZE);
    if (!data)
        return err_set(e, "%s: out of memory for compressed frames", s->name);
    size_t n = 0;
    for (const Frame *f; (f = frames_first(s->frames)); frames_drop(s->frames)) {
        memcpy(data + n, f->packed, f->packed_size);
        n += f->packed_size;
    }
    memcpy(data + n, s->data + s->at, behind);
    free(s->data);
    s->data = data;
    s->at = 0;
    s->size = n + behind;
    s->room = s->size + READ_SIZE;
    s->ahead = false;
    return 0;
}

/* Goes on with the frame that was begun. out->pos was 0. */
static int decode_some(Source *s, ZSTD_outBuffer *out, const char *where, Err *e)
{
    if (s->at == s->size && !s->holds_more) {
        if (want(s, 1, e))
            return -1;
        if (s->at == s->size)
            return err_set(e, "%s: the stream was cut inside a compressed frame", where);
    }
    ZSTD_inBuffer in = {s->data, s->size, s->at};
    const size_t left = ZSTD_decompressStream(s->zstd, out, &in);
    if (ZSTD_isError(left))
        return bad_frame(left, where, e);
    frame_grows(s, s->data + s->at, in.pos - s->at, out->pos);
    s->at = in.pos;
    s->in_frame = left != 0;
    if (!s->in_frame)
        frame_ends(s);
    s->holds_more = s->in_frame && out->pos == out->size;
    return 0;
}

static ssize_t read_frames(Source *s, uint8_t *to, size_t room, const char *where, Err *e)
{
    ZSTD_outBuffer out = {to, room, 0};
    while (out.pos == 0) {
        const Frame *ready;
        if (read_ahead(s, e))
            return -1;
        if (s->frames && !s->in_frame && (ready = frames_first(s->frames))) {
            if (!ready->failed) {
                const ssize_t given = give(s, ready, to, room, where, e);
                if (given < 0)
                    return -1;
                out.pos = (size_t)given;
                continue;
            }
            if (put_back(s, e))
                return -1;
        }
        if (!s->in_frame) {
            const int more = begin_frame(s, where, e);
            if (more <= 0)
                return more;
        }
        if (decode_some(s, &out, where, e))
            return -1;
    }
    return (ssize_t)out.pos;
}

ssize_t source_read(Source *s, uint8_t *to, size_t room, const char *where, Err *e)
{
    if (!s->plain)
        return read_frames(s, to, room, where, e);
    const size_t have = s->size - s->at;
    if (have > 0) {
        const size_t n = have < room ? have : room;
        memcpy(to, s->data + s->at, n);
        s->at += n;
        return (ssize_t)n;
    }
    const ssize_t got = fd_read(s->fd, s->name, to, room, e);
    s->taken += got > 0 ? got : 0;
    return got;
}

void source_note(Source *s, SeekTable *notes)
{
    s->notes = notes;
}

int source_index(const Source *s, SeekTable *t, Err *e)
{
    *t = (SeekTable){0};
    if (s->plain || s->total < 0 || s->begin < 0)
        return 0;
    return seek_table_read(t, s->fd, (uint64_t)s->begin, (uint64_t)s->total, s->name, e);
}

int source_settle(Source *s, const char *where, Err *e)
{
    uint8_t lost[4096];
    int failed = 0;
    while (!failed && s->total >= 0 && s->in_frame && s->short_frame)
        failed = decode_some(s, &(ZSTD_outBuffer){lost, sizeof lost, 0}, where, e);
    return failed;
}

int source_jump(Source *s, const SeekFrame *f, Err *e)
{
    frames_free(s->frames);
    s->frames = NULL;
    s->given = s->at = s->size = 0;
    s->in_frame = s->holds_more = false;
    ZSTD_DCtx_reset(s->zstd, ZSTD_reset_session_only);
    s->now = (SeekFrame){.at = f->at, .plain_at = f->plain_at};
    s->taken = (long long)f->at - s->begin;
    if (lseek(s->fd, (off_t)f->at, SEEK_SET) < 0)
        return err_set(e, "%s: reading: %s", s->name, strerror(errno));
    if (want(s, WHOLE_HEAD, e))
        return -1;
    const unsigned long long holds = ZSTD_getFrameContentSize(s->data, s->size);
    if (s->size >= HEAD && is_zstd(s->data) && (holds == f->plain || holds == ZSTD_CONTENTSIZE_UNKNOWN))
        return 0;
    return err_set(e, "%s: its index is damaged: no frame of %llu bytes begins at byte %llu (tstream index makes "
                      "another)",
                   s->name, (unsigned long long)f->plain, (unsigned long long)f->at);
}

const char *source_name(const Source *s)
{
    return s->name;
}

long long source_taken(const Source *s)
{
    return s->taken;
}

long long source_total(const Source *s)
{
    return s->total;
}
