/* SPDX-License-Identifier: MIT */
/* op_norm_simt.c -- the CUDA backend's norms, built for the host and played there (tests/simt), against plain ones
 * (op_norm_device.h): a wrong index, a missing barrier or a write out of bounds is found on a machine without a GPU.
 * Both as on compute capability 9 and with the kernels of every device; and an image in clusters of each size, by the
 * shared memory that a block can have. */
#include "tests/unit/op_norm_device.h"

const Ops *sdsteer_backend(int device, Err *e);
extern int simt_shared;
extern const char *simt_started;
extern unsigned simt_started_blocks;

/* blocks: of the cluster that has a part of an image; 0: not by clusters */
static int in_clusters(NormCase c, int shared, unsigned blocks)
{
    Err e = {0};
    char name[160];
    simt_shared = shared;
    sdsteer_backend(0, &e);
    const int failed = group_norm(c);
    const bool clusters = strstr(simt_started, "norm_part") != NULL;
    op_name(name, "group_norm %ldx%d+%d of %d bytes: by %u blocks, wanted %u", (long)c.HW, c.C, c.beside, shared,
            clusters ? simt_started_blocks : 0, blocks);
    return failed + test_ok(name, (clusters ? simt_started_blocks : 0) == blocks);
}

int main(void)
{
    Err e = {0};
    const Ops *played = sdsteer_backend(0, &e);
    if (!played)
        return test_ok(e.text, 0);
    setenv("SDSTEER_CUDA_KERNELS", "hopper", 1);
    int failed = norms_against_plain(played, false);
    const int all = simt_shared;
    static const struct { NormCase c; int shared; unsigned blocks; } cases[] = {
        {{2, 64, 320, 0, 32, F32, F32, ACT_SILU, 0}, 227*1024, 1},
        {{2, 64, 320, 0, 32, F32, F32, ACT_SILU, 0}, 14*1024, 2},
        {{2, 63, 320, 0, 32, F32, F32, ACT_NONE, 100}, 8*1024, 4},
        {{2, 61, 320, 0, 32, F32, F32, ACT_SILU, 0}, 5*1024, 8},
        {{3, 57, 64, 32, 8, F32, BF16, ACT_SILU, 0}, 5*1024, 8},
        {{2, 9, 320, 0, 8, F32, BF16, ACT_SILU, 0}, 4*1024, 8},
        {{2, 9, 320, 0, 8, F32, F16, ACT_SILU, 0}, 4*1024, 8},
        {{2, 100, 320, 0, 32, BF16, BF16, ACT_SILU, 0}, 8*1024, 8},
        {{2, 100, 320, 0, 32, F16, F16, ACT_SILU, 0}, 8*1024, 8},
        {{1, 1024, 320, 0, 32, F32, BF16, ACT_SILU, 0}, 227*1024, 8},
        {{1, 4096, 40, 20, 2, F32, BF16, ACT_SILU, 0}, 227*1024, 8},
        {{1, 4096, 80, 0, 8, BF16, BF16, ACT_SILU, 0}, 227*1024, 8},
        {{1, 256, 80, 160, 3, F32, BF16, ACT_SILU, 0}, 227*1024, 4},
        {{1, 24000, 20, 0, 2, F32, BF16, ACT_SILU, 0}, 227*1024, 0},
    };
    for (size_t i = 0; i < sizeof cases/sizeof *cases; i++)
        failed += in_clusters(cases[i].c, cases[i].shared, cases[i].blocks);
    simt_shared = all;
    setenv("SDSTEER_CUDA_KERNELS", "portable", 1);
    failed += in_clusters(cases[0].c, all, 0);
    failed += norms_against_plain(played, false);
    return failed != 0;
}
