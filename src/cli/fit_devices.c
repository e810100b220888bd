/* SPDX-License-Identifier: MIT */
/* fit_devices.c -- sae-fit on several devices: a process for each, whose first is the program that was started. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/aside.h"
#include "kernels/op.h"
#include "src/cli/fit.h"
#include "src/models/sae_shards.h"

/* TeamLost */
static void lost(void *context, const char *why)
{
    Err e = {0};
    err_set(&e, "%s", why);
    aside_cleanup();
    _exit(cli_report(context, &e));
}

static int open_backend(Team *team, const Common *c, Err *e)
{
    const int rank = team_rank(team), ranks = team_ranks(team);
    int64_t is_cpu[TEAM_MOST];
    if (backend_pick_rank(c->backend, (int)c->threads, rank, ranks, e))
        return -1;
    team_gather(team, is_cpu, strcmp(op->name, "cpu") == 0);
    for (int r = 0; r < ranks; r++)
        if (is_cpu[r] != is_cpu[0])
            return err_set(e, "--devices %d: this machine has fewer GPUs; --backend cpu shares the processors instead",
                           ranks);
    return op->comm.join(team, e);
}

int fit_devices(Team **team, const Cli *cli, const FitConfig *cfg, Err *e)
{
    *team = NULL;
    if (cfg->devices == 1)
        return backend_pick(cfg->c.backend, (int)cfg->c.threads, e);
    if (team_start(team, (int)cfg->devices, lost, (void *)cli, e))
        return -1;
    const int failed = open_backend(*team, &cfg->c, e);
    if (team_rank(*team) == 0)
        return failed;
    if (failed || shards_serve(*team, e))
        team_fail(*team, e);
    _exit(0);
}

void fit_devices_end(Team *team, bool failed)
{
    if (team && !failed)
        shards_end(team);
    team_end(team, failed);
}
