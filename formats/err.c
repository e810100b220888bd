/* SPDX-License-Identifier: MIT */
/* err.c -- the first reason is kept. */
#include <stdarg.h>
#include <stdio.h>
#include "formats/err.h"

int err_set(Err *e, const char *format, ...)
{
    if (e->set)
        return -1;
    va_list values;
    va_start(values, format);
    vsnprintf(e->text, sizeof e->text, format, values);
    va_end(values);
    e->set = 1;
    return -1;
}
