/* SPDX-License-Identifier: MIT */
/* op_product_device.h -- the product of compute capability 9.0a (kernels/cuda/product_hopper.cu): shapes with tails in
 * points, columns and channels, images smaller than a tile and larger, by each of its tiles against the CPU's and, byte
 * for byte, against the tile that is chosen.
 *
 * op_product_cuda.c runs it on a GPU, op_product_simt.c on the same kernels played on the host. */
#ifndef TESTS_UNIT_OP_PRODUCT_DEVICE_H
#define TESTS_UNIT_OP_PRODUCT_DEVICE_H

#include "tests/unit/op_conv_device.h"

/* Kernels of 1, 2, 3 and 5; gated; wide: of Stable Diffusion. */
static const ConvCase product_cases[] = {
    {64, 160, 1, 1, 0, 0, 1, 130, 1}, {72, 168, 1, 1, 0, 0, 1, 77, 1}, {16, 8, 1, 1, 0, 0, 1, 1, 1},
    {128, 336, 1, 1, 0, 0, 1, 300, 1},
    {16, 168, 3, 1, 1, 1, 3, 8, 8}, {72, 16, 3, 1, 1, 1, 1, 16, 16}, {8, 168, 3, 1, 1, 1, 1, 3, 64},
    {24, 24, 3, 1, 1, 1, 2, 7, 5}, {8, 16, 3, 1, 0, 1, 5, 4, 12}, {4, 16, 5, 1, 2, 2, 2, 9, 6},
    {40, 32, 1, 1, 0, 0, 3, 6, 10}, {8, 24, 2, 1, 0, 1, 1, 5, 3},
};
static const ConvCase gated_cases[] = {
    {64, 320, 1, 1, 0, 0, 1, 130, 1}, {72, 176, 1, 1, 0, 0, 1, 77, 1}, {16, 16, 1, 1, 0, 0, 1, 1, 1},
};
static const ConvCase wide_cases[] = {
    {320, 320, 3, 1, 1, 1, 5, 64, 64}, {1280, 1280, 3, 1, 1, 1, 5, 8, 8}, {640, 960, 1, 1, 0, 0, 1, 12000, 1},
};

/* Sums in slices (product_tile.cu): of unequal and equal numbers of steps, kernels of 2 and 3; then of Stable Diffusion. */
static const ConvCase sliced_cases[] = {
    {72, 168, 3, 1, 1, 1, 2, 8, 8}, {136, 96, 3, 1, 1, 1, 1, 4, 9}, {200, 40, 2, 1, 0, 1, 3, 6, 6},
    {1280, 1280, 3, 1, 1, 1, 5, 8, 8}, {1280, 168, 3, 1, 1, 1, 3, 10, 10},
};

/* Bytes of y, in new memory; added to values of their own where add. */
static void *product_bytes(Conv *c, const ConvCase *k, void *x, DType y_type, size_t ny, bool add)
{
    const size_t bytes = ny*dtype_size(y_type);
    float *held = op_values(ny, 7);
    void *held_t = op_typed(held, y_type, ny), *dy = add ? to_device(held_t, bytes) : device_space(bytes),
        *y = op_space(bytes);
    gpu->conv_run(c, dy, x, k->B, k->H, k->W, add);
    gpu->download(y, dy, bytes);
    gpu->free(dy);
    free(held);
    free(held_t);
    return y;
}

static const char *const all_tiles[] = {
    "256x160x2x1", "256x160x1x1", "256x128x2x1", "256x128x1x2", "128x160x2x1", "128x160x1x1", "128x80x2x1",
    "128x80x1x1", "64x160x1x2", "64x160x1x1", "64x80x2x1", "64x80x1x1", "64x32x4x1", "64x32x1x1", NULL,
};
static const char *const sliced_tiles[] = {"128x160x2x1", "128x160x1x1", "128x80x1x1x4", "64x80x1x1x4", NULL};

/* One layer by these tiles. */
static int by_tiles(const char *const *tiles, const ConvCase *k, DType type, DType y_type, Activation act,
                    bool with_bias)
{
    const int64_t Ho = k->H + k->before + k->after - k->kernel + 1, Wo = k->W + k->before + k->after - k->kernel + 1;
    const size_t nx = (size_t)(k->B*k->H*k->W*k->in), nw = (size_t)(k->out*k->in*k->kernel*k->kernel);
    const size_t ny = (size_t)(k->B*Ho*Wo*(act == ACT_GEGLU ? k->out/2 : k->out));
    char name[160];
    float *x = op_values(nx, 1), *w = op_values(nw, 2), *b = with_bias ? op_values((size_t)k->out, 3) : NULL;
    void *x_t = op_typed(x, type, nx), *dx = to_device(x_t, nx*dtype_size(type));
    free(op_typed(w, type, nw));
    int failed = 0;
    Conv *c = conv_on(gpu, k, type, y_type, act, w, b);
    for (int add = 0; add < (y_type != BF16 && act == ACT_NONE ? 2 : 1); add++) {
        void *want = product_bytes(c, k, dx, y_type, ny, add);
        for (const char *const *tile = tiles; *tile; tile++) {
            setenv("SDSTEER_CUDA_TILE", *tile, 1);
            void *got = product_bytes(c, k, dx, y_type, ny, add);
            failed += test_same(op_name(name, "%s, %d-%d k%d %ldx%ldx%d %s-%s act %d%s", *tile, k->in, k->out,
                                        k->kernel, (long)k->H, (long)k->W, (int)k->B, dtype_name(type),
                                        dtype_name(y_type), act, add ? " added" : ""),
                                got, want, ny*dtype_size(y_type));
            free(got);
        }
        unsetenv("SDSTEER_CUDA_TILE");
        free(want);
    }
    gpu->conv_free(c);
    gpu->free(dx);
    free(x); free(w); free(b); free(x_t);
    return failed;
}

/* Rows of a layer run alone, few and many at a time: a row's bytes are the same. */
static int by_rows(int in, int out, DType type, DType y_type, Activation act)
{
    static const int64_t counts[] = {1, 7, 64, 129, 300};
    enum { N = 2100 };
    const ConvCase all = {in, out, 1, 1, 0, 0, 1, N, 1};
    const size_t width = (size_t)(act == ACT_GEGLU ? out/2 : out)*dtype_size(y_type), nx = (size_t)(N*in);
    char name[160];
    float *x = op_values(nx, 1), *w = op_values((size_t)(in*out), 2), *b = op_values((size_t)out, 3);
    void *x_t = op_typed(x, type, nx);
    char *dx = to_device(x_t, nx*2);
    free(op_typed(w, type, (size_t)(in*out)));
    Conv *c = conv_on(gpu, &all, type, y_type, act, w, b);
    char *want = product_bytes(c, &all, dx, y_type, N*width/dtype_size(y_type), false);
    int failed = 0;
    for (size_t i = 0; i < sizeof counts/sizeof *counts; i++) {
        const ConvCase few = {in, out, 1, 1, 0, 0, 1, counts[i], 1};
        const size_t first = (size_t)(N - counts[i]), bytes = (size_t)counts[i]*width;
        void *got = product_bytes(c, &few, dx + first*(size_t)in*2, y_type, bytes/dtype_size(y_type), false);
        failed += test_same(op_name(name, "%ld rows, %d-%d act %d", (long)counts[i], in, out, act), got,
                            want + first*width, bytes);
        free(got);
    }
    gpu->conv_free(c);
    gpu->free(dx);
    free(x); free(w); free(b); free(x_t); free(want);
    return failed;
}

static int rows_by_counts(void)
{
    return by_rows(64, 320, BF16, BF16, ACT_GEGLU) + by_rows(72, 328, BF16, F32, ACT_NONE)
         + by_rows(64, 96, BF16, BF16, ACT_SILU) + by_rows(64, 168, BF16, BF16, ACT_NONE)
         + by_rows(64, 168, F16, F16, ACT_NONE) + by_rows(72, 328, F16, F32, ACT_NONE)
         + by_rows(72, 168, BF16, F16, ACT_NONE);
}

/* By the tile that is chosen against the CPU's, then by all. */
static int by_all(const ConvCase *k, DType type, DType y_type, Activation act, bool with_bias)
{
    unsetenv("SDSTEER_CUDA_TILE");
    return conv(k, type, y_type, act, with_bias) + by_tiles(all_tiles, k, type, y_type, act, with_bias);
}

/* Which SDSTEER_CUDA_KERNELS has to ask for. */
__attribute__((unused)) static int sliced_by_tiles(bool large)
{
    int failed = 0;
    for (size_t i = 0; i < (large ? sizeof sliced_cases/sizeof *sliced_cases : 3); i++)
        failed += conv(&sliced_cases[i], BF16, F32, ACT_NONE, i%2)
                + by_tiles(sliced_tiles, &sliced_cases[i], BF16, F32, ACT_NONE, i%2)
                + by_tiles(sliced_tiles, &sliced_cases[i], i%2 ? BF16 : F16, i%2 ? BF16 : F16, ACT_NONE, true)
                + by_tiles(sliced_tiles, &sliced_cases[i], BF16, F16, ACT_NONE, i%2);
    return failed;
}

/* large: shapes of Stable Diffusion too, each tile's blocks many times over. */
__attribute__((unused)) static int products_by_tiles(const Ops *device, bool large)
{
    cpu = cpu_ops();
    gpu = device;
    int failed = 0;
    for (int t = 0; t < 2; t++) {
        const DType type = t ? F16 : BF16;
        const bool all = large || type == BF16;         /* played, f16 has every other one: it takes long */
        for (size_t i = 0; i < sizeof product_cases/sizeof *product_cases; i++) {
            failed += all || i%2 ? by_all(&product_cases[i], type, F32, ACT_NONE, i%2) : 0;
            failed += all || !(i%2) ? by_all(&product_cases[i], type, type, ACT_NONE, !(i%2)) : 0;
            failed += type == BF16 && (large || i%3 == 0) ? by_all(&product_cases[i], type, F16, ACT_NONE, i%2) : 0;
        }
        for (int act = ACT_SILU; act <= ACT_RELU; act++)
            failed += by_all(&product_cases[1], type, act%2 ? F32 : type, (Activation)act, act%3);
        for (size_t i = 0; i < sizeof gated_cases/sizeof *gated_cases; i++)
            failed += by_all(&gated_cases[i], type, type, ACT_GEGLU, i%2 == 0);
        for (size_t i = 0; i < (large ? sizeof wide_cases/sizeof *wide_cases : 0); i++)
            failed += by_tiles(all_tiles, &wide_cases[i], type, F32, ACT_NONE, true)
                    + by_tiles(all_tiles, &wide_cases[i], type, type, ACT_NONE, false)
                    + by_tiles(all_tiles, &wide_cases[i], type, F16, ACT_NONE, true);
        if (large)
            failed += by_tiles(all_tiles, &wide_cases[2], type, type, ACT_GEGLU, true);
    }
    return failed + rows_by_counts();
}

#endif
