/* SPDX-License-Identifier: MIT */
/* comm_cuda.c -- GPUs and NCCL (comm_device.h): as many ranks as there are GPUs, up to 3, and one alone, which goes
 * through the same calls. Skipped where there is none, or no NCCL. */
#include "tests/unit/comm_device.h"

int main(void)
{
    const int gpus = gpus_with_nccl(3);
    if (gpus == 0)
        return TEST_SKIPPED;
    return (gpus > 1 && in_team(1, gpu_of_rank, exchanges, NULL)) + in_team(gpus, gpu_of_rank, exchanges, NULL) != 0;
}
