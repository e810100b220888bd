/* SPDX-License-Identifier: MIT */
/* tstream_join.c -- the records of several inputs as those of one stream, under a header made of all of theirs. */
#include <stdlib.h>
#include "src/cli/tstream.h"

/* Opens every input once for its header. A regular file is closed again, since there may be more of them than a process
 * may open; the others stay open in in[]. */
static int merge_headers(Record *header, StreamIn **in, const Common *c, bool sorted, Err *e)
{
    json_t *parts = json_array();
    StreamIn *first = NULL;
    int failed = 0;
    for (int i = 0; i < cli_input_count(c) && !failed; i++) {
        failed = stream_open(&in[i], cli_input(c, i), e);
        if (failed)
            break;
        if (!first)
            first = in[i];
        const char *other = record_difference(stream_header(first), stream_header(in[i]));
        if (other)
            failed = err_set(e, "%s: header: its %s differs from that of %s", stream_name(in[i]), other,
                             stream_name(first));
        json_array_append(parts, json_object_get(stream_header(in[i])->fields, "provenance"));
        if (i > 0 && stream_bytes_total(in[i]) >= 0) {
            stream_close(in[i]);
            in[i] = NULL;
        }
    }
    if (!failed) {
        *header = *stream_header(first);
        header->fields = json_copy(header->fields);
        if (json_array_size(parts) > 0)
            record_set_json(header, "provenance", provenance_join(parts, sorted));
    }
    json_decref(parts);
    return failed;
}

int join(const Join *j, const Common *c, Err *e)
{
    const int n = cli_input_count(c);
    Range left = j->range;
    Record header = {0};
    StreamIn **in = calloc((size_t)n, sizeof *in);
    if (!in)
        return err_set(e, "out of memory");
    int failed = merge_headers(&header, in, c, j->sorted, e) || j->on_header(j->context, &header, e);
    for (int i = 0; i < n && !failed && !range_done(&left); i++) {
        Record rec;
        int got = 0;
        failed = !in[i] && stream_open(&in[i], cli_input(c, i), e);
        while (!failed && (got = range_next(&left, in[i], &rec, e)) > 0)
            failed = j->on_record(j->context, in[i], &rec, e);
        failed = failed || got < 0;
        if (i > 0) {                                    /* the first holds the header's tensors */
            stream_close(in[i]);
            in[i] = NULL;
        }
    }
    for (int i = 0; i < n; i++)
        stream_close(in[i]);
    free(in);
    json_decref(header.fields);
    return failed ? -1 : 0;
}

/* ---- to a stream ---- */

typedef struct Output {
    const char *path;
    StreamOptions how;
    StreamOut *stream;
} Output;

static int on_header(void *context, const Record *header, Err *e)
{
    Output *out = context;
    return stream_create(&out->stream, out->path, header, &out->how, e);
}

static int on_record(void *context, StreamIn *in, const Record *rec, Err *e)
{
    const Output *out = context;
    (void)in;
    return stream_write(out->stream, rec, e);
}

int join_write(const Common *c, StreamOptions how, Range range, Err *e)
{
    Output out = {c->output, how, NULL};
    const Join j = {on_header, on_record, &out, range, false};
    const int failed = join(&j, c, e) || stream_finish(out.stream, e);
    stream_abandon(out.stream);
    return failed;
}
