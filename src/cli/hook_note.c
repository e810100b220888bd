/* SPDX-License-Identifier: MIT */
/* hook_note.c -- notes of modules that --hook goes before. */
#include <string.h>
#include "src/cli/hook_note.h"
#include "src/models/hooks.h"

static bool is_other(const char *module, const char *named)
{
    return named && *named && strcmp(hook_path(named), module) != 0;
}

void hook_note(const Cli *cli, const char *module, const char *dir, const Sae *sae, const Ranks *ranks)
{
    const char *of_ranks = ranks ? json_string_value(json_object_get(ranks_header(ranks), "hook")) : NULL;
    if (is_other(module, sae->hook))
        cli_note(cli, "--hook %s goes before %s, which cfg.json of %s names", module, sae->hook, dir);
    if (is_other(module, of_ranks))
        cli_note(cli, "--hook %s goes before %s, which %s names", module, of_ranks, ranks_path(ranks));
}
