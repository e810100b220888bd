/* SPDX-License-Identifier: MIT */
/* t_range.h -- ranges of timesteps, as --at and --when give them. */
#ifndef SRC_MODELS_T_RANGE_H
#define SRC_MODELS_T_RANGE_H

#include <limits.h>
#include <stdbool.h>
#include "formats/err.h"

typedef struct TRange { int high, low; } TRange;    /* both within */
#define T_RANGE_ALL ((TRange){INT_MAX, 0})

static inline bool t_range_has(TRange r, int t)
{
    return t <= r.high && t >= r.low;
}

/* "HIGH-LOW", "T" or "" (all), as option has it; NULL too is all. */
int t_range_parse(TRange *r, const char *option, const char *text, Err *e);

#endif
