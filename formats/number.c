/* SPDX-License-Identifier: MIT */
/* number.c -- numbers in text. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/number.h"

static const struct { const char *name; int64_t factor; } suffixes[] = {
    {"", 1}, {"K", 1000}, {"M", 1000000}, {"G", 1000000000}, {"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}};

static const char *read_digits(const char *text, int64_t *value, char **end)
{
    const char *digits = text + (*text == '-' || *text == '+');
    if (!isdigit((unsigned char)*digits))
        return "is not a whole number";
    errno = 0;
    *value = strtoll(text, end, 10);
    return errno == ERANGE ? "is out of range" : NULL;
}

const char *number_whole(const char *text, int64_t *value)
{
    char *end = NULL;
    const char *wrong = read_digits(text, value, &end);
    return wrong ? wrong : *end ? "is not a whole number" : NULL;
}

const char *number_count(const char *text, int64_t *value)
{
    char *end = NULL;
    const char *wrong = read_digits(text, value, &end);
    for (size_t i = 0; !wrong && i < sizeof suffixes / sizeof *suffixes; i++)
        if (strcmp(end, suffixes[i].name) == 0)
            return __builtin_mul_overflow(*value, suffixes[i].factor, value) ? "is out of range" : NULL;
    return wrong ? wrong : "is not a whole number";
}

const char *number_real(const char *text, double *value)
{
    if (!*text || text[strspn(text, "0123456789+-.eE")])
        return "is not a number";
    char *end;
    *value = strtod(text, &end);
    if (*end || end == text)
        return "is not a number";
    return isfinite(*value) ? NULL : "is out of range";
}
