/* SPDX-License-Identifier: MIT */
/* op_sae_dense_device.h -- a device's ops of the variants that keep all of h in memory, against plain loops. Part of
 * op_sae_device.h. */
#ifndef TESTS_UNIT_OP_SAE_DENSE_DEVICE_H
#define TESTS_UNIT_OP_SAE_DENSE_DEVICE_H

#include "tests/unit/device.h"

static int product(int64_t M, int64_t N, int64_t K)
{
    char name[160];
    int failed = 0;
    for (int kind = 0; kind < 8; kind++) {
        const bool add = kind & 1, A_turned = kind & 2, B_turned = kind & 4;
        float *A = op_values((size_t)(M*K), 1), *B = op_values((size_t)(K*N), 2), *C = op_values((size_t)(M*N), 3);
        void *dA = to_device(A, 4*(size_t)(M*K)), *dB = to_device(B, 4*(size_t)(K*N)), *dC = to_device(C,
                                                                                                       4*(size_t)(M*N));
        #pragma omp parallel for
        for (int64_t m = 0; m < M; m++)
            for (int64_t n = 0; n < N; n++) {
                double sum = add ? (double)C[m*N + n] : 0;
                for (int64_t k = 0; k < K; k++)
                    sum += (double)A[A_turned ? k*M + m : m*K + k]*B[B_turned ? n*K + k : k*N + n];
                C[m*N + n] = (float)sum;
            }
        gpu->sae.gemm(dC, add, dA, A_turned, dB, B_turned, M, N, K);
        op_name(name, "gemm %ldx%ldx%ld%s%s%s", (long)M, (long)N, (long)K, add ? " added" : "",
                A_turned ? ", A turned" : "", B_turned ? ", B turned" : "");
        failed += close_floats(name, dC, C, (size_t)(M*N), 4e-6f*sqrtf((float)K));
        gpu->free(dA); gpu->free(dB); gpu->free(dC);
        free(A); free(B); free(C);
    }
    return failed;
}

static int jumps(int64_t N, int F, bool with_threshold)
{
    char name[160];
    const size_t NF = (size_t)N*(size_t)F, bytes = 4*NF, row = 4*(size_t)F;
    const float sparsity = 0.25f, width = 0.5f;
    float *h = op_values(NF, 1), *b = op_values((size_t)F, 2), *t = op_values((size_t)F, 3), *g = op_values(NF, 4),
        *dt = op_values((size_t)F, 5), *z = op_space(bytes);
    int32_t *count = op_space(row);
    void *dev_h = to_device(h, bytes), *dev_b = to_device(b, row), *dev_t = with_threshold ? to_device(t, row) : NULL,
        *dev_g = to_device(g, bytes), *dev_dt = to_device(dt, row), *dev_z = device_space(bytes),
        *dev_count = device_space(row);
    for (int f = 0; f < F; f++) {
        double sum = 0;
        for (int64_t n = 0; n < N; n++) {
            const size_t e = (size_t)n*(size_t)F + (size_t)f;
            const float at = with_threshold ? t[f] : 0;
            h[e] += b[f];
            z[e] = h[e] > at ? h[e] : 0;
            count[f] += z[e] > 0;
            if (with_threshold && fabsf(h[e] - at) < width/2)
                sum += (double)(at*g[e] + sparsity)/width;
            g[e] = !(h[e] > at) ? 0 : with_threshold ? g[e] : g[e] + sparsity;
        }
        dt[f] -= (float)sum;
    }
    gpu->sae.jump(dev_z, dev_h, dev_b, dev_t, N, F);
    gpu->sae.jump_grad(dev_g, dev_dt, dev_h, dev_t, sparsity, width, N, F);
    gpu->sae.count_dense(dev_count, dev_z, N, F);
    op_name(name, "jump %ldx%d%s: h", (long)N, F, with_threshold ? "" : ", ReLU");
    int failed = same_bytes(name, dev_h, h, bytes) + same_bytes("jump/z", dev_z, z, bytes)
                 + same_bytes("jump/gradient", dev_g, g, bytes)
                 + same_bytes("jump/count", dev_count, count, row)
                 + test_ok("jump/most of a row", gpu->sae.row_most(dev_z, N, F) == cpu->sae.row_most(z, N, F));
    failed += close_floats("jump/threshold's gradient", dev_dt, dt, (size_t)F, 8e-6f*sqrtf((float)N));
    gpu->free(dev_h); gpu->free(dev_b); gpu->free(dev_t); gpu->free(dev_g); gpu->free(dev_dt); gpu->free(dev_z);
    gpu->free(dev_count);
    free(h); free(b); free(t); free(g); free(dt); free(z); free(count);
    return failed;
}

static int gates(int64_t N, int F)
{
    char name[160];
    const size_t NF = (size_t)N*(size_t)F, bytes = 4*NF, row = 4*(size_t)F;
    const float sparsity = 0.25f;
    float *h = op_values(NF, 1), *g = op_values(NF, 2), *g_p = op_values(NF, 3), *z = op_space(bytes),
        *p = op_space(bytes);
    float *b_gate = op_values((size_t)F, 4), *r_mag = op_values((size_t)F, 5), *b_mag = op_values((size_t)F, 6);
    float *d[3] = {op_values((size_t)F, 7), op_values((size_t)F, 8), op_values((size_t)F, 9)};
    void *dev_h = to_device(h, bytes), *dev_g = to_device(g, bytes), *dev_g_p = to_device(g_p, bytes),
        *dev_z = device_space(bytes), *dev_p = device_space(bytes), *dev_gate = to_device(b_gate, row),
        *dev_r = to_device(r_mag, row), *dev_mag = to_device(b_mag, row), *dev_d[3];
    for (int k = 0; k < 3; k++)
        dev_d[k] = to_device(d[k], row);
    for (int f = 0; f < F; f++) {
        double sum[3] = {0};
        for (int64_t n = 0; n < N; n++) {
            const size_t e = (size_t)n*(size_t)F + (size_t)f;
            const float gate = h[e] + b_gate[f], scale = expf(r_mag[f]), m = scale*h[e] + b_mag[f];
            p[e] = gate > 0 ? gate : 0;
            z[e] = gate > 0 && m > 0 ? m : 0;
            const float dm = z[e] > 0 ? g[e] : 0, dgate = gate > 0 ? g_p[e] + sparsity : 0;
            g[e] = scale*dm + dgate;
            sum[0] += (double)dgate;
            sum[1] += (double)dm*scale*h[e];
            sum[2] += (double)dm;
        }
        for (int k = 0; k < 3; k++)
            d[k][f] += (float)sum[k];
    }
    gpu->sae.gated(dev_z, dev_p, dev_h, dev_gate, dev_r, dev_mag, N, F);
    gpu->sae.gated_grad(dev_g, dev_g_p, dev_d[0], dev_d[1], dev_d[2], dev_h, dev_gate, dev_r, dev_mag, sparsity, N, F);
    const float tolerance = 8e-6f*sqrtf((float)N);
    int failed = close_floats(op_name(name, "gated %ldx%d: z", (long)N, F), dev_z, z, NF, 1e-6f)
                 + close_floats("gated/p", dev_p, p, NF, 1e-6f) + close_floats("gated/gradient", dev_g, g, NF, 1e-6f)
                 + close_floats("gated/b_gate", dev_d[0], d[0], (size_t)F, tolerance)
                 + close_floats("gated/r_mag", dev_d[1], d[1], (size_t)F, tolerance)
                 + close_floats("gated/b_mag", dev_d[2], d[2], (size_t)F, tolerance);
    for (int k = 0; k < 3; k++) {
        gpu->free(dev_d[k]);
        free(d[k]);
    }
    gpu->free(dev_h); gpu->free(dev_g); gpu->free(dev_g_p); gpu->free(dev_z); gpu->free(dev_p); gpu->free(dev_gate);
    gpu->free(dev_r); gpu->free(dev_mag);
    free(h); free(g); free(g_p); free(z); free(p); free(b_gate); free(r_mag); free(b_mag);
    return failed;
}

/* A NaN in h shows in z and p, as it does on the CPU; the column beside it is a number. */
static int dense_nans(void)
{
    const float h[] = {NAN, 1, 1, NAN}, zero[] = {0, 0};
    void *dev_h = to_device(h, sizeof h), *dev_zero = to_device(zero, sizeof zero), *dev_z = device_space(sizeof h),
        *dev_p = device_space(sizeof h);
    int failed = 0;
    for (int way = 0; way < 3; way++) {
        float z[4], p[4] = {NAN, 0, 0, NAN};
        if (way < 2) {
            gpu->sae.jump(dev_z, dev_h, dev_zero, way ? dev_zero : NULL, 2, 2);
        } else {
            gpu->sae.gated(dev_z, dev_p, dev_h, dev_zero, dev_zero, dev_zero, 2, 2);
            gpu->download(p, dev_p, sizeof p);
        }
        gpu->download(z, dev_z, sizeof z);
        failed += test_ok(way == 2 ? "gated/a NaN stays one" : way ? "jump/a NaN stays one" : "relu/a NaN stays one",
                          isnan(z[0]) && z[1] == 1 && z[2] == 1 && isnan(z[3]) && isnan(p[0]) && isnan(p[3]));
    }
    gpu->free(dev_h); gpu->free(dev_zero); gpu->free(dev_z); gpu->free(dev_p);
    return failed;
}

#endif
