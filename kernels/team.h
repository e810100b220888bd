/* SPDX-License-Identifier: MIT */
/* team.h -- processes of one machine that do one thing together: ranks 0 to R-1, which wait for each other and see some
 * memory in common.
 *
 * team_start forks, so it comes before a backend is opened and before threads are started. Rank 0 is the process that
 * was there; it alone reads, writes, talks and takes signals. A rank that fails or dies ends all of them: rank 0 is
 * told by TeamLost, whatever it waits for, and the others die with rank 0. So nobody waits in vain, and a rank that
 * has failed need not come to the next barrier.
 *
 * What is done together is called by every rank, in the same order. */
#ifndef KERNELS_TEAM_H
#define KERNELS_TEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "formats/err.h"

enum { TEAM_MOST = 64 };

typedef struct Team Team;

/* In rank 0, on a thread of its own: another rank has failed, as why says, or died. Must end the program. */
typedef void TeamLost(void *context, const char *why);

/* Returns in each of the ranks, 1 to TEAM_MOST; on error in one process, as it was called. */
int team_start(Team **team, int ranks, TeamLost *lost, void *context, Err *e);
int team_rank(const Team *t);
int team_ranks(const Team *t);
/* The end of a rank other than 0 that has failed. */
void team_fail(Team *t, const Err *e) __attribute__((noreturn));
/* In rank 0. failed: the others are killed; else they are waited for, and have been told to end. If one was lost
 * meanwhile, TeamLost has the word and this does not return. NULL: nothing */
void team_end(Team *t, bool failed);

void team_barrier(Team *t);
/* all[r] (R) = what rank r has as mine */
void team_gather(Team *t, int64_t *all, int64_t mine);
/* value (of any size) becomes that of rank 0 in all ranks. */
void team_broadcast(Team *t, void *value, size_t bytes);
/* Memory that all ranks see, zeroed, until the process ends. NULL: there is none */
void *team_share(Team *t, size_t bytes, Err *e);

#endif
