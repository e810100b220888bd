/* SPDX-License-Identifier: MIT */
/* team_test.h -- what tests of several ranks share: a body in a process of its own, with its team, since a device joins
 * one but once and does not survive a fork. */
#ifndef TESTS_UNIT_TEAM_TEST_H
#define TESTS_UNIT_TEAM_TEST_H

#include <sys/wait.h>
#include "tests/unit/op_test.h"

static Team *team;                              /* of this process; NULL without */

static void die(const Err *e)
{
    printf("FAIL %s\n", e->text);
    fflush(stdout);
    _exit(1);
}

static void lost(void *context, const char *why)
{
    (void)context;
    test_note("lost: %s", why);
    _exit(1);
}

/* Runs body in each of the ranks, or with ranks 0 without a team, on the table that backend opens. Returns rank 0's
 * exit status: 0, or 1 where body failed or a rank was lost; of a signal, less than 0. */
static int in_team(int ranks, const Ops *(*backend)(void), int (*body)(void *context), void *context)
{
    fflush(stdout);
    const pid_t pid = fork();
    int status;
    if (pid == 0) {
        Err e = {0};
        if (ranks > 0 && team_start(&team, ranks, lost, NULL, &e))
            die(&e);
        op = backend();
        if (team && op->comm.join(team, &e))
            die(&e);
        const int failed = body(context);
        if (team && team_rank(team) == 0)
            team_end(team, false);
        _exit(failed != 0);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* The GPU of this rank. */
__attribute__((unused)) static const Ops *gpu_of_rank(void)
{
    Err e = {0};
    if (backend_pick_rank("cuda", 0, team ? team_rank(team) : 0, team ? team_ranks(team) : 1, &e))
        die(&e);
    return op;
}

/* How many GPUs there are, up to `most`, asked for by processes of their own; 0 also where NCCL is missing. */
__attribute__((unused)) static int gpus_with_nccl(int most)
{
    for (int n = 0; n < most; n++) {
        fflush(stdout);
        const pid_t pid = fork();
        int status;
        if (pid == 0) {
            Err e = {0};
            const int failed = backend_pick_rank("cuda", 0, n, n + 1, &e)
                            || (n == 0 && (team_start(&team, 1, lost, NULL, &e) || op->comm.join(team, &e)));
            if (failed && n == 0)
                printf("skipped: %s\n", e.text);
            fflush(stdout);
            _exit(failed != 0);
        }
        if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status))
            return n;
    }
    return most;
}

#endif
