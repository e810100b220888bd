/* SPDX-License-Identifier: MIT */
/* tstream_split.c -- tstream split: one stream into several files, each whole in itself. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "src/cli/tstream.h"

enum { MAX_OPEN = 1000, WITH_THREADS = 4 };         /* parts at once; those that compress in threads of their own */

typedef struct Part {
    StreamOut *out;
    char *value;                /* of the field, for --by */
} Part;

typedef struct Config {
    Common c;
    int64_t records, parts;
    const char *by, *prefix;
    StreamIn *first;            /* whose header is written */
    Part *part;
    int count;                  /* parts so far */
    bool there;                 /* a record has the field of --by */
    int64_t in_part, total;
} Config;

static const Opt options[] = {
    {'n', "records", OPT_INT, offsetof(Config, records), NULL, "N  a new part after each N records", 0},
    {0, "parts", OPT_INT, offsetof(Config, parts), NULL, "N  deal the records out to N parts in turn", 0},
    {'b', "by", OPT_STR, offsetof(Config, by), NULL,
     "FIELD  one part for each value of this field; records without it go to PREFIX-%", 0},
    {'p', "prefix", OPT_STR, offsetof(Config, prefix), "part",
     "PREFIX  parts are PREFIX-00.mpk.zst, PREFIX-01...; with --by PREFIX-VALUE", 0},
    {0, "no-compress", OPT_FLAG, offsetof(Common, no_compress), NULL, "write plain msgpack; parts are then named *.mpk",
     OPT_NEUTRAL},
    {0, "level", OPT_INT, offsetof(Common, level), "1", "N  zstd level of the output, 1 to 19", OPT_NEUTRAL},
    COMMON_OPTIONS, {0}};

static const Cli cli = {
    "tstream split", "Split a tensor stream into several files.", options, "[FILE]...",
    "Each part has the header of the whole. Parts made with --records, joined again by tstream cat, give the whole "
    "byte for byte. In a VALUE, characters other than letters, digits, '.', '_' and '-' are written as %XX. Memory: "
    "some MB for each part that is open at once, one with --records, all of them, at most 1000, otherwise.",
    "tstream split -n 1000 -p shard all.mpk.zst\n"
    "tstream split --by concept -p concept acts.mpk.zst"};

static int part_open(Config *cfg, const char *value, Err *e)
{
    char path[4096], name[1024];
    size_t used = 0;
    if (value)
        for (const char *p = value; *p && used + 4 < sizeof name; p++)
            used += (size_t)snprintf(name + used, sizeof name - used,
                                     isalnum((unsigned char)*p) || (strchr("._-", *p) && p != value) ? "%c" : "%%%02X",
                                     (unsigned char)*p);
    else
        snprintf(name, sizeof name, "%02d", cfg->count);
    if (value && !used)
        strcpy(name, "%");                              /* an empty value: no other value makes this name */
    Part *more = realloc(cfg->part, sizeof *more * ((size_t)cfg->count + 1));
    if (!more)
        return err_set(e, "out of memory");
    cfg->part = more;
    Part *part = &cfg->part[cfg->count];
    *part = (Part){.value = value ? strdup(value) : NULL};
    if (value && !part->value)
        return err_set(e, "out of memory");
    if (snprintf(path, sizeof path, "%s-%s.mpk%s", cfg->prefix, name, cfg->c.no_compress ? ""
                 : ".zst") >= (int)sizeof path)
        return err_set(e, "%s: the path of a part is too long", cfg->prefix);
    StreamOptions how = cli_stream_options(&cfg->c);
    if ((cfg->by || cfg->parts) && cfg->count >= WITH_THREADS)
        how.threads = 1;
    cfg->count++;
    return stream_create(&part->out, path, stream_header(cfg->first), &how, e);
}

static int part_close(Part *part, Err *e)
{
    const int failed = stream_finish(part->out, e);
    stream_abandon(part->out);
    part->out = NULL;
    return failed;
}

/* The part of a record with --by. NULL: error */
static Part *part_by_value(Config *cfg, StreamIn *in, const Record *rec, Err *e)
{
    char *value = record_label(rec->fields, cfg->by);
    if (!value) {
        err_set(e, "out of memory");
        return NULL;
    }
    cfg->there |= *value != 0;
    int i = 0;
    while (i < cfg->count && strcmp(cfg->part[i].value, value) != 0)
        i++;
    int failed = 0;
    if (i == cfg->count && i == MAX_OPEN)
        failed = err_set(e, "%s: record %ld: field %s has more than %d values", stream_name(in), rec->number, cfg->by,
                         MAX_OPEN);
    else if (i == cfg->count)
        failed = part_open(cfg, value, e);
    free(value);
    return failed ? NULL : &cfg->part[i];
}

static int on_open(void *context, StreamIn *in, Err *e)
{
    Config *cfg = context;
    int failed = 0;
    if (!cfg->first) {
        cfg->first = in;                                /* walk keeps the first input open */
        const int64_t at_once = cfg->parts ? cfg->parts : cfg->by ? 0 : 1;
        for (int64_t i = 0; i < at_once && !failed; i++)
            failed = part_open(cfg, NULL, e);
    }
    return failed;
}

static int on_record(void *context, StreamIn *in, const Record *rec, Err *e)
{
    Config *cfg = context;
    Part *part;
    if (cfg->by) {
        if (!(part = part_by_value(cfg, in, rec, e)))
            return -1;
    } else if (cfg->parts) {
        part = &cfg->part[cfg->total % cfg->parts];
    } else {
        if (cfg->in_part == cfg->records) {
            if (part_close(&cfg->part[cfg->count - 1], e) || part_open(cfg, NULL, e))
                return -1;
            cfg->in_part = 0;
        }
        part = &cfg->part[cfg->count - 1];
    }
    cfg->in_part++;
    cfg->total++;
    return stream_write(part->out, rec, e);
}

int tstream_split(int argc, char **argv)
{
    Config cfg = {0};
    Err e = {0};
    cli_parse(&cli, &cfg, argc, argv);
    if ((cfg.records > 0) + (cfg.parts > 0) + (cfg.by != NULL) != 1 || cfg.records < 0 || cfg.parts < 0)
        cli_misuse(&cli, "needs one of --records N, --parts N and --by FIELD, N at least 1");
    if (cfg.parts > MAX_OPEN)
        cli_misuse(&cli, "--parts: '%lld' is over %d", (long long)cfg.parts, MAX_OPEN);
    const Walk w = {.on_open = on_open, .on_record = on_record, .context = &cfg};
    int failed = walk(&w, &cfg.c, &e);
    if (!failed && cfg.by && cfg.total && !cfg.there)
        failed = err_set(&e, "no record has a field %s to split by", cfg.by);
    for (int i = 0; i < cfg.count; i++) {
        if (!failed && cfg.part[i].out)
            failed = part_close(&cfg.part[i], &e);
        stream_abandon(cfg.part[i].out);
        free(cfg.part[i].value);
    }
    free(cfg.part);
    return failed ? cli_report(&cli, &e) : 0;
}
