/* SPDX-License-Identifier: MIT */
/* text_out.c -- text files written aside and renamed. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "formats/fdio.h"
#include "src/models/text_out.h"

int text_open(TextOut *t, const char *path, Err *e)
{
    *t = (TextOut){.path = path};
    if (!path)
        return 0;
    if (strcmp(path, "-") == 0) {
        t->path = "standard output";
        t->file = stdout;
        return 0;
    }
    if (!(t->aside = aside_open(path, e)))
        return -1;
    const int fd = dup(aside_fd(t->aside));
    t->file = fd < 0 ? NULL : fdopen(fd, "w");
    if (t->file)
        return 0;
    err_set(e, "%s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    aside_abandon(t->aside);
    *t = (TextOut){0};
    return -1;
}

int text_finish(TextOut *t, Err *e)
{
    TextOut x = *t;
    *t = (TextOut){0};
    if (!x.file)
        return 0;
    errno = 0;
    int failed = fflush(x.file) || ferror(x.file);
    if (failed) {
        e->closed = errno == EPIPE;
        err_set(e, "%s: %s", x.path, strerror(errno));
    }
    if (!x.aside)
        return failed || fd_settle(STDOUT_FILENO, x.path, e) ? -1 : 0;
    if (fclose(x.file) && !failed)
        failed = err_set(e, "%s: %s", x.path, strerror(errno));
    if (!failed)
        return aside_commit(x.aside, false, e);
    aside_abandon(x.aside);
    return -1;
}

void text_abandon(TextOut *t)
{
    if (t->aside) {
        fclose(t->file);
        aside_abandon(t->aside);
    }
    *t = (TextOut){0};
}

int text_list(const char *path, char *const *line, Err *e)
{
    TextOut out = {0};
    if (text_open(&out, path, e))
        return -1;
    for (int i = 0; line && line[i]; i++)
        fprintf(out.file, "%s\n", line[i]);
    return text_finish(&out, e);
}
