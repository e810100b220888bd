/* SPDX-License-Identifier: MIT */
/* sae_shards_simt.c -- an autoencoder's features shared out over devices, on the CUDA backend's kernels and calls of
 * NCCL, played on the host (sae_shards_device.h; tests/simt). */
#include "tests/unit/sae_shards_device.h"
#include "tests/unit/played.h"

int main(void)
{
    return shards_beside_one(played) != 0;
}
