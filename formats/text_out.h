/* SPDX-License-Identifier: MIT */
/* text_out.h -- text files that appear under their name only when whole; "-" is standard output. */
#ifndef SRC_MODELS_TEXT_OUT_H
#define SRC_MODELS_TEXT_OUT_H

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
void text_abandon(TextOut *t);
/* A file of these lines, NULL-terminated. */
int text_list(const char *path, char *const *line, Err *e);

#endif
