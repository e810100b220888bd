/* SPDX-License-Identifier: MIT */
/* pipe.c -- lends pages of a ring. The pipe holds at most `capacity` bytes' worth of pages, so when all that has
 * been lent is in or through the pipe, only the last `capacity` of it can be unread. A place in the ring comes again
 * after RING - 2 CHUNK bytes or more, which is not less. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "formats/fdio.h"
#include "formats/pipe.h"

enum { RING = 2*PIPE_SIZE, CHUNK = 256 << 10, PAGE = 4096 };
_Static_assert(RING - 2*CHUNK >= PIPE_SIZE, "a page would be used anew while it is in the pipe");

/* The byte that is locked: "sdsteer" in ASCII, where nobody locks by chance. */
static const off_t MARK = 0x73647374656572;

struct PipeOut {
    int fd;
    char *ring;                     /* NULL before the first loan */
    size_t at;                      /* where the next loan begins, a page's beginning */
    bool refused;                   /* the system does not lend */
};

void pipe_enlarge(int fd)
{
    const int now = fcntl(fd, F_GETPIPE_SZ);
    if (now >= 0 && now < PIPE_SIZE)
        fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE);
}

void pipe_announce(int fd)
{
    struct flock mark = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = MARK, .l_len = 1};
    fcntl(fd, F_SETLK, &mark);      /* where that fails the writer sees no lock, and writes */
}

/* Whether the pipe's other end has announced itself, and the pipe is no larger than the ring was made for. */
static bool reader_copies(int fd)
{
    struct flock mark = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = MARK, .l_len = 1};
    return fcntl(fd, F_GETLK, &mark) == 0 && mark.l_type == F_RDLCK && mark.l_start == MARK && mark.l_len == 1
        && fcntl(fd, F_GETPIPE_SZ) <= PIPE_SIZE;
}

PipeOut *pipe_out_create(int fd)
{
    struct stat st;
    if (fstat(fd, &st) || !S_ISFIFO(st.st_mode))
        return NULL;
    pipe_enlarge(fd);
    PipeOut *p = calloc(1, sizeof *p);
    if (p)
        *p = (PipeOut){.fd = fd, .refused = sysconf(_SC_PAGESIZE) != PAGE};
    return p;
}

void pipe_out_free(PipeOut *p)
{
    if (p && p->ring)
        munmap(p->ring, RING);
    free(p);
}

static bool may_lend(PipeOut *p)
{
    if (p->refused || !reader_copies(p->fd))
        return false;
    if (!p->ring) {
        void *ring = mmap(NULL, RING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        p->ring = ring == MAP_FAILED ? NULL : ring;
        p->refused = !p->ring;
    }
    return p->ring != NULL;
}

/* Lends a copy of n <= CHUNK bytes; returns how many are on their way when the system refuses, else n. -1: error. */
static ssize_t lend(PipeOut *p, const char *name, const void *data, size_t n, Err *e)
{
    if (p->at + n > RING)
        p->at = 0;
    memcpy(p->ring + p->at, data, n);
    size_t lent = 0;
    while (lent < n) {
        const struct iovec pages = {p->ring + p->at + lent, n - lent};
        const ssize_t put = vmsplice(p->fd, &pages, 1, 0);
        if (put > 0) {
            lent += (size_t)put;
        } else if (put == 0 || (errno != EPIPE && !fd_again(p->fd, FD_WRITE))) {
            p->refused = true;
            break;
        } else if (errno == EPIPE) {
            e->closed |= !e->set;
            return err_set(e, "%s: writing: %s", name, strerror(EPIPE));
        }
    }
    p->at = (p->at + lent + PAGE - 1)/PAGE*PAGE;
    return (ssize_t)lent;
}

int pipe_write(PipeOut *p, const char *name, const void *data, size_t n, Err *e)
{
    const char *from = data;
    while (n >= PIPE_SIZE/16 && may_lend(p)) {
        const ssize_t lent = lend(p, name, from, n < CHUNK ? n : CHUNK, e);
        if (lent < 0)
            return -1;
        from += lent;
        n -= (size_t)lent;
    }
    return fd_write(p->fd, name, from, n, e);
}
