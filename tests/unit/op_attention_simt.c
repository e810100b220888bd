/* SPDX-License-Identifier: MIT */
/* op_attention_simt.c -- attention of compute capability 9.0a, built for the host and played there (tests/simt),
 * against the CPU's (op_attention_device.h): queries and keys that fill no tile, one stage of keys and more than the
 * ring has, blocks with two groups of queries and with three, more tiles than blocks, keys of other images. */
#include "tests/unit/kernel_alone.h"

const Ops *sdsteer_backend(int device, Err *e);
extern const char *simt_started;

int main(void)
{
    static const AttentionCase cases[] = {
        {1, 40, 0, 190, 77, false, true, 1}, {3, 40, 240, 70, 300, false, false, 1},
        {2, 40, 8, 130, 128, false, false, 40}, {1, 40, 0, 20, 1100, false, false, 1},
        {1, 64, 0, 180, 257, false, false, 1}, {2, 64, 64, 65, 10, false, true, 40},
        {2, 80, 0, 70, 300, false, true, 1}, {1, 80, 80, 200, 129, false, false, 40}, {1, 80, 0, 1, 1, false, false, 1},
        {2, 160, 0, 33, 200, false, false, 1}, {1, 160, 8, 130, 64, false, true, 1},
        {1, 40, 40, 33, 154, false, true, 1}, {1, 64, 0, 70, 1155, false, true, 1}, {1, 80, 0, 20, 231, false, true, 1},
        {2, 160, 8, 130, 154, false, true, 1}, {1, 160, 0, 70, 100, false, false, 1},
    };
    Err e = {0};
    gpu = sdsteer_backend(0, &e);
    if (!gpu)
        return test_ok(e.text, 0);
    setenv("SDSTEER_CUDA_KERNELS", "hopper", 1);
    cpu = cpu_ops();
    int failed = 0;
    for (size_t i = 0; i < sizeof cases/sizeof *cases; i++) {
        failed += attention(&cases[i], i%3 == 2 ? F16 : BF16);
        failed += test_ok("by the kernel that is looked at here", strstr(simt_started, "attend_hopper") != NULL);
    }
    return failed + attention_alone(80, false) != 0;
}
