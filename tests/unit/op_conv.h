/* SPDX-License-Identifier: MIT */
/* op_conv.h -- a convolution or linear layer on any table of ops, for the tests of op_conv.c and of devices. */
#ifndef TESTS_UNIT_OP_CONV_H
#define TESTS_UNIT_OP_CONV_H

#include "tests/unit/op_test.h"

/* Stacked of two parts, a third of the outputs first; the second's weights are given as second_type. b may be NULL. */
static Conv *op_conv_create(const Ops *ops, const ConvSpec *s, const float *w, DType second_type, const float *b)
{
    const int cut = s->out/3;
    const size_t K = (size_t)(s->in*s->kernel*s->kernel), n = K*(size_t)(s->out - cut);
    float *second = op_space(n*sizeof *second);
    memcpy(second, w + (size_t)cut*K, n*sizeof *w);
    void *as = op_typed(second, second_type, n);
    const Weight parts[] = {
        {.name = "w0", .type = F32, .ndim = 4, .dim = {cut, s->in, s->kernel, s->kernel}, .data = w},
        {.name = "w1", .type = second_type, .ndim = 4, .dim = {s->out - cut, s->in, s->kernel, s->kernel}, .data = as},
        {.name = "b0", .type = F32, .ndim = 1, .dim = {cut}, .data = b},
        {.name = "b1", .type = F32, .ndim = 1, .dim = {s->out - cut}, .data = b ? b + cut : NULL},
    };
    const Weight *weight[] = {&parts[0], &parts[1]}, *bias[] = {&parts[2], &parts[3]};
    const int skip = cut == 0;
    Conv *conv = NULL;
    Err e = {0};
    if (ops->conv_create(&conv, s, weight + skip, b ? bias + skip : NULL, 2 - skip, &e)) {
        printf("FAIL %s\n", e.text);
        exit(1);
    }
    free(second);
    free(as);
    return conv;
}

#endif
