/* SPDX-License-Identifier: MIT */
/* device.h -- what tests of a device's ops share: the two tables, and copies to the device and back. */
#ifndef TESTS_UNIT_DEVICE_H
#define TESTS_UNIT_DEVICE_H

#include "tests/unit/op_test.h"

__attribute__((unused)) static const Ops *cpu, *gpu;

__attribute__((unused)) static void *device_space(size_t bytes)
{
    Err e = {0};
    void *p = gpu->alloc(bytes, &e);
    if (!p) {
        printf("FAIL %s\n", e.text);
        exit(1);
    }
    return p;
}

/* A copy on the device; NULL of NULL. */
__attribute__((unused)) static void *to_device(const void *host, size_t bytes)
{
    if (!host)
        return NULL;
    void *p = device_space(bytes);
    gpu->upload(p, host, bytes);
    return p;
}

/* n values of `type` from the device, as floats, and the device's memory freed. The caller frees. */
__attribute__((unused)) static float *from_device(void *p, DType type, size_t n)
{
    void *raw = op_space(n*dtype_size(type));
    gpu->download(raw, p, n*dtype_size(type));
    gpu->free(p);
    float *x = op_floats(raw, type, n);
    free(raw);
    return x;
}

__attribute__((unused)) static int same_on_device(const char *name, const void *a, const void *b, size_t bytes)
{
    void *x = op_space(bytes), *y = op_space(bytes);
    gpu->download(x, a, bytes);
    gpu->download(y, b, bytes);
    const int failed = test_same(name, x, y, bytes);
    free(x);
    free(y);
    return failed;
}

__attribute__((unused)) static int same_bytes(const char *name, const void *device, const void *want, size_t bytes)
{
    void *got = op_space(bytes);
    gpu->download(got, device, bytes);
    const int failed = test_same(name, got, want, bytes);
    free(got);
    return failed;
}

/* n f32 on the device within tolerance + 1e-5 |want| */
__attribute__((unused)) static int close_floats(const char *name, const void *device, const float *want, size_t n,
                                                float tolerance)
{
    float *got = op_space(sizeof *got*n);
    gpu->download(got, device, sizeof *got*n);
    const int failed = test_close(name, got, want, n, tolerance, 1e-5f);
    free(got);
    return failed;
}

#endif
