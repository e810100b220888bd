/* SPDX-License-Identifier: MIT */
/* tstream.c -- looks at tensor streams, checks, cuts, joins, mixes and converts them: a table of subcommands. */
#include <string.h>
#include "src/cli/tstream.h"

static const Subcommand subcommands[] = {
    {"info", tstream_info}, {"head", tstream_head}, {"view", tstream_view}, {"stat", tstream_stat},
    {"check", tstream_check}, {"cat", tstream_cat}, {"split", tstream_split}, {"shuffle", tstream_shuffle},
    {"index", tstream_index}, {"to-npy", tstream_to_npy}, {"to-png", tstream_to_png}, {"text", tstream_text},
};

static const Opt options[] = {COMMON_OPTIONS, {0}};

#define NAMES "info, head, view, stat, check, cat, split, shuffle, index, to-npy, to-png"

static const Cli cli = {
    "tstream", "Look at tensor streams, check, cut, join, mix and convert them.", options,
    "SUBCOMMAND [OPTION]... [FILE]...",
    "The first word is a subcommand: " NAMES " or text. Each has its own options; tstream SUBCOMMAND --help lists "
    "them, tstream SUBCOMMAND --man | man -l - is its page.\n\n"
    "A tensor stream (*.mpk.zst) is zstd frames of msgpack maps: a header, records of small fields and tensors, and an "
    "end record. No FILE, or -, is standard input.",
    "# what a stream holds, by whom it was made, how large it is\n"
    "tstream info acts.mpk.zst\n"
    "# the first 10 records as a stream\n"
    "tstream head -n 10 acts.mpk.zst > few.mpk.zst\n"
    "# the small fields as JSON lines\n"
    "tstream view acts.mpk.zst | jq -r .id\n"
    "# count, mean, deviation, extremes of each tensor, by hook and timestep\n"
    "tstream stat --by hook,t acts.mpk.zst\n"
    "# read everything, name what is damaged\n"
    "tstream check *.mpk.zst\n"
    "# shards to one stream, the same bytes that one run would have written\n"
    "tstream cat shard-*.mpk.zst > all.mpk.zst\n"
    "# parts of 1000 records, or one file a value of a field\n"
    "tstream split -n 1000 -p part all.mpk.zst\n"
    "# the records in a random order, in 1 GB of memory whatever there is\n"
    "tstream shuffle --seed 1 shard-*.mpk.zst > mixed.mpk.zst\n"
    "# an index: records of a large file without reading what comes before\n"
    "tstream index --in-place all.mpk.zst\n"
    "tstream view --range 1001-1010 all.mpk.zst\n"
    "# a tensor for numpy, pictures as PNG files, the fields inside a PNG\n"
    "tstream to-npy -t latent -o latents.npy latents.mpk.zst\n"
    "tstream to-png -o pictures images.mpk.zst\n"
    "tstream text pictures/Fishes/Rust/3.png"};

int main(int argc, char **argv)
{
    Common common = {0};
    for (size_t i = 0; argc > 1 && i < sizeof subcommands / sizeof *subcommands; i++)
        if (strcmp(argv[1], subcommands[i].name) == 0)
            return subcommands[i].run(argc - 1, argv + 1);
    cli_parse(&cli, &common, argc, argv);               /* --help and --version end here */
    if (common.inputs.count == 0)
        cli_misuse(&cli, "needs a subcommand: " NAMES " or text");
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++)
        if (strcmp(common.inputs.items[0], subcommands[i].name) == 0)
            cli_misuse(&cli, "the subcommand comes first: tstream %s [OPTION]...", subcommands[i].name);
    cli_misuse(&cli, "'%s' is none of " NAMES " and text", common.inputs.items[0]);
}
