/* SPDX-License-Identifier: MIT */
/* tstream.h -- the subcommands of tstream, and what they share. */
#ifndef SRC_CLI_TSTREAM_H
#define SRC_CLI_TSTREAM_H

#include <stdbool.h>
#include <stdio.h>
#include "formats/stream.h"
#include "formats/text_out.h"
#include "src/cli/cli.h"

typedef struct Subcommand {
    const char *name;
    int (*run)(int argc, char **argv);              /* argv[0] is the subcommand's name; returns the exit status */
} Subcommand;

int tstream_info(int argc, char **argv);
int tstream_head(int argc, char **argv);
int tstream_view(int argc, char **argv);
int tstream_stat(int argc, char **argv);
int tstream_check(int argc, char **argv);
int tstream_cat(int argc, char **argv);
int tstream_split(int argc, char **argv);
int tstream_to_npy(int argc, char **argv);
int tstream_to_png(int argc, char **argv);
int tstream_shuffle(int argc, char **argv);
int tstream_index(int argc, char **argv);
int tstream_text(int argc, char **argv);

/* --range A-B: which records of the inputs, counted through from 1, are taken. All zero: every one. */
typedef struct Range {
    int64_t skip;               /* records still to be passed over */
    bool limited;
    int64_t limit;              /* how many are still to be taken, where limited */
} Range;
#define RANGE_OPTION \
    {'r', "range", OPT_STR, offsetof(Config, range), NULL, \
     "A-B  records A to B of the inputs, A- to the last, A alone; where a file has an index (tstream index), what " \
     "comes before is not read", 0}
Range range_parse(const Cli *cli, const char *text);        /* NULL: all; what is no range is misuse */
static inline bool range_done(const Range *left)
{
    return left->limited && left->limit == 0;
}
/* stream_next, but for records that are not in the range. */
int range_next(Range *left, StreamIn *in, Record *rec, Err *e);

/* Calls on_record for each record of each input, in order, until it returns non-zero: 1 stops quietly, -1 with an
 * error. on_open, where not NULL, is called with each input first; later inputs' headers must agree with the first's
 * unless mixed. */
typedef struct Walk {
    int (*on_open)(void *context, StreamIn *in, Err *e);
    int (*on_record)(void *context, StreamIn *in, const Record *rec, Err *e);
    void *context;
    bool mixed;
    Range range;
} Walk;
int walk(const Walk *w, const Common *c, Err *e);

/* Makes one stream of the inputs: on_header gets their headers merged (they must agree in all but the provenance, which
 * is provenance_join's), then on_record each record in order. Both return 0 or -1. */
typedef struct Join {
    int (*on_header)(void *context, const Record *header, Err *e);
    int (*on_record)(void *context, StreamIn *in, const Record *rec, Err *e);
    void *context;
    Range range;
    bool sorted;                /* whatever the order of the inputs is, the header is one */
} Join;
int join(const Join *j, const Common *c, Err *e);
/* The inputs, or a range of their records, as one stream to -o. */
int join_write(const Common *c, StreamOptions how, Range range, Err *e);

#define INDEX_OPTION \
    {0, "index", OPT_FLAG, offsetof(Config, index), NULL, "close the stream with an index, as tstream index does", \
     OPT_NEUTRAL}
void index_check(const Cli *cli, int index, const Common *c);       /* with --no-compress it is misuse */
/* One text of a comma-separated list at a time: advances *list, returns false at its end. */
bool list_next(const char **list, char *item, size_t size);
/* Of a list of fields, as --tsv and --by have it, those that records have: a field that none has is a note at the end,
 * for single records may lack one. Zeroed before the first; of the first 64 fields. */
typedef struct FieldsSeen {
    uint64_t seen;
    long long records;
} FieldsSeen;
void fields_see(FieldsSeen *s, const char *list, const Record *rec);
void fields_note(const FieldsSeen *s, const char *list, const Cli *cli);

/* A path for a record: {field} in name stands for that field's value. No value can lead out of the folder: '/' makes
 * subfolders, empty and "." parts are dropped, ".." and control characters become '_'. A missing field is an error. */
int record_path(char *path, size_t size, const char *folder, const char *name, const char *suffix, const StreamIn *in,
                const Record *rec, Err *e);

#endif
