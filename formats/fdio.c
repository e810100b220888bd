/* SPDX-License-Identifier: MIT */
/* fdio.c -- whole reads and writes on file descriptors, blocking or not. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include "formats/fdio.h"

int fd_again(int fd, FdEnd end)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        struct pollfd p = {fd, end == FD_READ ? POLLIN : POLLOUT, 0};
        return poll(&p, 1, -1) >= 0 || errno == EINTR;
    }
    return errno == EINTR;
}

ssize_t fd_read(int fd, const char *name, void *data, size_t n, Err *e)
{
    ssize_t got;
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before);
    while ((got = read(fd, data, n)) < 0 && fd_again(fd, FD_READ)) {}
    pthread_setcancelstate(before, NULL);
    return got < 0 ? err_set(e, "%s: reading: %s", name, strerror(errno)) : got;
}

int fd_read_at(int fd, void *data, size_t n, uint64_t at)
{
    for (size_t done = 0; done < n;) {
        const ssize_t got = pread(fd, (char *)data + done, n - done, (off_t)(at + done));
        if (got == 0)
            errno = 0;
        if (got == 0 || (got < 0 && errno != EINTR))
            return -1;
        done += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

int fd_write(int fd, const char *name, const void *data, size_t n, Err *e)
{
    const char *p = data;
    while (n > 0) {
        const ssize_t put = write(fd, p, n);
        if (put > 0) {
            p += put;
            n -= (size_t)put;
        } else if (put == 0 || !fd_again(fd, FD_WRITE)) {
            e->closed |= !e->set && put < 0 && errno == EPIPE;
            return err_set(e, "%s: writing: %s", name, put < 0 ? strerror(errno) : "nothing was taken");
        }
    }
    return 0;
}
