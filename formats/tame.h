/* SPDX-License-Identifier: MIT */
/* tame.h -- control characters out of text that others wrote: they would part a line or a table's cell, and give a
 * terminal orders. */
#ifndef FORMATS_TAME_H
#define FORMATS_TAME_H

#include <stdio.h>

/* c, or what stands for it where it is a control character. */
static inline char tame(char c, char instead)
{
    return (unsigned char)c < 32 || c == 127 ? instead : c;
}

static inline void tame_text(char *text, char instead)
{
    for (; *text; text++)
        *text = tame(*text, instead);
}

/* Returns the bytes printed. */
static inline int tame_print(FILE *f, const char *text, char instead)
{
    int n = 0;
    for (; text[n]; n++)
        putc(tame(text[n], instead), f);
    return n;
}

#endif
