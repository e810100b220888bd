/* SPDX-License-Identifier: MIT */
/* tstream_index.c -- tstream index: closes a stream with an index, by which records are reached without reading what
 * comes before; lists where records lie; shares them out.
 *
 * A file's frames are copied as they are where a record begins at the beginning of each, as these programs write them.
 * It is read whole first: an index is made of what was decompressed and checked. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "formats/aside.h"
#include "formats/fdio.h"
#include "formats/seek_table.h"
#include "src/cli/tstream.h"

enum { COPY = 1 << 20 };

typedef struct Config {
    Common c;
    const char *range;
    int in_place, list, json;
    int64_t parts;
} Config;

static const Opt options[] = {
    {'i', "in-place", OPT_FLAG, offsetof(Config, in_place), NULL,
     "append an index to each FILE that has none; nothing else of it is written", 0},
    {'l', "list", OPT_FLAG, offsetof(Config, list), NULL,
     "print where each record lies: its number, the byte of the file at which its frame begins, its first byte in what "
     "the frame holds, its bytes", 0},
    {'j', "json", OPT_FLAG, offsetof(Config, json), NULL, "with --list: a JSON object a line", 0},
    {'p', "parts", OPT_INT, offsetof(Config, parts), NULL,
     "N  print N ranges of about as many records each, a line each, for --range and parallel", 0},
    RANGE_OPTION, OUTPUT_OPTIONS,
    {0, "level", OPT_INT, offsetof(Common, level), "1", "N  zstd level of what is compressed anew, 1 to 19",
     OPT_NEUTRAL},
    COMMON_OPTIONS, {0}};

static const Cli cli = {
    "tstream index", "Close a tensor stream with an index of its records.", options, "[FILE]...",
    "The index is a seek table in zstd's seekable format, and before it a list of the records that begin in each "
    "frame. It takes about 20 bytes a frame (1 MiB of tensors). An indexed file is a stream as before, to every "
    "reader; cat(1) of indexed files is one too, and is still reached into by all their indexes.\n\n"
    "The frames of one FILE are copied as they are, without an index that was there, where each begins with a record "
    "and none of over 64 MiB holds several, as in all that these programs write. Others, several FILEs and standard "
    "input are framed and compressed anew, as by tstream cat. FILE may be the output as well. --in-place writes the "
    "index only, behind all else, and takes it back where that fails: for files that are too large to be copied.\n\n"
    "What --range of cat, view, stat, to-npy and to-png takes is found by the index, and by reading through where "
    "there is none. A damaged index is an error there, and for tstream check; whoever reads a stream through passes "
    "over it. Memory: some 60 bytes a frame.",
    "tstream index acts.mpk.zst -o indexed.mpk.zst\n"
    "tstream view --range 1001-1010 indexed.mpk.zst\n"
    "# the same without a copy\n"
    "tstream index --in-place acts.mpk.zst\n"
    "# one large file, encoded by four jobs at once\n"
    "tstream index --parts 4 acts.mpk.zst |\n"
    "    parallel 'tstream cat --range {} acts.mpk.zst | sae-encode --sae sae -o features-{#}.mpk.zst'\n"
    "# where record 7 lies\n"
    "tstream index --list --range 7 acts.mpk.zst"};

static bool is_file(const char *name)
{
    struct stat st;
    return strcmp(name, "-") != 0 && stat(name, &st) == 0 && S_ISREG(st.st_mode);
}

/* Reads all, for its frames. in is closed, and with it the threads that a signal could reach. */
static int read_places(StreamIn *in, SeekTable *t, Err *e)
{
    Record rec;
    int got;
    while ((got = stream_next(in, &rec, e)) > 0) {}
    stream_take_places(in, t);
    stream_close(in);
    return got;
}

/* What keeps a file from being indexed as it is, or NULL. */
static const char *unfit(const SeekTable *t)
{
    return t->count == 0 ? "it is not compressed" : seek_table_unfit(t);
}

/* ---- a copy with an index ---- */

static int copy_bytes(int from, const SeekFrame *f, const char *name, int to, const char *to_name, uint8_t *room,
                      Err *e)
{
    for (uint64_t done = 0; done < f->packed;) {
        const uint64_t left = f->packed - done;
        const size_t n = left < COPY ? (size_t)left : COPY;
        if (fd_read_at(from, room, n, f->at + done))
            return err_set(e, "%s: reading: %s", name, errno ? strerror(errno) : "the file became shorter");
        if (fd_write(to, to_name, room, n, e))
            return -1;
        done += n;
    }
    return 0;
}

/* All frames but those of an index, then the index of what was copied. */
static int copy_frames(const char *name, const SeekTable *t, int to, const char *to_name, Err *e)
{
    SeekTable kept = {.records = t->records};
    Bytes index = {0};
    if (fd_refuse_terminal(to, to_name, "binary data is", e))
        return -1;
    uint8_t *room = malloc(COPY);
    const int from = open(name, O_RDONLY | O_CLOEXEC);
    int failed = from < 0 ? err_set(e, "%s: %s", name, strerror(errno)) : room ? 0 : err_set(e, "out of memory");
    for (size_t i = 0; i < t->count && !failed; i++) {
        if (seek_table_owns(from, &t->frame[i]))
            continue;
        SeekFrame *f = seek_table_add(&kept);
        if (f)
            *f = t->frame[i];
        failed = !f ? err_set(e, "out of memory") : copy_bytes(from, f, name, to, to_name, room, e);
    }
    failed = failed || seek_table_pack(&kept, &index, to_name, e) || fd_write(to, to_name, index.data, index.size, e);
    if (from >= 0)
        close(from);
    seek_table_clear(&kept);
    free(index.data);
    free(room);
    return failed;
}

static int write_copy(const Config *cfg, const SeekTable *t, Err *e)
{
    const char *name = cli_input(&cfg->c, 0);
    if (strcmp(cfg->c.output, "-") == 0) {
        return copy_frames(name, t, STDOUT_FILENO, "standard output", e)
            || fd_settle(STDOUT_FILENO, "standard output", e) ? -1 : 0;
    }
    Aside *out = aside_open(cfg->c.output, e);
    if (!out)
        return -1;
    if (copy_frames(name, t, aside_fd(out), cfg->c.output, e) == 0)
        return aside_commit(out, true, e);
    aside_abandon(out);
    return -1;
}

static int write_anew(const Config *cfg, Err *e)
{
    return join_write(&cfg->c, (StreamOptions){.level = (int)cfg->c.level, .index = true}, (Range){0}, e);
}

static int write_indexed(const Config *cfg, Err *e)
{
    StreamIn *in;
    SeekTable t = {0};
    const char *name = cli_input(&cfg->c, 0);
    if (cli_input_count(&cfg->c) > 1 || !is_file(name))
        return write_anew(cfg, e);
    int failed = stream_open_places(&in, name, e) || read_places(in, &t, e);
    if (!failed && unfit(&t)) {
        if (cfg->c.verbose)
            cli_note(&cli, "%s: is framed anew: %s", name, unfit(&t));
        failed = write_anew(cfg, e);
    } else if (!failed) {
        failed = write_copy(cfg, &t, e);
    }
    seek_table_clear(&t);
    return failed;
}

/* ---- in place ---- */

/* A signal waits until the index is there or gone again. */
static int append(const char *name, const SeekTable *t, Err *e)
{
    const SeekFrame *last = &t->frame[t->count - 1];
    struct stat st;
    sigset_t all, before;
    Bytes index = {0};
    Err why = {0};
    const int fd = open(name, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        err_set(e, "%s: cannot be written: %s", name, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    int failed = (uint64_t)st.st_size != last->at + last->packed;
    if (failed)
        err_set(e, "%s: was written to while it was read", name);
    failed = failed || seek_table_pack(t, &index, name, e);
    if (!failed && (fd_write(fd, name, index.data, index.size, &why) || fsync(fd))) {
        const int reason = errno;
        if (ftruncate(fd, st.st_size))
            failed = err_set(e, "%s: writing: %s; it is damaged: cut it to its first %lld bytes", name,
                             strerror(reason), (long long)st.st_size);
        else
            failed = err_set(e, "%s: writing: %s", name, strerror(reason));
    }
    close(fd);
    free(index.data);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return failed;
}

static int index_in_place(const Config *cfg, const char *name, Err *e)
{
    StreamIn *in;
    const SeekTable *had;
    SeekTable t = {0};
    Err damage = {0};
    if (!is_file(name))
        return err_set(e, "%s: is no file", name);
    if (stream_open_places(&in, name, e))
        return -1;
    if (stream_index(in, &had, &damage) > 0) {          /* a damaged one is passed over, and stays */
        if (cfg->c.verbose)
            cli_note(&cli, "%s: has an index", name);
        stream_close(in);
        return 0;
    }
    int failed = read_places(in, &t, e);
    if (!failed)
        failed = unfit(&t) ? err_set(e, "%s: cannot be indexed as it is: %s (tstream index -o writes it anew)", name,
                                     unfit(&t))
                           : append(name, &t, e);
    seek_table_clear(&t);
    return failed;
}

/* ---- lists ---- */

static int list(const Config *cfg, Err *e)
{
    StreamIn *in;
    Record rec;
    Range left = range_parse(&cli, cfg->range);
    int got = 0;
    if (stream_open_places(&in, cli_input(&cfg->c, 0), e))
        return -1;
    if (!cfg->json)
        puts("record\tframe\toffset\tbytes");
    while (!stdout_check(e) && (got = range_next(&left, in, &rec, e)) > 0) {
        const StreamPlace p = stream_place(in);
        printf(cfg->json ? "{\"record\":%ld,\"frame\":%lld,\"offset\":%lld,\"bytes\":%lld}\n"
                         : "%ld\t%lld\t%lld\t%lld\n",
               rec.number, p.frame, p.offset, p.bytes);
    }
    stream_close(in);
    return got < 0 || stdout_flush(e) ? -1 : 0;
}

static int share_out(const Config *cfg, Err *e)
{
    StreamIn *in;
    Record rec;
    const SeekTable *t;
    int64_t records = 0;
    if (stream_open(&in, cli_input(&cfg->c, 0), e))
        return -1;
    int got = stream_index(in, &t, e);
    if (got > 0)
        records = (int64_t)t->records;
    else if (got == 0)
        while ((got = stream_next(in, &rec, e)) > 0)
            records++;
    stream_close(in);
    if (got < 0)
        return -1;
    const int64_t N = cfg->parts < records ? cfg->parts : records, each = N ? records/N : 0, more = N ? records%N : 0;
    for (int64_t part = 0, first = 1; part < N && !stdout_check(e); part++) {
        const int64_t next = first + each + (part < more);
        printf("%lld-%lld\n", (long long)first, (long long)next - 1);
        first = next;
    }
    return stdout_flush(e);
}

int tstream_index(int argc, char **argv)
{
    Config cfg = {0};
    Err e = {0};
    cli_parse(&cli, &cfg, argc, argv);
    const int count = cli_input_count(&cfg.c);
    if (cfg.in_place + cfg.list + (cfg.parts != 0) > 1)
        cli_misuse(&cli, "--in-place, --list and --parts are three things to do; choose one");
    if (cfg.parts < 0)
        cli_misuse(&cli, "--parts: '%lld' is negative", (long long)cfg.parts);
    if ((cfg.range || cfg.json) && !cfg.list)
        cli_misuse(&cli, "--%s is for --list", cfg.range ? "range" : "json");
    if (cfg.in_place && cfg.c.inputs.count == 0)
        cli_misuse(&cli, "--in-place needs a FILE");
    if (cfg.in_place && strcmp(cfg.c.output, "-") != 0)
        cli_misuse(&cli, "--in-place has no other output");
    if ((cfg.list || cfg.parts) && count > 1)
        cli_misuse(&cli, "--list and --parts take one FILE");
    int failed = 0;
    for (int i = 0; cfg.in_place && i < count && !failed; i++)
        failed = index_in_place(&cfg, cli_input(&cfg.c, i), &e);
    if (!cfg.in_place)
        failed = cfg.list ? list(&cfg, &e) : cfg.parts ? share_out(&cfg, &e) : write_indexed(&cfg, &e);
    return failed ? cli_report(&cli, &e) : 0;
}
