/* SPDX-License-Identifier: MIT */
/* weights_test.h -- a file of weights that a reader must refuse, and with which words. */
#ifndef TESTS_UNIT_WEIGHTS_TEST_H
#define TESTS_UNIT_WEIGHTS_TEST_H

#include "formats/weights.h"
#include "tests/unit/stream_test.h"

static inline int test_weights_refused(int (*open)(Weights **w, const char *path, Err *e), const char *name,
                                       const char *path, const char *words)
{
    Err e = {0};
    Weights *w;
    char title[200];
    const int opened = open(&w, path, &e) == 0;
    snprintf(title, sizeof title, "refused/%s", name);
    const int failed = test_ok(title, !opened && !w && strstr(e.text, words));
    if (failed)
        test_note("message: %s; expected: ...%s...", e.text, words);
    weights_close(w);
    return failed;
}

#endif
