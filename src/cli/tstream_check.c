/* SPDX-License-Identifier: MIT */
/* tstream_check.c -- tstream check: reads everything and says which inputs are damaged. */
#include <stdlib.h>
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
    "Checks checksums, every record's form, the counts of the end records and, in joined streams, that headers agree. "
    "Says one "
    "line on stderr for each damaged input, nothing for a good one (-v: a line for each), and exits 1 when any is "
    "damaged.",
    "tstream check *.mpk.zst\n"
    "tstream check --finite -v acts.mpk.zst"};

typedef struct Room { float *data; size_t count; } Room;

static int check_finite(StreamIn *in, const Record *rec, Room *room, Err *e)
{
    for (int i = 0; i < rec->tensors; i++) {
        const StreamTensor *t = &rec->tensor[i];
        if (tensor_count(t) > room->count) {
            free(room->data);
            room->count = tensor_count(t);
            if (!(room->data = malloc(room->count * sizeof *room->data))) {
                room->count = 0;
                return err_set(e, "%s: out of memory", stream_name(in));
            }
        }
        if ((tensor_is_float(t) || t->type == F64)
            && stream_floats(in, rec, t, room->data, e))
            return -1;
    }
    return 0;
}

/* Returns the number of records, -1 on error. */
static long check_input(const char *name, bool finite, Room *room, Err *e)
{
    StreamIn *in;
    Record rec;
    long records = 0;
    int got = stream_open(&in, name, e);
    if (got == 0)
        while ((got = stream_next(in, &rec, e)) > 0 && !(finite && check_finite(in, &rec, room, e)))
            records++;
    stream_close(in);
    return got == 0 ? records : -1;
}

int tstream_check(int argc, char **argv)
{
    Config cfg = {0};
    Room room = {0};
    int status = 0;
    cli_parse(&cli, &cfg, argc, argv);
    for (int i = 0; i < inputs_count(&cfg.c); i++) {
        Err e = {0};
        const long records = check_input(inputs_name(&cfg.c, i), cfg.finite, &room, &e);
        if (records < 0) {
            status = 1;
            if (!cfg.c.quiet)
                cli_report(&cli, &e);
        } else if (cfg.c.verbose) {
            cli_note(&cli, "%s: ok, %ld records", inputs_name(&cfg.c, i), records);
        }
    }
    free(room.data);
    return status;
}
