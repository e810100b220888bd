/* SPDX-License-Identifier: MIT */
/* spans.h -- where in a file its tensors say that they lie. */
#ifndef FORMATS_SPANS_H
#define FORMATS_SPANS_H

#include <stddef.h>
#include <stdint.h>
#include "formats/err.h"

typedef struct Span { uint64_t begin, end; const char *name; } Span;       /* begin <= end */

/* Sorts them by where they begin. Two that lie over one another are an error, which names both. */
int spans_sort(Span *span, size_t n, const char *path, Err *e);

#endif
