/* SPDX-License-Identifier: MIT */
/* op_sae_decode_device.h -- a device's decoding and steering against the CPU's; a part of op_sae_device.h. */
#ifndef TESTS_UNIT_OP_SAE_DECODE_DEVICE_H
#define TESTS_UNIT_OP_SAE_DECODE_DEVICE_H

#include "tests/unit/op_sae_dense_device.h"

/* ---- kept features ---- */

/* a (N,K), some of it 0, i in [0,F), every third entry a feature that many have */
static void make_codes(float *a, int32_t *i, int64_t n, int F)
{
    float *v = op_values((size_t)n, 31);
    for (int64_t e = 0; e < n; e++) {
        a[e] = v[e] > 0 ? v[e] : 0;
        i[e] = e%3 ? (int32_t)((uint32_t)e*2654435761u%(uint32_t)F) : F/2;
    }
    free(v);
}

static int decode(int64_t N, int D, int F, int K)
{
    char name[160];
    const size_t ND = (size_t)N*(size_t)D, FD = (size_t)F*(size_t)D, NK = (size_t)N*(size_t)K;
    float *W = op_values(FD, 2), *b = op_values((size_t)D, 3), *a = op_space(4*NK), *want = op_space(4*ND);
    int32_t *i = op_space(4*NK);
    make_codes(a, i, (int64_t)NK, F);
    void *dW = to_device(W, 4*FD), *db = to_device(b, 4*(size_t)D), *da = to_device(a, 4*NK), *di = to_device(i, 4*NK),
        *dy = device_space(4*ND);
    const float tolerance = 4e-6f*sqrtf((float)K);
    op_name(name, "decode %ldx%d K %d", (long)N, D, K);
    cpu->sae.decode(want, a, i, W, b, N, D, K);
    gpu->sae.decode(dy, da, di, dW, db, N, D, K);
    int failed = close_floats(name, dy, want, ND, tolerance);
    cpu->sae.decode(want, a, i, W, NULL, N, D, K);
    gpu->sae.decode(dy, da, di, dW, NULL, N, D, K);
    failed += close_floats("decode/without b", dy, want, ND, tolerance);
    gpu->free(dW); gpu->free(db); gpu->free(da); gpu->free(di); gpu->free(dy);
    free(W); free(b); free(a); free(want); free(i);
    return failed;
}

/* Every (F/count)th feature is turned, one way or another, those of set 1 not; row 0 keeps none of them. */
static int steer(int64_t N, int D, int F, int K, int count, bool all, bool shared)
{
    char name[160];
    const size_t ND = (size_t)N*(size_t)D, FD = (size_t)F*(size_t)D, NK = (size_t)N*(size_t)K;
    const float share[] = {1, 0.25f, 0, 0.5f, 2};
    float *x = op_values(ND, 1), *W = op_values(FD, 2), *a = op_space(4*NK), *want = op_space(4*ND);
    int32_t *i = op_space(4*NK), *place = op_space(4*(size_t)F);
    SaeTurn *turn = op_space(sizeof *turn*(size_t)count);
    make_codes(a, i, (int64_t)NK, F);
    for (int j = 0; j < K; j++)
        i[j] = F - 1;
    for (int f = 0; f < F; f++)
        place[f] = -1;
    for (int p = 0; p < count; p++) {
        turn[p] = (SaeTurn){p*(F/count), p%4 == 3, p%3 == 1 ? -INFINITY : 0.2f, p%2 ? 0 : -2, p%5 ? 0.5f : 0};
        place[turn[p].feature] = p;
    }
    x[0] = -0.0f;
    void *dx = to_device(x, 4*ND), *dW = to_device(W, 4*FD), *da = to_device(a, 4*NK), *di = to_device(i, 4*NK),
        *dy = device_space(4*ND);
    SaeTurns t = {.turn = turn, .place = place, .count = count, .sets = 1, .all = all,
                  .share = shared ? share : NULL, .shares = 5, .first = 3};
    SaeTurns d = t;
    d.turn = to_device(turn, sizeof *turn*(size_t)count);
    d.place = to_device(place, 4*(size_t)F);
    d.share = shared ? to_device(share, sizeof share) : NULL;
    const float tolerance = 4e-6f*sqrtf((float)(K + (all ? count : 0)));
    op_name(name, "steer %ldx%d K %d, %d of %d%s%s", (long)N, D, K, count, F, all ? ", all" : "",
            shared ? ", shared" : "");
    cpu->sae.steer(want, x, a, i, &t, W, N, D, K);
    gpu->sae.steer(dy, dx, da, di, &d, dW, N, D, K);
    int failed = close_floats(name, dy, want, ND, tolerance)
                 + test_ok("steer/something is changed", memcmp(want, x, 4*ND) != 0);
    gpu->sae.steer(dx, dx, da, di, &d, dW, N, D, K);
    failed += close_floats("steer/in place", dx, want, ND, tolerance);
    if (!all)
        failed += same_bytes("steer/no change is bit for bit", dx, x, 4*(size_t)D)
                + same_bytes("steer/no change is bit for bit, elsewhere", dy, x, 4*(size_t)D);
    gpu->free(dx); gpu->free(dW); gpu->free(da); gpu->free(di); gpu->free(dy);
    gpu->free((void *)d.turn); gpu->free((void *)d.place); gpu->free((void *)d.share);
    free(x); free(W); free(a); free(want); free(i); free(place); free(turn);
    return failed;
}

#endif
