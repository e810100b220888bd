/* SPDX-License-Identifier: MIT */
/* op_device.h -- a device's ops against the CPU's, which have tests of their own: every op at shapes of each kind that
 * its kernels tell apart, and an image or row alone against itself among others, byte for byte.
 *
 * op_cuda.c runs it on a GPU, op_simt.c on the same kernels played on the host; there `large` is false.
 *
 * Tolerances: f32 sums of K products in another order, 4e-6 sqrt(K) as in op_conv.c; tensor cores cut each addition of
 * 16 products off instead of rounding it, so that errors add up with K; bf16 outputs are rounded to 8 bits, so a
 * neighbour is 2^-8 = 0.004 off; in bf16 attention p is rounded too. f16 has 11 bits, and an eighth of these. */
#ifndef TESTS_UNIT_OP_DEVICE_H
#define TESTS_UNIT_OP_DEVICE_H

#include "tests/unit/op_attention_device.h"
#include "tests/unit/op_conv_device.h"

/* ---- values to values ---- */

static int elementwise(size_t n)
{
    int failed = 0;
    char name[160];
    float *x = op_values(n, 1), *b = op_values(n, 2), *c = op_values(n, 3), *want = op_values(n, 4);
    for (size_t i = 0; i < n; i++)
        x[i] *= 12;
    const float ends[] = {65519, 65520, -1e6f, 3e-8f, 1e-5f};          /* f16's, and less than its normal numbers */
    memcpy(b, ends, sizeof ends);
    void *dx = to_device(x, 4*n), *db = to_device(b, 4*n), *dc = to_device(c, 4*n);
    static const DType types[] = {F32, BF16, F16};
    for (int act = ACT_NONE; act <= ACT_RELU; act++)
        for (int t = 0; t < 3; t++) {
            const DType type = types[t];
            void *dy = device_space(n*dtype_size(type));
            gpu->activate(dy, type, dx, (int64_t)n, (Activation)act);
            cpu->activate(want, F32, x, (int64_t)n, (Activation)act);
            float *got = from_device(dy, type, n);
            failed += test_close(op_name(name, "activate %d %s, %zu", act, dtype_name(type), n), got, want, n, 4e-6f,
                                 op_within(type, 1e-6f, 0.004f));
            free(got);
        }
    float *u = op_values(n, 5);
    for (int pass = 0; pass < 10; pass++) {
        const Prediction p = (Prediction)((pass + 1) % 3);        /* from the third pass on */
        void *dy = to_device(u, 4*n);
        cpu->copy(want, u, 4*n);
        if (pass == 0) {
            gpu->add(dy, dx, (int64_t)n);
            cpu->add(want, x, (int64_t)n);
        } else if (pass == 1) {
            gpu->subtract(dy, dx, db, (int64_t)n);
            cpu->subtract(want, x, b, (int64_t)n);
        } else if (pass < 5) {
            gpu->ddim_step(dy, pass == 2 ? dc : NULL, db, 7.5f, 0.8f, 0.6f, 0.9f, 0.4f, p, (int64_t)n);
            cpu->ddim_step(want, pass == 2 ? c : NULL, b, 7.5f, 0.8f, 0.6f, 0.9f, 0.4f, p, (int64_t)n);
        } else if (pass >= 8) {
            static const float weight[] = {55, -59, 37, -9};
            float *last = op_values(n, 6), *dlast = to_device(last, 4*n);
            gpu->multistep(dy, pass == 8 ? dlast : NULL, pass == 8 ? dc : NULL, db, 7.5f,
                           (const float *const []){dx, dy, dlast}, weight, 1/24.0f, (int64_t)n);
            cpu->multistep(want, pass == 8 ? last : NULL, pass == 8 ? c : NULL, b, 7.5f,
                           (const float *const []){x, want, last}, weight, 1/24.0f, (int64_t)n);
            float *left = from_device(dlast, F32, n);
            failed += test_same(op_name(name, "multistep's output kept, %zu", n), left, last, 4*n);
            free(left); free(last);
        } else {
            float *was = op_values(n, 6), *dwas = to_device(was, 4*n);
            gpu->dpm_step(dy, dwas, pass == 5 ? dc : NULL, db, 7.5f, 0.8f, 0.6f, 0.9f, 0.4f, 0.3f, p, (int64_t)n);
            cpu->dpm_step(want, was, pass == 5 ? c : NULL, b, 7.5f, 0.8f, 0.6f, 0.9f, 0.4f, 0.3f, p, (int64_t)n);
            float *left = from_device(dwas, F32, n);
            failed += test_same(op_name(name, "dpm's x0, %zu", n), left, was, 4*n);
            free(left); free(was);
        }
        float *got = from_device(dy, F32, n);
        op_name(name, "add, subtract, ddim and dpm of eps, v, x0, multistep: %d, %zu", pass, n);
        failed += test_same(name, got, want, 4*n);
        free(got);
    }
    for (int from = 0; from < 3; from++)
        for (int to = 0; to < 3; to++) {
            void *as = op_typed(b, types[from], n), *to_cpu = op_space(4*n), *to_gpu = op_space(4*n);
            void *das = to_device(as, n*dtype_size(types[from])), *dy = device_space(n*dtype_size(types[to]));
            cpu->convert(to_cpu, types[to], as, types[from], (int64_t)n);
            gpu->convert(dy, types[to], das, types[from], (int64_t)n);
            gpu->download(to_gpu, dy, n*dtype_size(types[to]));
            failed += test_same(op_name(name, "convert %s to %s", dtype_name(types[from]), dtype_name(types[to])),
                                to_gpu, to_cpu, n*dtype_size(types[to]));
            gpu->free(das); gpu->free(dy); free(as); free(to_cpu); free(to_gpu);
        }
    for (int t = 0; t < 3; t++) {
        const DType type = types[t];
        float *left = op_values(n, 6), *right = op_values(n, 7);
        void *a_t = op_typed(left, type, n), *b_t = op_typed(right, type, n);
        void *da = to_device(a_t, n*dtype_size(type)), *db_t = to_device(b_t, n*dtype_size(type));
        for (size_t i = 0; i < n; i++)
            left[i] *= right[i];
        void *product = op_typed(left, type, n);
        gpu->multiply(da, db_t, type, (int64_t)n);
        failed += same_bytes(op_name(name, "multiply %s, %zu", dtype_name(type), n), da, product, n*dtype_size(type));
        gpu->free(da); gpu->free(db_t); free(left); free(right); free(a_t); free(b_t); free(product);
    }
    for (int to = 0; to < 3; to++) {
        void *to_cpu = op_space(4*n), *to_gpu = op_space(4*n), *dy = device_space(n*dtype_size(types[to]));
        float *with_bad = op_space(4*n);
        uint64_t want_unfit = UINT64_MAX, unfit = UINT64_MAX, *dunfit = to_device(&unfit, sizeof unfit);
        memcpy(with_bad, b, 4*n);
        with_bad[n/4] = -0x1.ffdfp15f;                  /* f16 holds it, as 65504 */
        with_bad[n/3] = types[to] == F16 ? 65504 : 0x1.fefffep127f;
        with_bad[n/2] = with_bad[n - 1] = to == 0 ? -INFINITY : -dtype_bound(types[to]);
        float *dbad = to_device(with_bad, 4*n);
        cpu->store(to_cpu, types[to], with_bad, (int64_t)n, &want_unfit);
        gpu->store(dy, types[to], dbad, (int64_t)n, dunfit);
        gpu->download(to_gpu, dy, n*dtype_size(types[to]));
        gpu->download(&unfit, dunfit, sizeof unfit);
        failed += test_ok(op_name(name, "store %s: what does not fit", dtype_name(types[to])), unfit == want_unfit);
        failed += test_same(name, to_gpu, to_cpu, n*dtype_size(types[to]));
        gpu->free(dy); gpu->free(dunfit); gpu->free(dbad); free(to_cpu); free(to_gpu); free(with_bad);
    }
    gpu->free(dx); gpu->free(db); gpu->free(dc);
    free(x); free(b); free(c); free(want); free(u);
    return failed;
}

/* ---- rows moved ---- */

static int moves(int C, int64_t N)
{
    const size_t na = (size_t)N*(size_t)C;
    char name[160];
    int failed = 0;
    float *a = op_values(na, 1), *want = op_values(6*(size_t)C, 3);
    void *da = to_device(a, 4*na);

    /* N points as 2 images of 2 rows; sides to twice and to odd ones; from f32 and from y's type */
    static const DType types[] = {F32, BF16, F16, BF16, F16};
    for (int t = 0; t < 5; t++) {
        const int64_t H = 2, W = N/4, Ho = t%2 ? 4 : 3, Wo = t ? 2*W : W + 1;
        const size_t n = (size_t)(2*Ho*Wo*C);
        const DType type = types[t], x_type = t > 2 ? type : F32;
        float *plain = op_space(4*n), *rounded = op_values(na, 1);
        void *x_t = op_typed(rounded, x_type, na), *dx = to_device(x_t, na*dtype_size(x_type));
        cpu->upsample(plain, F32, rounded, F32, 2, H, W, C, Ho, Wo);
        void *y = op_typed(plain, type, n), *back = op_space(4*n), *dy = device_space(n*dtype_size(type));
        gpu->upsample(dy, type, dx, x_type, 2, H, W, C, Ho, Wo);
        gpu->download(back, dy, n*dtype_size(type));
        failed += test_same(op_name(name, "upsample %d, %ldx%ld to %ldx%ld %s-%s", C, (long)H, (long)W, (long)Ho,
                                    (long)Wo, dtype_name(x_type), dtype_name(type)), back, y, n*dtype_size(type));
        if (x_type == type) {
            cpu->upsample(back, type, x_t, x_type, 2, H, W, C, Ho, Wo);
            failed += test_same("the same on the CPU", back, y, n*dtype_size(type));
        }
        gpu->free(dx); gpu->free(dy); free(x_t); free(y); free(back); free(plain); free(rounded);
    }

    int32_t ids[6] = {3, 0, 1, (int32_t)N - 1, 2, 2};
    void *dids = to_device(ids, sizeof ids);
    for (int with = 0; with < 2; with++) {
        void *dy = device_space(4*6*(size_t)C);
        gpu->embed(dy, da, with ? da : NULL, dids, 6, 3, C);
        cpu->embed(want, a, with ? a : NULL, ids, 6, 3, C);
        float *got = from_device(dy, F32, 6*(size_t)C);
        failed += test_same(op_name(name, "embed %d", C), got, want, 4*6*(size_t)C);
        free(got);
    }
    gpu->free(da); gpu->free(dids);
    free(a); free(want);
    return failed;
}

/* 2 images of 3 x 5 patches */
static int unpatch(int p, int C)
{
    const size_t n = (size_t)(2*3*5*p*p*C);
    char name[160];
    float *x = op_values(n, 1), *want = op_values(n, 2), *dx = to_device(x, 4*n), *dy = device_space(4*n);
    cpu->unpatch(want, x, 2, 3, 5, p, C);
    gpu->unpatch(dy, dx, 2, 3, 5, p, C);
    const int failed = same_bytes(op_name(name, "unpatch %d of %d", p, C), dy, want, 4*n);
    gpu->free(dx); gpu->free(dy); free(x); free(want);
    return failed;
}

/* All of it. large: sizes of Stable Diffusion too. */
static int ops_against_cpu(const Ops *device, bool large)
{
    cpu = cpu_ops();
    gpu = device;
    int failed = elementwise(1000) + elementwise(1003);
    failed += moves(8, 20) + moves(5, 12) + unpatch(2, 16) + unpatch(3, 5) + unpatch(1, 4);

    static const ConvCase convs[] = {
        {4, 64, 3, 1, 1, 1, 2, 8, 8}, {64, 4, 3, 1, 1, 1, 2, 8, 8}, {64, 64, 3, 2, 1, 1, 3, 8, 8},
        {16, 16, 3, 2, 0, 1, 2, 8, 8},
        {5, 7, 3, 1, 1, 1, 2, 7, 5}, {3, 32, 8, 8, 0, 0, 2, 16, 16}, {32, 72, 1, 1, 0, 0, 1, 10, 10},
        {8, 8, 1, 2, 0, 0, 2, 5, 7},
        {64, 128, 1, 1, 0, 0, 3, 77, 1}, {7, 5, 1, 1, 0, 0, 4, 1, 1}, {160, 320, 1, 1, 0, 0, 2, 130, 1},
        {64, 128, 1, 1, 0, 0, 1, 600, 1}, {24, 1, 3, 1, 1, 1, 1, 6, 6},
        {2048, 16, 1, 1, 0, 0, 3, 5, 1}, {256, 16, 3, 1, 1, 1, 2, 4, 3}, {232, 24, 3, 2, 0, 1, 2, 4, 4},
        {320, 320, 3, 1, 1, 1, 2, 64, 64}, {1280, 1280, 3, 1, 1, 1, 3, 8, 8}, {640, 1920, 1, 1, 0, 0, 2, 1024, 1},
        {4, 320, 3, 1, 1, 1, 2, 64, 64}, {320, 4, 3, 1, 1, 1, 2, 64, 64}, {128, 3, 3, 1, 1, 1, 1, 128, 128},
        {768, 640, 1, 1, 0, 0, 2, 77, 1}, {640, 640, 3, 2, 1, 1, 2, 32, 32},
    };
    for (size_t i = 0; i < (large ? 24 : 16); i++)
        for (int t = 0; t < 3; t++) {
            static const DType types[] = {F32, BF16, F16};
            const DType type = types[t];
            failed += conv(&convs[i], type, F32, ACT_NONE, i%2);
            failed += conv(&convs[i], type, type, (Activation)(i%ACT_GEGLU), !(i%2));
            failed += type != F16 ? conv(&convs[i], type, F16, ACT_NONE, i%2) : 0;
        }
    static const ConvCase few[] = {             /* rows, said to be few */
        {72, 100, 1, 1, 0, 0, 9, 1, 1}, {8, 5, 1, 1, 0, 0, 3, 1, 1}, {1280, 20, 1, 1, 0, 0, 1, 1, 1},
    };
    conv_rows = 2;
    for (int i = 0; i < 3; i++)
        failed += conv(&few[i], F32, F32, ACT_SILU, true) + conv(&few[i], F32, F32, ACT_NONE, i%2)
                + conv(&few[i], BF16, BF16, ACT_NONE, true);
    conv_rows = 0;
    static const ConvCase gated[] = {
        {160, 256, 1, 1, 0, 0, 3, 70, 1}, {7, 6, 1, 1, 0, 0, 2, 11, 1}, {24, 40, 1, 1, 0, 0, 300, 2, 1},
        {320, 2560, 1, 1, 0, 0, 7, 9000, 1}, {1280, 10240, 1, 1, 0, 0, 2, 300, 1},
    };
    for (size_t i = 0; i < (large ? 5 : 3); i++)
        for (int bias = 0; bias < 2; bias++)
            failed += conv(&gated[i], F32, F32, ACT_GEGLU, bias) + conv(&gated[i], BF16, BF16, ACT_GEGLU, bias)
                    + conv(&gated[i], F16, F16, ACT_GEGLU, bias);

    /* in a pass of its own over a library's product, or with the product */
    static const ConvCase activated[] = {
        {64, 128, 1, 1, 0, 0, 3, 77, 1}, {160, 24, 1, 1, 0, 0, 2, 33, 1}, {20, 40, 1, 1, 0, 0, 2, 9, 1},
        {1536, 6144, 1, 1, 0, 0, 2, 1024, 1},
    };
    for (size_t i = 0; i < (large ? 4 : 3); i++)
        failed += conv(&activated[i], F32, F32, ACT_GELU_TANH, i%2)
                + conv(&activated[i], BF16, BF16, ACT_GELU_TANH, true)
                + conv(&activated[i], F16, F16, ACT_GELU_TANH, i%2)
                + conv(&activated[i], BF16, F32, ACT_GELU_TANH, true);

    static const AttentionCase attentions[] = {
        {2, 40, 0, 70, 77, false, true, 1}, {2, 32, 8, 130, 130, true, false, 1}, {1, 64, 3, 33, 65, false, false, 40},
        {1, 80, 0, 65, 10, false, true, 1}, {3, 5, 3, 7, 9, false, false, 1}, {1, 1, 0, 1, 1, false, false, 1},
        {1, 160, 0, 20, 70, true, false, 1}, {1, 128, 0, 20, 20, false, false, 1}, {1, 200, 8, 17, 66, false, true, 1},
        {1, 513, 3, 9, 67, true, false, 1}, {1, 37, 2, 66, 130, true, true, 40},
        {2, 40, 8, 19, 300, false, false, 1}, {1, 160, 0, 5, 257, false, false, 40},
        {2, 40, 0, 33, 154, false, true, 1}, {1, 64, 64, 18, 1155, false, true, 1},     /* texts of 2 and 15 chunks */
        {8, 40, 0, 4096, 4096, false, false, 1}, {8, 80, 0, 1024, 77, false, true, 1},
        {8, 160, 0, 256, 256, false, false, 1},
        {1, 512, 0, 4096, 4096, false, false, 1}, {12, 64, 0, 77, 77, true, false, 1},
        {8, 40, 640, 4096, 77, false, true, 1}, {10, 64, 1280, 1000, 1030, false, false, 40},
        {8, 80, 1280, 1024, 1024, false, false, 1},
        {8, 40, 320, 4096, 231, false, true, 1}, {10, 64, 640, 1024, 1155, false, true, 1},
    };
    for (size_t i = 0; i < (large ? 25 : 15); i++)
        failed += attention(&attentions[i], F32) + attention(&attentions[i], BF16) + attention(&attentions[i], F16);
    static const AttentionCase biased[] = {
        {3, 64, 0, 77, 77, false, false, 1}, {2, 32, 8, 70, 130, false, false, 1}, {1, 64, 3, 33, 65, false, false, 40},
        {2, 5, 0, 9, 3, false, false, 1}, {1, 80, 0, 20, 70, false, false, 1}, {1, 64, 64, 130, 200, false, false, 1},
        {32, 64, 6144, 256, 256, false, false, 1}, {64, 64, 0, 512, 512, false, false, 1},
    };
    for (size_t i = 0; i < (large ? 8 : 6); i++)
        failed += attention_biased(&biased[i], F32) + attention_biased(&biased[i], BF16)
                + attention_biased(&biased[i], F16);
    return failed;
}

#endif
