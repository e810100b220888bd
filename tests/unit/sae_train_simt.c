/* SPDX-License-Identifier: MIT */
/* sae_train_simt.c -- steps of training on the CUDA backend's kernels, built for the host and played there
 * (tests/simt), beside the CPU's (sae_train_device.h). */
#include "tests/unit/sae_train_device.h"

const Ops *sdsteer_backend(int device, Err *e);

int main(void)
{
    Err e = {0};
    const Ops *played = sdsteer_backend(0, &e);
    if (!played)
        die(&e);
    return training_beside_cpu(played) != 0;
}
