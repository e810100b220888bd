/* SPDX-License-Identifier: MIT */
/* folder.c -- makes folders where they are missing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "formats/folder.h"

static int make(const char *path, Err *e)
{
    return mkdir(path, 0777) && errno != EEXIST ? err_set(e, "%s: cannot be made: %s", path, strerror(errno)) : 0;
}

int folder_make_above(const char *path, Err *e)
{
    char *above = strdup(path);
    int failed = above ? 0 : err_set(e, "out of memory");
    for (char *slash = failed || !*above ? NULL : strchr(above + 1, '/'); slash && !failed;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        failed = make(above, e);
        *slash = '/';
    }
    free(above);
    return failed;
}

int folder_make(const char *path, Err *e)
{
    return folder_make_above(path, e) || make(path, e) ? -1 : 0;
}
