/* SPDX-License-Identifier: MIT */
/* err.c -- the first reason is kept. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "formats/err.h"
#include "formats/tame.h"

static void fill(Err *e, int misuse, const char *format, va_list values)
{
    if (e->set)
        return;
    vsnprintf(e->text, sizeof e->text, format, values);
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
