/* SPDX-License-Identifier: MIT */
/* tstream_cat.c -- tstream cat and head: records of streams as one stream, framed anew, the header as it was.
 *
 * Selecting and joining is no step of the work, so the provenance stays: shards joined again are, byte for byte, the
 * stream that one run would have written. */
#include "src/cli/tstream.h"

typedef struct Config {
    Common c;
    int64_t count;              /* head: records to take */
    const char *range;          /* cat */
    int index;
} Config;

static const Opt cat_options[] = {RANGE_OPTION, INDEX_OPTION, STREAM_OPTIONS, COMMON_OPTIONS, {0}};
static const Opt head_options[] = {
    {'n', "records", OPT_INT, offsetof(Config, count), "10", "N  records to take", 0},
    STREAM_OPTIONS, COMMON_OPTIONS, {0}};

static const Cli cat_cli = {
    "tstream cat", "Join tensor streams to one.", cat_options, "[FILE]...",
    "The headers must agree in all but provenance; where that differs, the steps that only later inputs have are "
    "appended. Memory is that of the largest record.",
    "tstream cat shard-*.mpk.zst > all.mpk.zst\n"
    "tstream cat --range 1001-2000 acts.mpk.zst > some.mpk.zst\n"
    "tstream cat --no-compress acts.mpk.zst | sae-fit -o sae"};

static const Cli head_cli = {
    "tstream head", "The first records of a tensor stream, as a stream.", head_options, "[FILE]...",
    "Takes N records of the inputs as they follow each other, and reads no further.",
    "tstream head -n 10 acts.mpk.zst | tstream view"};

static int run(const Cli *cli, const Config *cfg, Range range)
{
    Err e = {0};
    StreamOptions how = cli_stream_options(&cfg->c);
    how.index = cfg->index;
    return join_write(&cfg->c, how, range, &e) ? cli_report(cli, &e) : 0;
}

int tstream_cat(int argc, char **argv)
{
    Config cfg = {0};
    cli_parse(&cat_cli, &cfg, argc, argv);
    index_check(&cat_cli, cfg.index, &cfg.c);
    return run(&cat_cli, &cfg, range_parse(&cat_cli, cfg.range));
}

int tstream_head(int argc, char **argv)
{
    Config cfg = {0};
    cli_parse(&head_cli, &cfg, argc, argv);
    if (cfg.count < 0)
        cli_misuse(&head_cli, "--records: '%lld' is negative", (long long)cfg.count);
    return run(&head_cli, &cfg, (Range){.limited = true, .limit = cfg.count});
}
