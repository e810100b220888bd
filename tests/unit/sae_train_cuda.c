/* SPDX-License-Identifier: MIT */
/* sae_train_cuda.c -- steps of training on a GPU beside the CPU's (sae_train_device.h). Skipped where there is none. */
#include "tests/unit/sae_train_device.h"

int main(void)
{
    Err e = {0};
    if (backend_pick("cuda", 0, &e)) {
        printf("skipped: %s\n", e.text);
        return TEST_SKIPPED;
    }
    return training_beside_cpu(op) != 0;
}
