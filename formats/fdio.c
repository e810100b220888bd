/* SPDX-License-Identifier: MIT */
/* fdio.c -- whole reads and writes on file descriptors, blocking or not; mapped files. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

int fd_refuse_terminal(int fd, const char *name, const char *what, Err *e)
{
    return isatty(fd) ? err_set(e, "%s: is a terminal: %s not written to it; use -o FILE or a pipe", name, what) : 0;
}

int fd_settle(int fd, const char *name, Err *e)
{
    const int twin = dup(fd);
    return twin >= 0 && close(twin) ? err_set(e, "%s: writing: %s", name, strerror(errno)) : 0;
}

int file_map(uint8_t **data, size_t *size, const char *path, const char *what, Err *e)
{
    struct stat st;
    void *map = NULL;
    int failed = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        failed = err_set(e, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        failed = err_set(e, "%s: is not a regular file, %s is mapped", path, what);
    else if (st.st_size > 0 && (map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        failed = err_set(e, "%s: mapping: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    *data = failed ? NULL : map;
    *size = failed ? 0 : (size_t)st.st_size;
    return failed;
}
