/* SPDX-License-Identifier: MIT */
/* waiting.c -- makes the threads of a program that waits for its neighbours in a pipe sleep rather than spin.
 *
 * libgomp's threads spin for milliseconds at every barrier unless the environment says otherwise, and it reads the
 * environment before main. Two programs of a pipe on the same processors then stand in each other's way: measured here,
 * a sampler beside other work took 28.9 s with the default and 1.6 s without spinning. So a program starts itself anew,
 * once, with GOMP_SPINCOUNT set. The system then calls it "exe", after the link that it was started by, until it gives
 * itself its name again, for ps, top and pkill. */
#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "src/cli/options.h"

void waiting_settle(char **argv)
{
    if (!getenv("GOMP_SPINCOUNT") && !getenv("OMP_WAIT_POLICY") && setenv("GOMP_SPINCOUNT", "1000", 0) == 0)
        execv("/proc/self/exe", argv);      /* where that fails the program goes on as it is */
    prctl(PR_SET_NAME, program_invocation_short_name);
}
