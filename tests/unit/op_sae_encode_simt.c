/* SPDX-License-Identifier: MIT */
/* op_sae_encode_simt.c -- the CUDA backend's encoder, built for the host and played there (tests/simt), against the
 * CPU's (op_sae_encode_device.h): a wrong index, a missing barrier or a write out of bounds is found on a machine
 * without a GPU. As on compute capability 9, and with the kernels of every device. */
#include "tests/unit/op_sae_encode_device.h"

const Ops *sdsteer_backend(int device, Err *e);

int main(void)
{
    Err e = {0};
    const Ops *played = sdsteer_backend(0, &e);
    if (!played)
        return test_ok(e.text, 0);
    int failed = 0;
    for (int i = 0; i < 2; i++) {
        setenv("SDSTEER_CUDA_KERNELS", (const char *[]){"hopper", "portable"}[i], 1);
        failed += encoder_against_cpu(played, false);
    }
    return failed != 0;
}
