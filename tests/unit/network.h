/* SPDX-License-Identifier: MIT */
/* network.h -- what the tests of the networks that draw share: allocations that are counted, hooks, noise. */
#ifndef TESTS_UNIT_NETWORK_H
#define TESTS_UNIT_NETWORK_H

#include "kernels/op.h"
#include "src/models/hooks.h"

/* ---- the backend with its allocations counted, from count_allocations to stop_counting ---- */

static const Ops *uncounted;
static Ops counting;
static int allocations;

static void *counting_alloc(size_t bytes, Err *e)
{
    allocations++;
    return uncounted->alloc(bytes, e);
}

__attribute__((unused)) static void count_allocations(void)
{
    counting = *(uncounted = op);
    counting.alloc = counting_alloc;
    allocations = 0;
    op = &counting;
}

__attribute__((unused)) static int stop_counting(void)
{
    op = uncounted;
    return allocations;
}

/* ---- hooks: one that counts its calls in an int, and one that keeps what it is given ---- */

__attribute__((unused)) static int count_call(void *context, const HookCall *call, Err *e)
{
    (void)call;
    (void)e;
    ++*(int *)context;
    return 0;
}

typedef struct Seen { float *output, *input; } Seen;

__attribute__((unused)) static int see(void *context, const HookCall *call, Err *e)
{
    Seen *s = context;
    const size_t n = (size_t)(call->B*call->H*call->W*call->C);
    (void)e;
    op->download(s->output, call->act, n*sizeof(float));
    if (call->input)
        op->download(s->input, call->input, n*sizeof(float));
    return 0;
}

/* ---- values in -1..1 ---- */

__attribute__((unused)) static float noise(unsigned *seed)
{
    *seed = *seed*1664525u + 1013904223u;
    return (float)(int)(*seed >> 8)/(1 << 23) - 1;
}

#endif
