/* SPDX-License-Identifier: MIT */
/* stream_seek.c -- where a stream's records lie, and the way to them by an index: to the frame in which a record
 * begins, by way of the header of its part where parts were joined, and on from there by reading. */
#include <limits.h>
#include "formats/stream_private.h"

void stream_note_object(StreamIn *in, Unpacked kind, size_t bytes)
{
    SeekTable *t = &in->notes;
    in->place = (StreamPlace){0, (long long)in->passed, (long long)bytes};
    if (t->count == 0)                          /* plain msgpack */
        return;
    while (in->noted + 1 < t->count && t->frame[in->noted + 1].plain_at <= in->passed)
        in->noted++;
    SeekFrame *f = &t->frame[in->noted];
    in->place.frame = (long long)f->at;
    in->place.offset -= (long long)f->plain_at;
    if (in->place.offset == 0) {
        f->whole = true;
        f->header = kind == UNPACK_HEADER;
        f->first = (uint64_t)in->number;
    } else if (kind == UNPACK_HEADER) {
        t->header_inside = true;
    }
}

int stream_note_end(StreamIn *in, Err *e)
{
    SeekTable *t = &in->notes;
    t->records = (uint64_t)in->number;
    uint64_t after = t->records;
    for (size_t i = t->count; i-- > 0; after = t->frame[i].first)
        if (!t->frame[i].whole)                 /* none begins in it that did not before */
            t->frame[i].first = after;
    const long other = in->checking ? seek_table_difference(&in->index, t) : -1;
    return other < 0 ? 0 : err_set(e, "%s: its index is damaged: it does not agree with the stream from frame %ld on "
                                      "(tstream index makes another)",
                                   source_name(in->source), other + 1);
}

StreamPlace stream_place(const StreamIn *in)
{
    return in->place;
}

void stream_take_places(StreamIn *in, SeekTable *t)
{
    *t = in->notes;
    in->notes = (SeekTable){0};
}

int stream_index(StreamIn *in, const SeekTable **t, Err *e)
{
    if (!in->index_known) {
        in->has_index = source_index(in->source, &in->index, e);
        in->index_known = in->has_index >= 0;
    }
    *t = &in->index;
    return in->has_index;
}

static int jump(StreamIn *in, const SeekFrame *f, bool ended, Err *e)
{
    in->raw.size = in->at = 0;
    in->passed = f->plain_at;
    in->number = (long)f->first;
    in->ended = ended;
    return source_jump(in->source, f, e);
}

/* To the frame in which this record begins, if that is not the one we are in. */
static int enter(StreamIn *in, const SeekTable *t, uint64_t record, Err *e)
{
    const SeekFrame *f = &t->frame[seek_table_find(t, record)];
    const SeekFrame *header = &t->frame[seek_table_header(t, (size_t)(f - t->frame))];
    if (f->plain_at <= in->passed)
        return 0;
    if (header->plain_at >= in->passed) {           /* of another part: it must agree with the first */
        if (jump(in, header, true, e))
            return -1;
        const int got = stream_object(in, e);
        if (got != 0 || in->ended)
            return got < 0 ? -1 : err_set(e, "%s: its index is damaged: no header begins at byte %llu",
                                          source_name(in->source), (unsigned long long)header->at);
    }
    return f->plain_at > in->passed ? jump(in, f, false, e) : 0;
}

long stream_skip(StreamIn *in, long count, Err *e)
{
    const long from = in->number, to = count < LONG_MAX - from ? from + count : LONG_MAX;
    const SeekTable *t;
    int got = in->failed ? err_set(e, "%s: reading went on after an error", source_name(in->source)) : 1;
    if (got > 0 && to > from) {
        const int indexed = stream_index(in, &t, e);
        const uint64_t last = indexed > 0 && (uint64_t)to > t->records ? t->records : (uint64_t)to;
        if (indexed < 0 || (indexed > 0 && last > 0 && enter(in, t, last, e)))
            got = -1;
    }
    while (got > 0 && in->number < to)
        got = stream_advance(in, e);
    in->failed = got < 0;
    return got < 0 ? -1 : in->number - from;
}
