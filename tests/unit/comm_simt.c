/* SPDX-License-Identifier: MIT */
/* comm_simt.c -- the CUDA backend's ranks (comm_device.h), on the host: kernels are played, and NCCL is tests/simt's,
 * which refuses calls that would hang or read what is not there. */
#include "tests/unit/comm_device.h"
#include "tests/unit/played.h"

extern int simt_nccl_gathers, simt_nccl_groups;

static int calls(void *context)
{
    int failed = exchanges(context);
    return failed + in_all("NCCL gathered", simt_nccl_gathers, simt_nccl_gathers > 0)
                  + in_all("NCCL sent", simt_nccl_groups, simt_nccl_groups > 0);
}

int main(void)
{
    return comm_tests(played) + in_team(2, played, calls, NULL) != 0;
}
