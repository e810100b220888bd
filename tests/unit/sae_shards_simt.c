/* SPDX-License-Identifier: MIT */
/* sae_shards_simt.c -- an autoencoder's features shared out over devices, on the CUDA backend's kernels and calls of
 * NCCL, played on the host (sae_shards_device.h; tests/simt). */
#include "tests/unit/sae_shards_device.h"

const Ops *sdsteer_backend(int device, Err *e);

static const Ops *played(void)
{
    Err e = {0};
    const Ops *ops = sdsteer_backend(0, &e);
    if (!ops)
        die(&e);
    return ops;
}

int main(void)
{
    return shards_beside_one(played) != 0;
}
