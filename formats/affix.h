/* SPDX-License-Identifier: MIT */
/* affix.h -- how names begin and end. */
#ifndef FORMATS_AFFIX_H
#define FORMATS_AFFIX_H

#include <stdbool.h>
#include <string.h>
#include <strings.h>

static inline bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static inline bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The same in letters of either case. */
static inline bool ends_with_any_case(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcasecmp(text + n - m, end) == 0;
}

#endif
