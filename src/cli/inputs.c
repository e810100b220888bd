/* SPDX-License-Identifier: MIT */
/* inputs.c -- the streams that a command line names: what is read, and how what is written is packed. */
#include "src/cli/cli.h"

int cli_input_count(const Common *c)
{
    return c->inputs.count > 0 ? c->inputs.count : 1;
}

const char *cli_input(const Common *c, int i)
{
    return c->inputs.count > 0 ? c->inputs.items[i] : "-";
}

StreamOptions cli_stream_options(const Common *c)
{
    return (StreamOptions){.level = c->no_compress ? STREAM_NO_COMPRESS : (int)c->level, .threads = (int)c->threads};
}
