/* SPDX-License-Identifier: MIT */
/* err.h -- one error, said once, where it is known.
 *
 * A function that can fail takes an Err and returns 0, or -1 after err_set. Callers pass the -1 up; the tool prints. */
#ifndef FORMATS_ERR_H
#define FORMATS_ERR_H

typedef struct Err {
    int set;                /* 0: no error yet */
    int closed;             /* 1: the reader of our output went away (EPIPE): end quietly */
    char text[2048];        /* "file: record 3: found ..., expected ..." */
    int misuse;             /* 1: an option's value is at fault, no file */
} Err;

/* Formats the reason into e unless an earlier one is there (the first reason is kept). Of one that is too long the
 * middle is left out. Control characters, of names out of data, become '?'. Always returns -1. */
int err_set(Err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for what was asked for on the command line. */
int err_misuse(Err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A text that begins with `from` begins with `to` instead: the name of a file that whoever reads it can find. */
void err_move(Err *e, const char *from, const char *to);

#endif
