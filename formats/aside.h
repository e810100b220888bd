/* SPDX-License-Identifier: MIT */
/* aside.h -- output files and folders that appear under their name only when whole.
 *
 * PATH is written as PATH.part-PID beside it and renamed when done. What is half-written stands in a table, so that the
 * handler of SIGINT and SIGTERM can remove it. A PATH that is a device or a FIFO is written straight; a symbolic link
 * is followed. */
#ifndef FORMATS_ASIDE_H
#define FORMATS_ASIDE_H

#include <stdbool.h>
#include "formats/err.h"

typedef struct Aside Aside;

Aside *aside_open(const char *path, Err *e);        /* NULL on error; safe from several threads */
int aside_fd(const Aside *a);                       /* open for writing, owned by a */
/* Closes and renames; with sync, the bytes are on the disk before the name is. a is spent, also when it fails. */
int aside_commit(Aside *a, bool sync, Err *e);
void aside_abandon(Aside *a);                       /* closes and removes what was written; NULL is fine */
int aside_try(const char *path, Err *e);            /* whether such a file could be written: 0, or -1 with e set */
/* Whether a file is being written that is to have this name, at whose end slashes do not count: it can be no folder. */
bool aside_is_open(const char *path);
/* The same of a folder of `count` files, which may lie in folders of their own ("unet/config.json"): made as
 * PATH.part-PID, with the folders above it and in it. NULL on error */
typedef struct AsideFolder AsideFolder;
AsideFolder *aside_folder(const char *path, const char *const *files, int count, Err *e);
const char *aside_folder_part(const AsideFolder *f);    /* where the files go, until it is renamed */
int aside_folder_commit(AsideFolder *f, Err *e);        /* renames; f is spent, also when it fails */
void aside_folder_abandon(AsideFolder *f);              /* removes what was written */

/* Removes all that is half-written, and the folders made for it that are empty then; may be called in a signal
 * handler */
void aside_cleanup(void);

#endif
