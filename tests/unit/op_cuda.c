/* SPDX-License-Identifier: MIT */
/* op_cuda.c -- the CUDA backend's ops on a GPU, against the CPU's (op_device.h). Skipped where there is none. */
#include "tests/unit/op_device.h"

int main(void)
{
    Err e = {0};
    if (backend_pick("cuda", 0, &e)) {
        printf("skipped: %s\n", e.text);
        return TEST_SKIPPED;
    }
    return ops_against_cpu(op, true) != 0;
}
