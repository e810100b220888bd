/* SPDX-License-Identifier: MIT */
/* kernel_alone.h -- one kernel of compute capability 9 by itself against the CPU's, the simplest cases first: what
 * fails says what else can be right. kernel_alone.c runs it on a GPU, op_product_simt.c plays some of it.
 *
 * Whether the kernel did run is for the caller to see. */
#ifndef TESTS_UNIT_KERNEL_ALONE_H
#define TESTS_UNIT_KERNEL_ALONE_H

#include "tests/unit/op_attention_device.h"
#include "tests/unit/op_product_device.h"

enum { REPEATS = 12 };

/* Whether a tile makes the layer: gating is for tiles 160 wide, other activations for some 80 wide, and a cluster has
 * as many columns' tiles as it is across. */
static bool tile_takes(const char *tile, int out, Activation act)
{
    int rows = 0, columns = 1, across = 1, down = 1;
    sscanf(tile, "%dx%dx%dx%d", &rows, &columns, &across, &down);
    const bool made = act == ACT_NONE || (act == ACT_GEGLU ? columns == 160 : columns == 80 && across*down == 1);
    return made && (out + columns - 1)/columns%across == 0;
}

static int product_case(const char *tile, const ConvCase *k, DType type, DType y_type, Activation act, bool bias)
{
    return tile_takes(tile, k->out, act) ? conv(k, type, y_type, act, bias) : 0;
}

/* The same product, y as large as x, again and again: one that is late by chance differs. */
static int product_again(const char *tile, const ConvCase *k, DType y_type, bool add)
{
    const size_t points = (size_t)(k->B*k->H*k->W), nx = points*(size_t)k->in, ny = points*(size_t)k->out;
    char name[160];
    if (!tile_takes(tile, k->out, ACT_NONE))
        return 0;
    float *x = op_values(nx, 1), *w = op_values((size_t)(k->out*k->in*k->kernel*k->kernel), 2);
    void *x_t = op_typed(x, BF16, nx), *dx = to_device(x_t, nx*2);
    Conv *c = conv_on(gpu, k, BF16, y_type, ACT_NONE, w, NULL);
    void *first = product_bytes(c, k, dx, y_type, ny, add);
    int failed = 0;
    for (int i = 1; i < REPEATS && !failed; i++) {
        void *again = product_bytes(c, k, dx, y_type, ny, add);
        failed = test_same(op_name(name, "%s, %d-%d k%d %s again, %d", tile, k->in, k->out, k->kernel,
                                   dtype_name(y_type), i), again, first, ny*dtype_size(y_type));
        free(again);
    }
    gpu->conv_free(c);
    gpu->free(dx);
    free(x); free(w); free(x_t); free(first);
    return failed;
}

/* A tile ("64x32x1x1"): few rows, then convolutions, activations, f16, then every block many times over. */
__attribute__((unused)) static int product_alone(const char *tile, bool large)
{
    const size_t cases = sizeof product_cases/sizeof *product_cases, gated = sizeof gated_cases/sizeof *gated_cases;
    int failed = 0;
    setenv("SDSTEER_CUDA_TILE", tile, 1);
    for (int t = 0; t < 2; t++) {
        const DType type = t ? F16 : BF16;
        for (size_t i = 0; i < cases; i++)
            failed += product_case(tile, &product_cases[i], type, type, ACT_NONE, i%2)
                    + product_case(tile, &product_cases[i], type, F32, ACT_NONE, !(i%2))
                    + (type == BF16 ? product_case(tile, &product_cases[i], type, F16, ACT_NONE, i%2) : 0);
        for (int act = ACT_SILU; act <= ACT_RELU; act++)
            failed += product_case(tile, &product_cases[1], type, act%2 ? F32 : type, (Activation)act, true);
        for (size_t i = 0; i < gated; i++)
            failed += product_case(tile, &gated_cases[i], type, type, ACT_GEGLU, true);
    }
    for (size_t i = 0; large && i < sizeof wide_cases/sizeof *wide_cases; i++) {
        failed += product_case(tile, &wide_cases[i], BF16, BF16, ACT_NONE, false)
                + product_case(tile, &wide_cases[i], BF16, F32, ACT_NONE, true)
                + product_again(tile, &wide_cases[i], F32, false) + product_again(tile, &wide_cases[i], F32, true)
                + product_again(tile, &wide_cases[i], BF16, false) + product_again(tile, &wide_cases[i], F16, true);
    }
    if (large)
        failed += product_case(tile, &wide_cases[2], BF16, BF16, ACT_GEGLU, true);
    unsetenv("SDSTEER_CUDA_TILE");
    return failed;
}

/* A tile that has a slice a block, or that folds them. */
__attribute__((unused)) static int slices_alone(const char *tile, bool large)
{
    const size_t cases = sizeof sliced_cases/sizeof *sliced_cases;
    int failed = 0;
    setenv("SDSTEER_CUDA_TILE", tile, 1);
    for (size_t i = large ? 3 : 0; i < (large ? cases : 1); i++) {
        failed += conv(&sliced_cases[i], BF16, F32, ACT_NONE, true) + conv(&sliced_cases[i], F16, F16, ACT_NONE, i%2)
                + conv(&sliced_cases[i], BF16, F16, ACT_NONE, true);
        if (large)
            failed += product_again(tile, &sliced_cases[i], F32, true)
                    + product_again(tile, &sliced_cases[i], BF16, false);
    }
    unsetenv("SDSTEER_CUDA_TILE");
    return failed;
}

/* Heads of a width: one stage of keys, a ragged one, several, queries that fill no tile, keys of other images, rows
 * apart, then as in Stable Diffusion. */
__attribute__((unused)) static int attention_alone(int d, bool large)
{
    const AttentionCase cases[] = {
        {1, d, 0, 64, 64, false, false, 1}, {1, d, 0, 64, 77, false, false, 1}, {1, d, 0, 128, 300, false, false, 1},
        {2, d, 0, 33, 128, false, false, 40}, {3, d, 240, 190, 200, false, true, 1}, {2, d, 8, 130, 1, false, false, 1},
        {8, d, 0, 256, 256, false, false, 1}, {8, d, 8*d, 1000, 1030, false, false, 40},
        {8, d, 0, 4096, 77, false, true, 1}, {8, d, 0, 2048, 2048, false, false, 1},
    };
    int failed = 0;
    for (size_t i = 0; i < (large ? sizeof cases/sizeof *cases : 6); i++)
        failed += attention(&cases[i], BF16) + attention(&cases[i], F16);
    return failed;
}

#endif
