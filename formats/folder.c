/* SPDX-License-Identifier: MIT */
/* folder.c -- folders, looked for and made. */
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

int folder_there(const char *path, Err *e)
{
    struct stat st;
    if (stat(path, &st))
        return 0;
    return S_ISDIR(st.st_mode) ? 1 : err_set(e, "%s: is there, and is not a folder", path);
}
