/* SPDX-License-Identifier: MIT */
/* fdio.c -- whole reads and writes on file descriptors, blocking or not. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "formats/fdio.h"

/* True when the call should be made again: it was interrupted, or the descriptor is non-blocking and has been waited
 * for. */
static int again(int fd, short event)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        struct pollfd p = {fd, event, 0};
        return poll(&p, 1, -1) >= 0 || errno == EINTR;
    }
    return errno == EINTR;
}

ssize_t fd_read(int fd, const char *name, void *data, size_t n, Err *e)
{
    ssize_t got;
    while ((got = read(fd, data, n)) < 0)
        if (!again(fd, POLLIN))
            return err_set(e, "%s: reading: %s", name, strerror(errno));
    return got;
}

int fd_write(int fd, const char *name, const void *data, size_t n, Err *e)
{
    const char *p = data;
    while (n > 0) {
        const ssize_t put = write(fd, p, n);
        if (put > 0) {
            p += put;
            n -= (size_t)put;
        } else if (put == 0 || !again(fd, POLLOUT)) {
            e->closed |= !e->set && put < 0 && errno == EPIPE;
            return err_set(e, "%s: writing: %s", name, put < 0 ? strerror(errno) : "nothing was taken");
        }
    }
    return 0;
}
