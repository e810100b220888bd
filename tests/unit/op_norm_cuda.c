/* SPDX-License-Identifier: MIT */
/* op_norm_cuda.c -- the CUDA backend's norms on a GPU, against plain ones (op_norm_device.h). Skipped where there is
 * none. */
#include "tests/unit/op_norm_device.h"

int main(void)
{
    Err e = {0};
    if (backend_pick("cuda", 0, &e)) {
        printf("skipped: %s\n", e.text);
        return TEST_SKIPPED;
    }
    return norms_against_plain(op, true) != 0;
}
