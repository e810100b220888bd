/* SPDX-License-Identifier: MIT */
/* played.h -- the CUDA backend as tests/simt plays it, for tests that take a backend by a function. */
#ifndef TESTS_UNIT_PLAYED_H
#define TESTS_UNIT_PLAYED_H

#include "tests/unit/team_test.h"

const Ops *sdsteer_backend(int device, Err *e);

static const Ops *played(void)
{
    Err e = {0};
    const Ops *ops = sdsteer_backend(0, &e);
    if (!ops)
        die(&e);
    return ops;
}

#endif
