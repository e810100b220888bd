/* SPDX-License-Identifier: MIT */
/* cli.h -- one option table a program: parser, defaults, --help, manual page and provenance all come from it. */
#ifndef SRC_CLI_CLI_H
#define SRC_CLI_CLI_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "formats/stream.h"

typedef enum {
    OPT_END, OPT_FLAG,      /* int: 1 when given; --no-NAME sets 0 */
    OPT_INT,                /* int64_t; suffixes K M G (powers of ten) and Ki Mi Gi; parsed whole */
    OPT_NUMBER,             /* double */
    OPT_STR,                /* const char * */
    OPT_LIST                /* List: the option may come again, each adds a value */
} OptType;

typedef struct List { const char **items; int count; } List;

enum { OPT_NEUTRAL = 1,     /* what comes out is the same whatever its value: left out of the provenance */
       OPT_REQUIRED = 2, OPT_HIDDEN = 4 };

typedef struct Opt {
    char letter;            /* 0: none */
    const char *name;
    OptType type;
    size_t offset;          /* in the program's Config */
    const char *fallback;   /* default, parsed as if given; NULL: zero */
    const char *help;       /* "FILE  what it is"; a first word in capitals names the value; '|'-joined first word lists
                             * choices, and another value is misuse */
    int flags;
} Opt;

typedef struct Cli {
    const char *name;       /* sae-encode */
    const char *summary;    /* one sentence */
    const Opt *options;
    const char *operands;   /* "[FILE...]" and the like, NULL: none are taken */
    const char *about;      /* paragraphs of the manual page: what it reads, writes, keeps in memory */
    const char *examples;   /* lines that work when pasted, a comment line before each */
} Cli;

/* Options that every program has (-q, -v, --progress auto|on|off; --help, --version, --man are the parser's own), and
 * those of programs that compute. Embedded first in each Config as `Common c;`,
 * and in its table by COMMON_OPTIONS / COMPUTE_OPTIONS. */
typedef struct Common {
    int quiet, verbose;
    const char *progress;
    List inputs;                    /* operands; count 0 means stdin */
    const char *output;             /* -o, "-" by default */
    int no_compress;                /* --no-compress */
    int64_t level;                  /* --level, zstd's */
    const char *model, *backend, *dtype;
    int64_t threads, seed;
} Common;

#define COMMON_OPTIONS \
    {'q', "quiet", OPT_FLAG, offsetof(Common, quiet), NULL, "no progress, no notes on stderr", OPT_NEUTRAL}, \
    {'v', "verbose", OPT_FLAG, offsetof(Common, verbose), NULL, "say more on stderr", OPT_NEUTRAL}, \
    {0, "progress", OPT_STR, offsetof(Common, progress), "auto", \
     "auto|on|off  progress on stderr; auto: on a terminal", OPT_NEUTRAL}
#define OUTPUT_OPTIONS \
    {'o', "output", OPT_STR, offsetof(Common, output), "-", \
     "FILE  where the result goes; - is standard output", OPT_NEUTRAL}
#define STREAM_OPTIONS OUTPUT_OPTIONS, \
    {0, "no-compress", OPT_FLAG, offsetof(Common, no_compress), NULL, "write plain msgpack, for a local pipe", \
     OPT_NEUTRAL}, \
    {0, "level", OPT_INT, offsetof(Common, level), "1", "N  zstd level of the output, 1 to 19", OPT_NEUTRAL}
#define COMPUTE_OPTIONS \
    {0, "backend", OPT_STR, offsetof(Common, backend), "auto", "NAME  auto, cpu, cuda or cuda:N", 0}, \
    {'@', "threads", OPT_INT, offsetof(Common, threads), "0", "N  threads; 0: one a processor", OPT_NEUTRAL}
#define MODEL_OPTIONS \
    {'m', "model", OPT_STR, offsetof(Common, model), NULL, \
     "DIR  model folder in diffusers layout; default: the minisd that came with the program", OPT_NEUTRAL}, \
    {0, "dtype", OPT_STR, offsetof(Common, dtype), "f32", \
     "auto|f32|bf16|f16  type of the matrix products; auto: bf16 where the processor has it; f16, which is closer to " \
     "f32: on a GPU only", 0}

/* Fills cfg (the program's Config, whose first member is Common) from the table and argv. --help prints to stdout and
 * exits 0, --version too; misuse prints one line and a pointer to --help on stderr and exits 2. SIGPIPE is ignored from
 * here on (a closed pipe comes back as EPIPE), and whatever ends the program, an exit or a signal (SIGINT, SIGTERM,
 * those of a crash), half-written files are removed first. */
void cli_parse(const Cli *cli, void *cfg, int argc, char **argv);
/* Whether the command line has the option, be it with its default: for what would be ignored. */
bool cli_given(const Cli *cli, const char *name);
/* Misuse found after parsing: prints "NAME: reason" and exits 2. */
_Noreturn void cli_misuse(const Cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints "NAME: reason" unless e->closed; returns the exit status: 1, 2 for e->misuse, or 0 for a closed pipe
 * downstream. */
int cli_report(const Cli *cli, const Err *e);
/* A note on stderr, "NAME: text", unless -q. */
void cli_note(const Cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* This run for a stream's provenance: {program, version, arguments: ["--steps=25", ...]} with every option that is not
 * neutral, defaults included. The caller owns it. */
json_t *cli_provenance(const Cli *cli);
/* The inputs: the operands, or standard input alone. */
int cli_input_count(const Common *c);
const char *cli_input(const Common *c, int i);
StreamOptions cli_stream_options(const Common *c);          /* --level, --no-compress, --threads */
/* The folder of the embedded default model: $SDSTEER_DATA/minisd/model, else beside the program (bin/../data,
 * share/sdsteer). */
const char *cli_default_model(void);
const char *cli_data(void);                         /* the data folder itself */
/* Whether two names are one regular file, or the same. */
bool cli_same_file(const char *a, const char *b);
bool cli_listed(const List *files, const char *name);       /* one of them */
extern const char sdsteer_version[];

/* For programs that end cleanly when told to: from this call on the first SIGINT or SIGTERM only sets cli_stop to its
 * number; a second one removes half-written files and ends the program. */
void cli_catch_stop(void);
extern volatile sig_atomic_t cli_stop;

/* ---- progress: one line on stderr, rewritten; silent when not wanted ---- */
typedef struct Progress Progress;
/* what: "pictures"; total <= 0: unknown. */
Progress *progress_start(const Cli *cli, const char *what, long long total);
void progress_set(Progress *p, long long done);     /* cheap to call often: prints at most ten times a second */
/* Text after the rate. */
void progress_note(Progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void progress_end(Progress *p);                     /* clears the line; prints the summary when verbose. NULL is fine */

#endif
