/* SPDX-License-Identifier: MIT */
/* sae_shards_cuda.c -- an autoencoder's features shared out over GPUs (sae_shards_device.h): as many as there are, up
 * to 3; a single one goes through the same ops and calls of NCCL. Skipped where there is none, or no NCCL. */
#include "tests/unit/sae_shards_device.h"

int main(void)
{
    const int gpus = gpus_with_nccl(3);
    if (gpus == 0)
        return TEST_SKIPPED;
    return compare("dead features", (TrainOptions){.K = 2, .clip = 1, .auxk = 1./32, .k_aux = 4, .dead = N/2},
                   gpu_of_rank, gpus, 6, F) != 0;
}
