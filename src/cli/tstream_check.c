/* SPDX-License-Identifier: MIT */
/* tstream_check.c -- tstream check: reads everything and says which inputs are damaged. */
#include "src/cli/tstream.h"

typedef struct Config {
    Common c;
    int finite;
} Config;

static const Opt options[] = {
    COMMON_OPTIONS,
    {0, "finite", OPT_FLAG, offsetof(Config, finite), NULL, "NaN and infinity in a tensor are damage too", 0},
    {0}};

static const Cli cli = {
    "tstream check", "Read tensor streams whole and say which are damaged.", options, "[FILE]...",
    "Checks checksums, every record's form, the counts of the end records, that headers agree in joined streams, "
    "and that an index says of every frame what is so. Says one line on stderr for each damaged input, nothing for "
    "a good one (-v: a line for each; -q: for none), and exits 1 when any is damaged.",
    "tstream check *.mpk.zst\n"
    "tstream check --finite -v acts.mpk.zst"};

static int check_finite(const StreamIn *in, const Record *rec, Err *e)
{
    int failed = 0;
    for (int i = 0; i < rec->tensors && !failed; i++)
        failed = stream_finite(in, rec, &rec->tensor[i], e);
    return failed;
}

/* Returns the number of records, -1 on error. */
static long check_input(const char *name, bool finite, Err *e)
{
    StreamIn *in;
    Record rec;
    long records = 0;
    int got = stream_open_checked(&in, name, e);
    if (got == 0)
        while ((got = stream_next(in, &rec, e)) > 0 && !(finite && check_finite(in, &rec, e)))
            records++;
    stream_close(in);
    return got == 0 ? records : -1;
}

int tstream_check(int argc, char **argv)
{
    Config cfg = {0};
    int status = 0;
    cli_parse(&cli, &cfg, argc, argv);
    for (int i = 0; i < cli_input_count(&cfg.c); i++) {
        Err e = {0};
        const long records = check_input(cli_input(&cfg.c, i), cfg.finite, &e);
        if (records < 0) {
            status = 1;
            if (!cfg.c.quiet)
                cli_report(&cli, &e);
        } else if (cfg.c.verbose) {
            cli_note(&cli, "%s: ok, %ld records", cli_input(&cfg.c, i), records);
        }
    }
    return status;
}
