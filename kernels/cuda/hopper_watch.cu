/* SPDX-License-Identifier: MIT */
/* hopper_watch.cu -- what warps say that wait for ever (hopper_watch.h): kept in memory that the device writes and the
 * host reads, after an error too. */
#include "kernels/cuda/hopper_watch.h"

static Stuck *stuck;

Watch watch_wanted(const char *file)
{
    const char *wish = getenv("SDSTEER_CUDA_WATCH");
    const double seconds = wish ? atof(wish) : 0;
    const size_t bytes = sizeof *stuck*WATCH_BLOCKS*WATCH_WARPS;
    if (!(seconds > 0))
        return {};
    if (!stuck) {
        gpu_check(cudaMallocHost((void **)&stuck, bytes));
        memset(stuck, 0, bytes);
    }
    return {stuck, (uint64_t)(1e9*seconds), file};
}

void watch_report(void)
{
    for (int i = 0; stuck && i < WATCH_BLOCKS*WATCH_WARPS; i++)
        if (stuck[i].file)
            fprintf(stderr, "%s: block %u, warp %u of a block with %u bytes waits at %u for the end of a phase of "
                    "parity %u; the barrier is %016llx\n", stuck[i].file, stuck[i].block, stuck[i].thread/WARP,
                    stuck[i].shared, stuck[i].barrier, stuck[i].parity, (unsigned long long)stuck[i].state);
}
