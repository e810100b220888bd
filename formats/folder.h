/* SPDX-License-Identifier: MIT */
/* folder.h -- looks for folders, and makes them where they are missing, as mkdir -p does. */
#ifndef FORMATS_FOLDER_H
#define FORMATS_FOLDER_H

#include <limits.h>
#include <stdbool.h>
#include "formats/err.h"

/* The folder path and those above it. */
int folder_make(const char *path, Err *e);
/* The folders above the file path. */
int folder_make_above(const char *path, Err *e);
/* 1: there is a folder path; 0: there is nothing; -1 with an error: something else is in its place. */
int folder_there(const char *path, Err *e);
/* Whether there is a dir/name, of any kind; path gets its name. */
bool folder_has(const char *dir, const char *name, char path[PATH_MAX]);
/* Removes those of the folders made here that nothing is in, as at the end of a program that failed. May be called in a
 * signal handler. */
void folder_remove_empty(void);

#endif
