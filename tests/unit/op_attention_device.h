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

/* bias (heads,Sq,Sk) is in the memory of ops; NULL: none. */
static void attend_on(const Ops *ops, void *y, const void *q, const void *k, const void *v, DType type, int64_t B,
                      const AttentionCase *c, const int32_t *kv, const float *bias)
{
    const int width = c->heads*c->d, stride = width + c->more;
    const float scale = c->gain/sqrtf((float)c->d);
    if (bias)
        ops->attention_biased(y, width, q, stride, k, stride, v, stride, type, B, c->heads, c->d, c->Sq, c->Sk, bias,
                              scale);
    else
        ops->attention(y, width, q, stride, k, stride, v, stride, type, B, c->heads, c->d, c->Sq, c->Sk,
                       c->shared ? kv : NULL, scale, c->causal);
}

static int attention_with(const AttentionCase *c, DType type, bool biased)
{
    enum { B = 3 };
    const int width = c->heads*c->d, stride = width + c->more;
    const size_t nq = (size_t)(B*c->Sq*stride), nk = (size_t)(B*c->Sk*stride), ny = (size_t)(B*c->Sq*width);
    const size_t size = dtype_size(type), image = (size_t)(c->Sq*width)*size;
    const int32_t kv[B] = {2, 0, 2};
    const size_t nb = biased ? (size_t)(c->heads*c->Sq*c->Sk) : 0;
    char name[160];
    float *bias = biased ? op_values(nb, 5) : NULL;
    for (size_t i = 0; i < nb; i++)
        bias[i] *= 4*c->gain;
    float *dbias = to_device(bias, 4*nb);
    float *q = op_values(nq, 1), *k = op_values(nk, 2), *v = op_values(nk, 3), *want = op_values(ny, 4);
    void *q_t = op_typed(q, type, nq), *k_t = op_typed(k, type, nk), *v_t = op_typed(v, type, nk);
    char *dq = to_device(q_t, nq*size), *dk = to_device(k_t, nk*size), *dv = to_device(v_t, nk*size);
    int32_t *dkv = to_device(kv, sizeof kv);
    char *dy = device_space(ny*size), *one = device_space(image);
    const size_t last = c->shared ? 0 : 2*(size_t)(c->Sk*stride)*size;
    attend_on(gpu, dy, dq, dk, dv, type, B, c, dkv, dbias);
    attend_on(gpu, one, dq + 2*(size_t)(c->Sq*stride)*size, dk + last, dv + last, type, 1, c, dkv + 2, dbias);
    attend_on(cpu, want, q, k, v, F32, B, c, kv, bias);
    int failed = same_on_device("attention/alone", one, dy + 2*image, image);
    float *got = from_device(dy, type, ny);
    failed += test_close(op_name(name, "attention %dx%d+%d %ld-%ld %s gain %g%s%s%s", c->heads, c->d, c->more,
                                 (long)c->Sq, (long)c->Sk, dtype_name(type), (double)c->gain,
                                 c->causal ? " causal" : "", c->shared ? " shared" : "", biased ? " biased" : ""),
                         got, want, ny, op_within(type, 3e-6f*(1 + c->gain), 0.008f), 0);
    gpu->free(dq); gpu->free(dk); gpu->free(dv); gpu->free(dkv); gpu->free(one);
    gpu->free(dbias); free(bias);
    free(q); free(k); free(v); free(want); free(q_t); free(k_t); free(v_t); free(got);
    return failed;
}

static int attention(const AttentionCase *c, DType type)
{
    return attention_with(c, type, false);
}

__attribute__((unused)) static int attention_biased(const AttentionCase *c, DType type)
{
    return attention_with(c, type, true);
}

#endif
