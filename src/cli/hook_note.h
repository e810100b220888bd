/* SPDX-License-Identifier: MIT */
/* hook_note.h -- what is said where --hook puts an autoencoder at another module than it was made for. */
#ifndef SRC_CLI_HOOK_NOTE_H
#define SRC_CLI_HOOK_NOTE_H

#include "src/cli/cli.h"
#include "src/models/ranks.h"
#include "src/models/sae.h"

/* A note each where the autoencoder of folder dir, or its ranks (NULL: none), name another module than this one. */
void hook_note(const Cli *cli, const char *module, const char *dir, const Sae *sae, const Ranks *ranks);

#endif
