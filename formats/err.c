/* SPDX-License-Identifier: MIT */
/* err.c -- the first reason is kept. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/err.h"
#include "formats/tame.h"

/* The end of a text of n bytes that does not fit, after " ... ": what is wrong stands behind the names. */
static void keep_end(Err *e, size_t n, const char *format, va_list values)
{
    static const char left_out[] = " ... ";
    char *whole = malloc(n + 1), *end = e->text + sizeof e->text/2;
    if (!whole)
        return;
    vsnprintf(whole, n + 1, format, values);
    const size_t mark = sizeof left_out - 1, rest = sizeof e->text - sizeof e->text/2 - mark;
    memcpy(end, left_out, mark);
    memcpy(end + mark, whole + n + 1 - rest, rest);
    free(whole);
}

static void fill(Err *e, int misuse, const char *format, va_list values)
{
    if (e->set)
        return;
    va_list again;
    va_copy(again, values);
    const int n = vsnprintf(e->text, sizeof e->text, format, values);
    if (n >= (int)sizeof e->text)
        keep_end(e, (size_t)n, format, again);
    va_end(again);
    tame_text(e->text, '?');
    e->set = 1;
    e->misuse = misuse;
}

void err_move(Err *e, const char *from, const char *to)
{
    char text[sizeof e->text];
    const size_t n = strlen(from);
    if (strncmp(e->text, from, n) != 0)
        return;
    snprintf(text, sizeof text, "%s%s", to, e->text + n);
    tame_text(text, '?');
    memcpy(e->text, text, sizeof text);
}

int err_set(Err *e, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fill(e, 0, format, values);
    va_end(values);
    return -1;
}

int err_misuse(Err *e, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fill(e, 1, format, values);
    va_end(values);
    return -1;
}
