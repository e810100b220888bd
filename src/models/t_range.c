/* SPDX-License-Identifier: MIT */
/* t_range.c -- ranges of timesteps. */
#include <stdio.h>
#include <stdlib.h>
#include "src/models/t_range.h"

int t_range_parse(TRange *r, const char *option, const char *text, Err *e)
{
    char first[10], second[10];
    int length = 0;
    *r = T_RANGE_ALL;
    if (!text || !*text)
        return 0;
    const int got = sscanf(text, "%9[0-9]%n-%9[0-9]%n", first, &length, second, &length);
    if (got < 1 || text[length])
        return err_misuse(e, "%s '%s' is not a range of timesteps like 999-500", option, text);
    const int a = atoi(first), b = got == 2 ? atoi(second) : a;
    *r = (TRange){a > b ? a : b, a > b ? b : a};
    return 0;
}
