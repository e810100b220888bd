/* SPDX-License-Identifier: MIT */
/* tstream_shuffle.c -- tstream shuffle: the records of streams in a random order.
 *
 *     key = MurmurHash3 (murmur.h) of a record's msgpack bytes as written here, begun with the seed
 *
 * Records go by their keys. A key depends on the seed and on what the record holds, so that the same records in another
 * order, from other shards, come out as the same bytes; what two records of one key hold is the same, and their order
 * does not matter. */
#include <stdlib.h>
#include <string.h>
#include "formats/murmur.h"
#include "formats/pack.h"
#include "formats/sorter.h"
#include "src/cli/tstream.h"

static const int64_t LEAST_MEMORY = 1000000;

typedef struct Config {
    Common c;
    int64_t memory;
    int index;
    Sorter *sorter;
    Bytes packed;               /* room for one record */
    StreamOut *out;
    Progress *progress;
    long records;
} Config;

static const Opt options[] = {
    {0, "seed", OPT_INT, offsetof(Common, seed), "0", "N  another number, another order", 0},
    {0, "memory", OPT_INT, offsetof(Config, memory), "1G",
     "SIZE  bytes of records that are held in memory, 1M or more; the order does not depend on it. What does not fit "
     "is set aside on disk: as many bytes as the stream has decompressed, in $TMPDIR, else beside the output",
     OPT_NEUTRAL},
    INDEX_OPTION, STREAM_OPTIONS, COMMON_OPTIONS, {0}};

static const Cli cli = {
    "tstream shuffle", "The records of tensor streams in a random order.", options, "[FILE]...",
    "The order depends on --seed and on the records alone: not on --memory, not on the order in which they come nor "
    "on how they are split into FILEs, whose headers must agree as for tstream cat. The header's provenance has "
    "the steps of all, where these differ sorted by their JSON, and then this one.\n\n"
    "Memory: --memory, the largest record, and some MB. Where the records do not fit into it they are set aside, "
    "sorted, in one file without a name in $TMPDIR, else in the folder of the output, else in /var/tmp. It takes as "
    "many bytes as the stream has when it is decompressed, gives them back as the output is written, and is gone "
    "with the program, however that ends. Each record is written and read there once where --memory is not too "
    "small (8M for 1 GB, 256M for 1 TB), else again.",
    "tstream shuffle acts.mpk.zst -o mixed.mpk.zst\n"
    "# shards to one mixed stream, in another order than with another seed\n"
    "TMPDIR=/var/tmp tstream shuffle --seed 2 --memory 500M shard-*.mpk.zst -o mixed.mpk.zst\n"
    "# mixed by record here, by token in the buffer of sae-fit\n"
    "tstream shuffle --no-compress acts.mpk.zst | sae-fit -o sae"};

static SortKey key_of(const uint8_t *p, size_t n, uint64_t seed)
{
    const Murmur m = murmur(p, n, seed);
    return (SortKey){m.a, m.b};
}

/* Beside the output, unless TMPDIR says where; both file systems have room for much. */
static int create_sorter(Config *cfg, Err *e)
{
    const char *named = getenv("TMPDIR"), *slash = strrchr(cfg->c.output, '/');
    char *folder = named && *named ? strdup(named)
                 : strcmp(cfg->c.output, "-") == 0 ? strdup("/var/tmp")
                 : slash ? strndup(cfg->c.output, (size_t)(slash - cfg->c.output) + 1)
                 : strdup(".");
    const int failed = folder ? sorter_create(&cfg->sorter, (size_t)cfg->memory, folder, e)
                              : err_set(e, "out of memory");
    free(folder);
    return failed;
}

static int on_header(void *context, const Record *merged, Err *e)
{
    Config *cfg = context;
    StreamOptions how = cli_stream_options(&cfg->c);
    how.index = cfg->index;
    Record header = *merged;
    header.fields = json_deep_copy(merged->fields);
    json_t *steps = json_object_get(header.fields, "provenance");
    if (!json_is_array(steps)) {
        steps = json_array();
        json_object_set_new(header.fields, "provenance", steps);
    }
    json_array_append_new(steps, cli_provenance(&cli));
    const int failed = stream_create(&cfg->out, cfg->c.output, &header, &how, e) || create_sorter(cfg, e);
    json_decref(header.fields);
    cfg->progress = progress_start(&cli, "records read", -1);
    return failed;
}

static int on_record(void *context, StreamIn *in, const Record *rec, Err *e)
{
    Config *cfg = context;
    Bytes *b = &cfg->packed;
    b->size = 0;
    if (stream_pack(b, rec, stream_name(in), e))
        return -1;
    progress_set(cfg->progress, ++cfg->records);
    return sorter_add(cfg->sorter, key_of(b->data, b->size, (uint64_t)cfg->c.seed), b->data, b->size, e);
}

static int write_all(Config *cfg, Err *e)
{
    const void *packed;
    size_t bytes;
    int got;
    long records = 0;
    progress_end(cfg->progress);
    cfg->progress = progress_start(&cli, "records written", cfg->records);
    while ((got = sorter_next(cfg->sorter, &packed, &bytes, e)) > 0) {
        if (stream_write_packed(cfg->out, packed, bytes, e))
            return -1;
        progress_set(cfg->progress, ++records);
    }
    return got < 0 ? -1 : stream_finish(cfg->out, e);
}

int tstream_shuffle(int argc, char **argv)
{
    Config cfg = {0};
    Err e = {0};
    cli_parse(&cli, &cfg, argc, argv);
    if (cfg.memory < LEAST_MEMORY)
        cli_misuse(&cli, "--memory: '%lld' is less than 1M", (long long)cfg.memory);
    index_check(&cli, cfg.index, &cfg.c);
    const Join j = {.on_header = on_header, .on_record = on_record, .context = &cfg, .sorted = true};
    const int failed = join(&j, &cfg.c, &e) || write_all(&cfg, &e);
    progress_end(cfg.progress);
    stream_abandon(cfg.out);
    sorter_free(cfg.sorter);
    free(cfg.packed.data);
    return failed ? cli_report(&cli, &e) : 0;
}
