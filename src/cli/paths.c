/* SPDX-License-Identifier: MIT */
/* paths.c -- where the data that came with the programs lies: bin/../data in the source tree,
 * bin/../share/sdsteer installed. */
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "src/cli/cli.h"

static bool is_folder(const char *base, const char *name, char path[PATH_MAX])
{
    return snprintf(path, PATH_MAX, "%s/%s", base, name) < PATH_MAX && access(path, R_OK | X_OK) == 0;
}

bool cli_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return strcmp(a, b) == 0 || (stat(a, &x) == 0 && stat(b, &y) == 0 && S_ISREG(x.st_mode) && x.st_dev == y.st_dev
                                 && x.st_ino == y.st_ino);
}

bool cli_listed(const List *files, const char *name)
{
    for (int i = 0; i < files->count; i++)
        if (cli_same_file(files->items[i], name))
            return true;
    return false;
}

const char *cli_data(void)
{
    static char path[PATH_MAX];
    if (*path)
        return path;
    const char *named = getenv("SDSTEER_DATA");
    if (named && *named && strlen(named) < PATH_MAX)
        return strcpy(path, named);

    char self[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = 0;
    for (int up = 0; up < 2; up++)          /* the program's name, then bin */
        *(strrchr(self, '/') ? strrchr(self, '/') : self) = 0;
    if (is_folder(self, "share/sdsteer", path) || is_folder(self, "data", path))
        return path;
    /* a test program, build/tests/NAME */
    *(strrchr(self, '/') ? strrchr(self, '/') : self) = 0;
    if (is_folder(self, "data", path))
        return path;
    return strcpy(path, "data");
}

const char *cli_default_model(void)
{
    static char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/minisd/model", cli_data());
    return path;
}
