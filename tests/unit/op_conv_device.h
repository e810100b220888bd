/* SPDX-License-Identifier: MIT */
/* op_conv_device.h -- a device's convolutions and linear layers against the CPU's, for the tests of its ops.
 *
 * Tolerances: op_device.h. */
#ifndef TESTS_UNIT_OP_CONV_DEVICE_H
#define TESTS_UNIT_OP_CONV_DEVICE_H

#include "tests/unit/device.h"
#include "tests/unit/op_conv.h"

typedef struct ConvCase {
    int in, out, kernel, stride, before, after;
    int64_t B, H, W;
} ConvCase;

static int conv_rows;           /* ConvSpec.rows of the layers that are made */

/* Its weights are of two types. */
static Conv *conv_on(const Ops *ops, const ConvCase *c, DType x_type, DType y_type, Activation act, const float *w,
                     const float *b)
{
    const ConvSpec spec = {c->in, c->out, c->kernel, c->stride, c->before, c->after, x_type, y_type, act,
                           conv_rows};
    return op_conv_create(ops, &spec, w, BF16, b);
}

/* Error of a sum of K products in f32; gated, that of one is multiplied by another, and a device may round both to
 * y_type before they are, and before f is gelu_tanh: x f'(x) is 0.2 at most below 0, and above it 1.3 f(x). */
static float conv_tolerance(float K, DType type, DType y_type, Activation act)
{
    const float sum = 4e-6f*sqrtf(K)*(type == F32 ? 1 : 1 + K/1024);
    return act == ACT_GEGLU     ? sqrtf(K)*op_within(y_type, sum, 1e-3f)
         : act == ACT_GELU_TANH ? sum + op_within(y_type, 0, 8e-4f) : sum;
}

/* Against the CPU's f32 (of rounded inputs), the last image or row alone, then both added to what was there. */
static int conv(const ConvCase *c, DType type, DType y_type, Activation act, bool with_bias)
{
    const int pads = c->before + c->after;
    const int64_t Ho = (c->H + pads - c->kernel)/c->stride + 1, Wo = (c->W + pads - c->kernel)/c->stride + 1;
    const size_t image = (size_t)(c->H*c->W*c->in), nx = (size_t)c->B*image,
        nw = (size_t)c->out*(size_t)(c->in*c->kernel*c->kernel);
    const size_t y_image = (size_t)(Ho*Wo*(act == ACT_GEGLU ? c->out/2 : c->out)), ny = (size_t)c->B*y_image;
    char name[160];
    float *x = op_values(nx, 1), *w = op_values(nw, 2), *b = with_bias ? op_values((size_t)c->out, 3) : NULL;
    float *want = op_values(ny, 4), *sum = op_values(ny, 5);
    free(op_typed(w, type == F16 ? F16 : BF16, nw));
    void *x_t = op_typed(x, type, nx);
    Conv *host = conv_on(cpu, c, F32, F32, act, w, b), *dev = conv_on(gpu, c, type, y_type, act, w, b);
    char *dx = to_device(x_t, nx*dtype_size(type)), *dy = device_space(ny*dtype_size(y_type)),
        *one = device_space(y_image*dtype_size(y_type));
    cpu->conv_run(host, want, x, c->B, c->H, c->W, false);
    gpu->conv_run(dev, dy, dx, c->B, c->H, c->W, false);
    gpu->conv_run(dev, one, dx + (size_t)(c->B - 1)*image*dtype_size(type), 1, c->H, c->W, false);
    op_name(name, "conv %d-%d k%d s%d %ldx%ldx%ld %s-%s act %d%s", c->in, c->out, c->kernel, c->stride, (long)c->B,
            (long)c->H, (long)c->W, dtype_name(type), dtype_name(y_type), act, with_bias ? " bias" : "");
    int failed = same_on_device("conv/alone", one, dy + (size_t)(c->B - 1)*y_image*dtype_size(y_type),
                                y_image*dtype_size(y_type));
    float *got = from_device(dy, y_type, ny);
    const float K = (float)(c->in*c->kernel*c->kernel);
    failed += test_close(name, got, want, ny, conv_tolerance(K, type, y_type, act),
                         op_within(y_type, 2e-5f, act == ACT_GEGLU ? 0.015f : act == ACT_GELU_TANH ? 0.01f : 0.005f));
    if (y_type != BF16 && act == ACT_NONE) {        /* a library may order the sum otherwise where it adds to y */
        const size_t size = dtype_size(y_type);
        char *sum_t = op_typed(sum, y_type, ny), *dsum = to_device(sum_t, size*ny),
            *last = to_device(sum_t + size*(ny - y_image), size*y_image);
        float rounded = 0;              /* by f16: what is added, and the sum */
        for (size_t i = 0; i < ny; i++) {
            rounded = fmaxf(rounded, fabsf(want[i])*op_within(y_type, 0, 0.004f));
            want[i] += sum[i];
        }
        gpu->conv_run(dev, dsum, dx, c->B, c->H, c->W, true);
        gpu->conv_run(dev, last, dx + (size_t)(c->B - 1)*image*dtype_size(type), 1, c->H, c->W, true);
        failed += same_on_device("conv/added alone", last, dsum + size*(ny - y_image), size*y_image);
        gpu->free(last);
        float *added = from_device(dsum, y_type, ny);
        failed += test_close("conv/added", added, want, ny, conv_tolerance(K, type, y_type, act) + rounded,
                             op_within(y_type, 2e-5f, 0.004f));
        free(added);
        free(sum_t);
    }
    cpu->conv_free(host); gpu->conv_free(dev); gpu->conv_free(NULL); gpu->free(dx); gpu->free(one);
    free(x); free(w); free(b); free(want); free(sum); free(x_t); free(got);
    return failed;
}

#endif
