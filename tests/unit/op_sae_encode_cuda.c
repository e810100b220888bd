/* SPDX-License-Identifier: MIT */
/* op_sae_encode_cuda.c -- the CUDA backend's encoder on a GPU, against the CPU's (op_sae_encode_device.h). Skipped
 * where there is none. */
#include "tests/unit/op_sae_encode_device.h"

int main(void)
{
    Err e = {0};
    if (backend_pick("cuda", 0, &e)) {
        printf("skipped: %s\n", e.text);
        return TEST_SKIPPED;
    }
    return encoder_against_cpu(op, true) != 0;
}
