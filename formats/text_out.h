/* SPDX-License-Identifier: MIT */
/* text_out.h -- text files that appear under their name only when whole; "-" is standard output. */
#ifndef FORMATS_TEXT_OUT_H
#define FORMATS_TEXT_OUT_H

#include <stdio.h>
#include "formats/aside.h"

typedef struct TextOut {
    FILE *file;                     /* to print to; NULL: not open */
    Aside *aside;
    const char *path;
} TextOut;

/* path NULL opens nothing, and the others then do nothing. */
int text_open(TextOut *t, const char *path, Err *e);
/* Errors of any print before are found here; a reader that went away sets e->closed. t is spent even when it fails. */
int text_finish(TextOut *t, Err *e);
/* The same for a file, nothing for standard output: where a program writes both, its files do not depend on who reads. */
int text_finish_file(TextOut *t, Err *e);
void text_abandon(TextOut *t);
/* A file of these lines, NULL-terminated. */
int text_list(const char *path, char *const *line, Err *e);

/* What was printed to standard output with no TextOut: whether a print just made has failed, and at the end. */
int stdout_check(Err *e);
int stdout_flush(Err *e);

#endif
