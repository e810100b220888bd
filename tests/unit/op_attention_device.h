/* SPDX-License-Identifier: MIT */
/* op_attention_device.h -- attention on a device against the CPU's, and an image alone against the same among others.
 *
 * Tolerances: op_device.h. */
#ifndef TESTS_UNIT_OP_ATTENTION_DEVICE_H
#define TESTS_UNIT_OP_ATTENTION_DEVICE_H

#include "tests/unit/device.h"

typedef struct AttentionCase {
    int heads, d, more;         /* more: what rows of q, k and v have beside theirs */
    int64_t Sq, Sk;
    bool causal, shared;
    float gain;
} AttentionCase;

static int attention(const AttentionCase *c, DType type)
{
    enum { B = 3 };
    const int width = c->heads*c->d, stride = width + c->more;
    const size_t nq = (size_t)(B*c->Sq*stride), nk = (size_t)(B*c->Sk*stride), ny = (size_t)(B*c->Sq*width);
    const size_t size = dtype_size(type), image = (size_t)(c->Sq*width)*size;
    const int32_t kv[B] = {2, 0, 2};
    const float scale = c->gain/sqrtf((float)c->d);
    char name[160];
    float *q = op_values(nq, 1), *k = op_values(nk, 2), *v = op_values(nk, 3), *want = op_values(ny, 4);
    void *q_t = op_typed(q, type, nq), *k_t = op_typed(k, type, nk), *v_t = op_typed(v, type, nk);
    char *dq = to_device(q_t, nq*size), *dk = to_device(k_t, nk*size), *dv = to_device(v_t, nk*size);
    int32_t *dkv = to_device(kv, sizeof kv);
    char *dy = device_space(ny*size), *one = device_space(image);
    const size_t last = c->shared ? 0 : 2*(size_t)(c->Sk*stride)*size;
    gpu->attention(dy, width, dq, stride, dk, stride, dv, stride, type, B, c->heads, c->d, c->Sq, c->Sk,
                   c->shared ? dkv : NULL, scale, c->causal);
    gpu->attention(one, width, dq + 2*(size_t)(c->Sq*stride)*size, stride, dk + last, stride, dv + last, stride, type,
                   1, c->heads, c->d, c->Sq, c->Sk, c->shared ? dkv + 2 : NULL, scale, c->causal);
    cpu->attention(want, width, q, stride, k, stride, v, stride, F32, B, c->heads, c->d, c->Sq, c->Sk,
                   c->shared ? kv : NULL, scale, c->causal);
    int failed = same_on_device("attention/alone", one, dy + 2*image, image);
    float *got = from_device(dy, type, ny);
    failed += test_close(op_name(name, "attention %dx%d+%d %ld-%ld %s gain %g%s%s", c->heads, c->d, c->more,
                                 (long)c->Sq,
                                 (long)c->Sk, dtype_name(type), (double)c->gain, c->causal ? " causal" : "",
                                 c->shared ? " shared" : ""),
                         got, want, ny, op_within(type, 3e-6f*(1 + c->gain), 0.008f), 0);
    gpu->free(dq); gpu->free(dk); gpu->free(dv); gpu->free(dkv); gpu->free(one);
    free(q); free(k); free(v); free(want); free(q_t); free(k_t); free(v_t); free(got);
    return failed;
}

#endif
