/* SPDX-License-Identifier: MIT */
/* kernel_alone.c -- one kernel of compute capability 9 by itself on a GPU, against the CPU's: tests/device.sh starts it
 * once for each, so that one that hangs or breaks the device leaves the others their time. Skipped where there is none.
 *
 *     kernel_alone product ROWSxCOLUMNSxACROSSxDOWN | slices ROWSxCOLUMNSxACROSSxDOWN[xSPLIT] | attention WIDTH | norm |
 *         encode
 *
 * Without a kind: skipped. */
#include "tests/unit/kernel_alone.h"
#include "tests/unit/op_norm_device.h"
#include "tests/unit/op_sae_encode_device.h"

int main(int argc, char **argv)
{
    Err e = {0};
    const char *kind = argc > 1 ? argv[1] : "", *which = argc > 2 ? argv[2] : "";
    setenv("SDSTEER_CUDA_KERNELS", strcmp(kind, "slices") == 0 ? "product+slices" : kind, 1);
    setenv("SDSTEER_CUDA_LIBRARIES", "none", 1);
    if (argc < 2 || backend_pick("cuda", 0, &e)) {
        printf("skipped: %s\n", argc < 2 ? "no kernel is named" : e.text);
        return TEST_SKIPPED;
    }
    cpu = cpu_ops();
    gpu = op;
    if (strcmp(kind, "product") == 0)
        return product_alone(which, true) != 0;
    if (strcmp(kind, "slices") == 0)
        return slices_alone(which, true) != 0;
    if (strcmp(kind, "attention") == 0)
        return attention_alone(atoi(which), true) != 0;
    if (strcmp(kind, "norm") == 0)
        return norms_against_plain(op, true) != 0;
    if (strcmp(kind, "encode") == 0)
        return encoder_against_cpu(op, true) != 0;
    printf("FAIL there is no kernel %s\n", kind);
    return 1;
}
