/* SPDX-License-Identifier: MIT */
/* spans.c -- tensors of a file in a row. */
#include <stdlib.h>
#include "formats/spans.h"

static int span_order(const void *x, const void *y)
{
    const Span *a = x, *b = y;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return (a->end > b->end) - (a->end < b->end);
}

int spans_sort(Span *span, size_t n, const char *path, Err *e)
{
    qsort(span, n, sizeof *span, span_order);
    for (size_t i = 1; i < n; i++)
        if (span[i].begin < span[i - 1].end)
            return err_set(e, "%s: tensors %s and %s lie over one another", path, span[i - 1].name, span[i].name);
    return 0;
}
