/* SPDX-License-Identifier: MIT */
/* op_norm_device.h -- a device's norms against plain ones, at shapes of each kind that its kernels tell apart, and an
 * image or row alone against itself among others, byte for byte.
 *
 * op_norm_cuda.c runs it on a GPU, op_norm_simt.c on the same kernels played on the host; there `large` is false.
 * Tolerances: as in op_norm.c; x itself is rounded at 6e-8 of its size. */
#ifndef TESTS_UNIT_OP_NORM_DEVICE_H
#define TESTS_UNIT_OP_NORM_DEVICE_H

#include "tests/unit/device.h"
#include "tests/unit/op_norm.h"

/* What group_norm takes and what it makes of it, of one image or several. */
typedef struct NormCase {
    int64_t B, HW;
    int C, beside, groups;      /* C without those beside */
    DType x_type, type;
    Activation act;
    float offset;
} NormCase;

/* Of image b and those after it. */
static NormInput norm_input(const NormCase *c, const void *x, const void *beside, const float *shift, int64_t b)
{
    const size_t rows = (size_t)(b*c->HW), size = dtype_size(c->x_type);
    return (NormInput){(const char *)x + rows*(size_t)c->C*size, c->x_type, c->C,
                       c->beside ? (const char *)beside + rows*(size_t)c->beside*size : NULL, c->beside,
                       shift ? shift + b*(c->C + c->beside) : NULL};
}

/* Against the loop in double; the last image alone; with and without shift and the input as it is. */
static int group_norm(NormCase c)
{
    const int C = c.C + c.beside;
    const size_t rows = (size_t)(c.B*c.HW), image = (size_t)(c.HW*C), n = (size_t)c.B*image,
        nx = rows*(size_t)c.C, nb = n - nx;
    const size_t size = dtype_size(c.type), last = (size_t)(c.B - 1)*image*size;
    char name[160];
    float *x = op_values(n, 1), *shift = op_values((size_t)(c.B*C), 2), *gamma = op_values((size_t)C, 3),
        *beta = op_values((size_t)C, 4), *want = op_values(n, 5);
    for (size_t i = 0; i < n; i++)
        x[i] += c.offset;
    free(op_typed(x, c.x_type, n));
    float *left = columns(x, rows, C, 0, c.C), *right = columns(x, rows, C, c.C, c.beside);
    void *left_t = op_typed(left, c.x_type, nx), *right_t = op_typed(right, c.x_type, nb);
    void *dx = to_device(left_t, nx*dtype_size(c.x_type)), *dg = to_device(gamma, 4*(size_t)C),
        *db = to_device(beta, 4*(size_t)C);
    void *dbeside = to_device(right_t, nb*dtype_size(c.x_type));
    float *dshift = to_device(shift, 4*(size_t)(c.B*C));
    const DType as_is_type = c.x_type == F32 ? c.type : c.x_type;
    const size_t as_is_size = dtype_size(as_is_type);
    char *dy = device_space(n*size), *das_is = device_space(n*as_is_size), *one = device_space(image*size),
        *one_as_is = device_space(image*as_is_size);
    void *raw = op_space(n*size);
    int failed = 0;
    for (int pass = 0; pass < 2; pass++) {
        const NormInput in = norm_input(&c, dx, dbeside, pass ? dshift : NULL, 0),
            alone = norm_input(&c, dx, dbeside, pass ? dshift : NULL, c.B - 1);
        gpu->group_norm(dy, c.type, pass ? das_is : NULL, &in, dg, db, c.B, c.HW, c.groups, 1e-5f, c.act);
        gpu->group_norm(one, c.type, pass ? one_as_is : NULL, &alone, dg, db, 1, c.HW, c.groups, 1e-5f, c.act);
        failed += same_on_device("group_norm/alone", one, dy + last, image*size);
        plain_group_norm(want, x, pass ? shift : NULL, gamma, beta, c.B, c.HW, C, c.groups, 1e-5, c.act);
        gpu->download(raw, dy, n*size);
        float *got = op_floats(raw, c.type, n);
        failed += test_close(op_name(name, "group_norm %ldx%ldx%d+%d/%d %s-%s act %d%s offset %g", (long)c.B,
                                     (long)c.HW, c.C, c.beside, c.groups, dtype_name(c.x_type), dtype_name(c.type),
                                     c.act, pass ? " shift" : "", (double)c.offset),
                             got, want, n, 4e-6f*(1 + fabsf(c.offset)), op_within(c.type, 2e-6f, 0.004f));
        free(got);
    }
    void *as_is = op_typed(x, as_is_type, n);
    failed += same_bytes("group_norm/as it is", das_is, as_is, n*as_is_size);
    failed += same_on_device("group_norm/as it is, alone", one_as_is, das_is + (n - image)*as_is_size,
                             image*as_is_size);
    gpu->free(dx); gpu->free(dbeside); gpu->free(dshift); gpu->free(dg); gpu->free(db); gpu->free(dy);
    gpu->free(das_is); gpu->free(one); gpu->free(one_as_is);
    free(x); free(left); free(right); free(left_t); free(right_t); free(shift); free(gamma); free(beta); free(want);
    free(raw); free(as_is);
    return failed;
}

/* Against the CPU's; the last row alone; in place. */
static int layer_norm(int64_t N, int D, DType x_type, DType type)
{
    const size_t x_row = (size_t)D*dtype_size(x_type);
    const size_t n = (size_t)N*(size_t)D, row = (size_t)D*dtype_size(type);
    char name[160];
    float *x = op_values(n, 1), *gamma = op_values((size_t)D, 3), *beta = op_values((size_t)D, 4),
        *want = op_values(n, 5);
    void *x_t = op_typed(x, x_type, n);
    char *dx = to_device(x_t, (size_t)N*x_row);
    void *dg = to_device(gamma, 4*(size_t)D), *db = to_device(beta, 4*(size_t)D), *one = device_space(row);
    char *dy = device_space((size_t)N*row);
    gpu->layer_norm(dy, type, dx, x_type, dg, db, N, D, 1e-5f);
    gpu->layer_norm(one, type, dx + (size_t)(N - 1)*x_row, x_type, dg, db, 1, D, 1e-5f);
    int failed = same_on_device("layer_norm/alone", one, dy + (size_t)(N - 1)*row, row);
    if (type == F32 && x_type == F32) {
        gpu->layer_norm(dx, type, dx, x_type, dg, db, N, D, 1e-5f);
        failed += same_on_device("layer_norm/in place", dx, dy, (size_t)N*row);
    }
    cpu->layer_norm(want, F32, x, F32, gamma, beta, N, D, 1e-5f);
    float *got = from_device(dy, type, n);
    failed += test_close(op_name(name, "layer_norm %ldx%d %s-%s", (long)N, D, dtype_name(x_type), dtype_name(type)),
                         got, want, n, 4e-6f, op_within(type, 2e-6f, 0.004f));
    gpu->free(dx); gpu->free(dg); gpu->free(db); gpu->free(one);
    free(x); free(x_t); free(gamma); free(beta); free(want); free(got);
    return failed;
}

/* Against the loop; the last row of the last image alone; in place; then added to other values through a gate. */
static int modulate(int64_t B, int64_t S, int D, int more, DType type)
{
    const int64_t stride = 2*D + more, last = (B*S - 1)*D;
    const size_t n = (size_t)(B*S*D), nb = (size_t)(B*stride), row = (size_t)D*dtype_size(type);
    char name[160];
    float *x = op_values(n, 1), *by = op_values(nb, 2), *want = op_values(n, 3), *sum = op_values(n, 4);
    float *dx = to_device(x, 4*n), *dby = to_device(by, 4*nb), *dsum = to_device(sum, 4*n);
    float *dby_last = dby + (B - 1)*stride, *last_sum = to_device(sum + last, 4*(size_t)D);
    char *dy = device_space((size_t)(B*S)*row), *one = device_space(row), *dy_last = dy + (size_t)(B*S - 1)*row;
    gpu->modulate(dy, type, dx, dby, dby + D, stride, B, S, D, 1e-6f);
    gpu->modulate(one, type, dx + last, dby_last, dby_last + D, stride, 1, 1, D, 1e-6f);
    int failed = same_on_device("modulate/alone", one, dy_last, row);
    gpu->add_gated(dsum, dy, type, dby, stride, B, S, D);
    gpu->add_gated(last_sum, one, type, dby_last, stride, 1, 1, D);
    failed += same_on_device("add_gated/alone", last_sum, dsum + last, 4*(size_t)D);
    if (type == F32) {
        gpu->modulate(dx, type, dx, dby, dby + D, stride, B, S, D, 1e-6f);
        failed += same_on_device("modulate/in place", dx, dy, 4*n);
    }
    plain_layer_norm(want, x, by + D, by, 1, stride, B, S, D, 1e-6);
    float *got = from_device(dy, type, n);
    failed += test_close(op_name(name, "modulate %ldx%ldx%d+%d %s", (long)B, (long)S, D, more, dtype_name(type)), got,
                         want, n, 4e-6f, op_within(type, 3e-6f, 0.004f));
    for (size_t i = 0; i < n; i++)
        sum[i] += by[(int64_t)i/(S*D)*stride + (int64_t)i%D]*got[i];
    failed += close_floats(op_name(name, "add_gated %ldx%ldx%d+%d %s", (long)B, (long)S, D, more, dtype_name(type)),
                           dsum, sum, n, 1e-6f);
    gpu->free(dx); gpu->free(dby); gpu->free(dsum); gpu->free(last_sum); gpu->free(one);
    free(x); free(by); free(want); free(sum); free(got);
    return failed;
}

/* Against the loop, what is beside the groups too; the last row alone; in place. */
static int rms_norm(int64_t N, int groups, int D, int more, DType x_type, DType type)
{
    const int width = groups*D, x_stride = width + more, y_stride = x_type == type ? x_stride : width + 2*more;
    const size_t nx = (size_t)(N*x_stride), ny = (size_t)(N*y_stride), size = dtype_size(type);
    char name[160];
    float *x = op_values(nx, 1), *gamma = op_values((size_t)D, 2), *want = op_values(ny, 3);
    void *x_t = op_typed(x, x_type, nx), *y_t = op_typed(want, type, ny);
    char *dx = to_device(x_t, nx*dtype_size(x_type)), *dy = to_device(y_t, ny*size);
    float *dg = to_device(gamma, 4*(size_t)D);
    char *one = device_space((size_t)width*size);
    gpu->rms_norm(dy, type, y_stride, dx, x_type, x_stride, dg, N, groups, D, 1e-6f);
    gpu->rms_norm(one, type, y_stride, dx + (size_t)((N - 1)*x_stride)*dtype_size(x_type), x_type, x_stride, dg, 1,
                  groups, D, 1e-6f);
    int failed = same_on_device("rms_norm/alone", one, dy + (size_t)((N - 1)*y_stride)*size, (size_t)width*size);
    if (x_type == type) {
        gpu->rms_norm(dx, type, x_stride, dx, type, x_stride, dg, N, groups, D, 1e-6f);
        for (int64_t n = 0; n < N; n += N > 1 ? N - 1 : 1)
            failed += same_on_device("rms_norm/in place", dx + (size_t)(n*x_stride)*size,
                                     dy + (size_t)(n*y_stride)*size, (size_t)width*size);
    }
    plain_rms_norm(want, y_stride, x, x_stride, gamma, N, groups, D, 1e-6);
    float *got = from_device(dy, type, ny);
    failed += test_close(op_name(name, "rms_norm %ldx%dx%d+%d %s-%s", (long)N, groups, D, more, dtype_name(x_type),
                                 dtype_name(type)),
                         got, want, ny, 2e-6f, op_within(type, 2e-6f, 0.004f));
    gpu->free(dx); gpu->free(dg); gpu->free(one);
    free(x); free(gamma); free(want); free(x_t); free(y_t); free(got);
    return failed;
}

static int transformer_norms(bool large)
{
    static const DType types[] = {F32, BF16, F16};
    static const struct { int64_t B, S; int D, more; } modulated[] = {
        {3, 5, 64, 4}, {2, 7, 384, 8}, {3, 3, 388, 4}, {2, 5, 1536, 0}, {2, 3, 2432, 0}, {1, 2, 2564, 4}, {2, 9, 37, 1},
        {3, 1, 64, 0}, {4, 4096, 1536, 6144}, {2, 4096, 2432, 0},
    };
    static const struct { int64_t N; int groups, D, more; } runs[] = {
        {19, 3, 64, 192}, {7, 2, 32, 0}, {5, 5, 5, 3}, {9, 1, 4096, 0}, {3, 2, 260, 4}, {1, 1, 1, 0}, {11, 24, 64, 0},
        {3, 1, 130, 1}, {8192, 24, 64, 3072}, {2050, 38, 64, 4864}, {512, 1, 4096, 0},
    };
    int failed = 0;
    for (int t = 0; t < 3; t++)
        for (size_t i = 0; i < (large ? 10 : 8); i++)
            failed += modulate(modulated[i].B, modulated[i].S, modulated[i].D, modulated[i].more, types[t]);
    for (int from = 0; from < 3; from++)
        for (int to = 0; to < 3; to++)
            for (size_t i = 0; i < (large ? 11 : 8) && (from == 0 || to == 0 || to == from); i++)
                failed += rms_norm(runs[i].N, runs[i].groups, runs[i].D, runs[i].more, types[from], types[to]);
    return failed;
}

static NormCase as_types(NormCase c, DType x_type, DType type)
{
    c.x_type = x_type;
    c.type = type;
    return c;
}

/* The same case with F16 in place of BF16, then with an f16 input in place of f32's. */
static int in_f16(NormCase c)
{
    return group_norm(as_types(c, c.x_type == BF16 ? F16 : c.x_type, F16))
         + (c.x_type == F32 ? group_norm(as_types(c, F16, BF16)) + group_norm(as_types(c, F16, F16)) : 0);
}

/* All of it. large: sizes of Stable Diffusion too. */
static int norms_against_plain(const Ops *device, bool large)
{
    cpu = cpu_ops();
    gpu = device;
    static const NormCase norms[] = {
        {3, 256, 64, 0, 16, F32, F32, ACT_SILU, 0}, {2, 16, 160, 0, 16, F32, BF16, ACT_NONE, 0},
        {2, 100, 24, 0, 8, F32, F32, ACT_NONE, 100}, {2, 3, 5, 0, 5, F32, BF16, ACT_SILU, 0},
        {1, 70, 300, 0, 30, F32, F32, ACT_SILU, 0}, {2, 20, 1280, 0, 32, F32, BF16, ACT_SILU, 0},
        {2, 9, 3840, 0, 32, F32, F32, ACT_SILU, 0}, {1, 5, 1283, 0, 1, F32, BF16, ACT_NONE, 0},
        {3, 64, 320, 0, 32, BF16, BF16, ACT_SILU, 0}, {2, 70, 30, 0, 5, BF16, BF16, ACT_NONE, 0},
        {2, 33, 64, 0, 16, BF16, BF16, ACT_SILU, 4}, {2, 50, 128, 0, 8, BF16, BF16, ACT_NONE, 100},
        {3, 64, 64, 64, 16, F32, BF16, ACT_SILU, 0}, {2, 50, 160, 128, 16, F32, F32, ACT_SILU, 0},
        {2, 20, 5, 3, 4, F32, BF16, ACT_SILU, 0}, {1, 9, 1280, 1280, 32, F32, BF16, ACT_SILU, 0},
        {2, 64, 36, 2, 2, F32, F32, ACT_NONE, 100}, {2, 100, 36, 28, 4, F32, F32, ACT_NONE, 100},
        {2, 60, 640, 320, 32, F32, BF16, ACT_SILU, 0},
        {2, 4096, 640, 320, 32, F32, BF16, ACT_SILU, 0}, {3, 4096, 320, 0, 32, BF16, BF16, ACT_SILU, 0},
        {2, 4096, 320, 0, 32, F32, BF16, ACT_SILU, 0}, {2, 4096, 320, 320, 32, F32, BF16, ACT_SILU, 0},
        {3, 1024, 640, 0, 32, F32, BF16, ACT_NONE, 0}, {2, 1024, 640, 0, 32, BF16, BF16, ACT_SILU, 0},
        {2, 1024, 640, 320, 32, F32, BF16, ACT_SILU, 0}, {2, 1024, 1280, 640, 32, F32, BF16, ACT_SILU, 0},
        {2, 256, 1280, 0, 32, F32, BF16, ACT_SILU, 0}, {2, 256, 1280, 640, 32, F32, BF16, ACT_SILU, 0},
        {9, 64, 1280, 1280, 32, F32, BF16, ACT_SILU, 0}, {3, 64, 1280, 0, 32, BF16, BF16, ACT_SILU, 0},
        {2, 2304, 960, 0, 32, F32, BF16, ACT_SILU, 0}, {1, 65536, 128, 0, 32, F32, BF16, ACT_SILU, 0},
        {2, 4096, 512, 0, 32, F32, F32, ACT_SILU, 0}, {1, 9216, 320, 0, 32, F32, BF16, ACT_SILU, 0},
    };
    int failed = 0;
    for (size_t i = 0; i < (large ? sizeof norms/sizeof *norms : 19); i++)
        failed += group_norm(norms[i]) + (norms[i].type == BF16 ? in_f16(norms[i]) : 0);
    static const int widths[] = {1, 40, 160, 320, 384, 388, 640, 768, 772, 1280, 1283, 1284, 2564};
    for (size_t i = 0; i < sizeof widths/sizeof *widths; i++)
        failed += layer_norm(19 - (int)i, widths[i], F32, i%3 ? F32 : BF16)
                + layer_norm(1 + (int)i, widths[i], F32, i%3 ? BF16 : F32)
                + layer_norm(2 + (int)i, widths[i], F32, F16)
                + layer_norm(3 + (int)i, widths[i], F16, i%3 ? BF16 : i%2 ? F16 : F32);
    failed += transformer_norms(large);
    if (large)
        failed += layer_norm(8193, 320, F32, BF16) + layer_norm(4097, 640, F16, BF16)
                + layer_norm(1025, 1280, F16, BF16);
    return failed;
}

#endif
