/* SPDX-License-Identifier: MIT */
/* sae_shards.c -- an autoencoder's features shared out over processes on the CPU (sae_shards_device.h). */
#include "tests/unit/sae_shards_device.h"

int main(void)
{
    omp_set_num_threads(1);
    return shards_beside_one(cpu_ops) != 0;
}
