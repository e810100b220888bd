/* SPDX-License-Identifier: MIT */
/* folder.c -- folders, looked for and made. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "formats/folder.h"

/* The folders made so far, the newest first: one in another comes before it. Kept until the program ends. */
typedef struct Made { struct Made *before; char path[]; } Made;
static _Atomic(Made *) made;

static int make(const char *path, Err *e)
{
    if (mkdir(path, 0777))
        return errno != EEXIST ? err_set(e, "%s: cannot be made: %s", path, strerror(errno))
             : folder_there(path, e) < 0 ? -1 : 0;
    const size_t size = strlen(path) + 1;
    Made *m = malloc(sizeof *m + size);
    if (!m) {
        rmdir(path);
        return err_set(e, "out of memory");
    }
    memcpy(m->path, path, size);
    m->before = atomic_load(&made);
    while (!atomic_compare_exchange_weak(&made, &m->before, m))
        ;
    return 0;
}

void folder_remove_empty(void)
{
    for (const Made *m = atomic_load(&made); m; m = m->before)
        rmdir(m->path);
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

bool folder_has(const char *dir, const char *name, char path[PATH_MAX])
{
    return snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX && access(path, F_OK) == 0;
}
