/* SPDX-License-Identifier: MIT */
/* tstream_cat.c -- tstream cat and head: records of streams as one stream, framed anew, the header as it was.
 *
 * Selecting and joining is no step of the work, so the provenance stays: shards joined again are, byte for byte, the
 * stream that one run would have written. */
#include <stdlib.h>
#include "src/cli/tstream.h"

typedef struct Config {
    Common c;
    int64_t count;              /* head: records to take */
    StreamOut *out;
    int64_t taken;
} Config;

static const Opt cat_options[] = {STREAM_OPTIONS, COMMON_OPTIONS, {0}};
static const Opt head_options[] = {
    {'n', "records", OPT_INT, offsetof(Config, count), "10", "N  records to take", 0},
    STREAM_OPTIONS, COMMON_OPTIONS, {0}};

static const Cli cat_cli = {
    "tstream cat", "Join tensor streams to one.", cat_options, "[FILE]...",
    "The headers must agree in all but provenance; where that differs, the steps that only later inputs have are "
    "appended. "
    "Memory is that of the largest record.",
    "tstream cat shard-*.mpk.zst > all.mpk.zst\n"
    "tstream cat --no-compress acts.mpk.zst | sae-fit -o sae"};

static const Cli head_cli = {
    "tstream head", "The first records of a tensor stream, as a stream.", head_options, "[FILE]...",
    "Takes N records of the inputs as they follow each other, and reads no further.",
    "tstream head -n 10 acts.mpk.zst | tstream view"};

/* ---- the header of what is joined ---- */

static void add_steps(json_t *all, const json_t *more)
{
    size_t i, k;
    json_t *step, *have;
    json_array_foreach((json_t *)more, i, step) {
        bool known = false;
        json_array_foreach(all, k, have)
            known |= json_equal(have, step);
        if (!known)
            json_array_append(all, step);
    }
}

/* Opens every input once for its header. A regular file is closed again, since there may be more of them than a process
 * may open; the others stay open in in[]. */
static int merge_headers(Record *header, StreamIn **in, const Common *c, Err *e)
{
    json_t *provenance = json_array();
    StreamIn *first = NULL;
    int failed = 0;
    for (int i = 0; i < inputs_count(c) && !failed; i++) {
        failed = stream_open(&in[i], inputs_name(c, i), e);
        if (failed)
            break;
        if (!first)
            first = in[i];
        const char *other = record_difference(stream_header(first), stream_header(in[i]));
        if (other)
            failed = err_set(e, "%s: header: its %s differs from that of %s", stream_name(in[i]), other,
                             stream_name(first));
        add_steps(provenance, json_object_get(stream_header(in[i])->fields, "provenance"));
        if (i > 0 && stream_bytes_total(in[i]) >= 0) {
            stream_close(in[i]);
            in[i] = NULL;
        }
    }
    if (!failed) {
        *header = *stream_header(first);
        header->fields = json_copy(header->fields);
        if (json_object_get(header->fields, "provenance"))
            json_object_set(header->fields, "provenance", provenance);
    }
    json_decref(provenance);
    return failed;
}

/* ---- records ---- */

static int copy_records(Config *cfg, StreamIn *in, Err *e)
{
    Record rec;
    int got = 0;
    while ((cfg->count < 0 || cfg->taken < cfg->count) && (got = stream_next(in, &rec, e)) > 0) {
        if (stream_write(cfg->out, &rec, e))
            return -1;
        cfg->taken++;
    }
    return got < 0 ? -1 : 0;
}

static int join(Config *cfg, Err *e)
{
    const int n = inputs_count(&cfg->c);
    const StreamOptions how = stream_options(&cfg->c);
    Record header = {0};
    StreamIn **in = calloc((size_t)n, sizeof *in);
    if (!in)
        return err_set(e, "out of memory");
    int failed = merge_headers(&header, in, &cfg->c, e) || stream_create(&cfg->out, cfg->c.output, &header, &how, e);
    for (int i = 0; i < n && !failed; i++) {
        failed = (!in[i] && stream_open(&in[i], inputs_name(&cfg->c, i), e)) || copy_records(cfg, in[i], e);
        if (i > 0) {                                    /* the first holds the header's tensors */
            stream_close(in[i]);
            in[i] = NULL;
        }
    }
    failed = failed || stream_finish(cfg->out, e);
    stream_abandon(cfg->out);
    for (int i = 0; i < n; i++)
        stream_close(in[i]);
    free(in);
    json_decref(header.fields);
    return failed;
}

int tstream_cat(int argc, char **argv)
{
    Config cfg = {.count = -1};
    Err e = {0};
    cli_parse(&cat_cli, &cfg, argc, argv);
    return join(&cfg, &e) ? cli_report(&cat_cli, &e) : 0;
}

int tstream_head(int argc, char **argv)
{
    Config cfg = {0};
    Err e = {0};
    cli_parse(&head_cli, &cfg, argc, argv);
    if (cfg.count < 0)
        cli_misuse(&head_cli, "--records: '%lld' is negative", (long long)cfg.count);
    return join(&cfg, &e) ? cli_report(&head_cli, &e) : 0;
}
