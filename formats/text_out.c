/* SPDX-License-Identifier: MIT */
/* text_out.c -- text files written aside and renamed, and what is printed. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "formats/fdio.h"
#include "formats/text_out.h"

static bool reader_is_gone(FILE *f)
{
    struct pollfd p = {.fd = fileno(f), .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && p.revents & POLLERR;
}

/* reason: errno after a print that failed, or 0 where that was one of those before: its errno is gone. */
static int check(FILE *f, const char *name, int reason, Err *e)
{
    if (!ferror(f))
        return 0;
    e->closed |= !e->set && (reason == EPIPE || reader_is_gone(f));
    return err_set(e, "%s: writing: %s", name, reason ? strerror(reason) : "failed");
}

static int flush(FILE *f, const char *name, Err *e)
{
    return check(f, name, fflush(f) ? errno : 0, e);
}

int stdout_check(Err *e)
{
    return check(stdout, "standard output", errno, e);
}

int stdout_flush(Err *e)
{
    return flush(stdout, "standard output", e) || fd_settle(STDOUT_FILENO, "standard output", e) ? -1 : 0;
}

int text_open(TextOut *t, const char *path, Err *e)
{
    *t = (TextOut){.path = path};
    if (!path)
        return 0;
    if (strcmp(path, "-") == 0) {
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

int text_finish_file(TextOut *t, Err *e)
{
    return t->aside ? text_finish(t, e) : 0;
}

int text_finish(TextOut *t, Err *e)
{
    TextOut x = *t;
    *t = (TextOut){0};
    if (!x.file)
        return 0;
    if (!x.aside)
        return stdout_flush(e);
    int failed = flush(x.file, x.path, e);
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
