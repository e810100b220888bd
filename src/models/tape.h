/* SPDX-License-Identifier: MIT */
/* tape.h -- a network's evaluation taken down once and played again: stretches of ops, which the backend starts at one
 * blow, and between them the hooks, which run as they always do.
 *
 * What is played reads and writes the memory that the evaluation did when it was taken down. */
#ifndef SRC_MODELS_TAPE_H
#define SRC_MODELS_TAPE_H

#include "src/models/hooks.h"

typedef struct Tape Tape;

/* Begins to take down: from here on ops are not run. NULL: the backend does not, or there is no memory. */
Tape *tape_begin(void);
/* The place of a module's hooks. */
void tape_cut(Tape *t, int module, const HookCall *call);
/* Ends taking down. false: there is nothing to play, whatever the reason; free it. */
bool tape_end(Tape *t);
void tape_free(Tape *t);                /* NULL: nothing */
/* Returns 0, or -1 with e set by a hook. */
int tape_play(const Tape *t, const Hooks *hooks, Err *e);

#endif
