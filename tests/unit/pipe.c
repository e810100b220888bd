/* SPDX-License-Identifier: MIT */
/* pipe.c -- writes into pipes: the same bytes whether pages are lent or not, to readers that are slow, that go away,
 * that splice, and after the writer is gone. */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "formats/fdio.h"
#include "formats/pipe.h"
#include "tests/unit/test.h"

enum { TOTAL = 24 << 20, LARGEST = 3 << 20 };

static Err err;

/* The byte at a place of the stream: another one wherever a page or the whole ring was mixed up. */
static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i ^ i >> 8 ^ i >> 16 ^ i >> 20);
}

/* Writes TOTAL bytes in pieces of many sizes, from one buffer that is overwritten at once. 0, or -1 with e. */
static int write_all(int fd, Err *e)
{
    static unsigned char piece[LARGEST];
    PipeOut *out = pipe_out_create(fd);
    uint32_t state = 3;
    int failed = out ? 0 : err_set(e, "no pipe");
    for (size_t done = 0; done < TOTAL && !failed;) {
        state = state*1664525u + 1013904223u;
        size_t n = state >> 30 ? (state >> 8) % LARGEST : (state >> 8) % 5000;
        n = n < TOTAL - done ? n : TOTAL - done;
        for (size_t i = 0; i < n; i++)
            piece[i] = byte_at(done + i);
        failed = pipe_write(out, "pipe", piece, n, e);
        memset(piece, 0xee, n);
        done += n;
    }
    pipe_out_free(out);
    return failed;
}

static int child_writes(pid_t *child, bool non_blocking)
{
    int fd[2];
    if (pipe(fd) || (*child = fork()) < 0)
        exit(2);
    if (*child == 0) {
        close(fd[0]);
        signal(SIGPIPE, SIG_IGN);
        if (non_blocking)
            fcntl(fd[1], F_SETFL, O_NONBLOCK);
        Err e = {0};
        const int failed = write_all(fd[1], &e);
        _exit(failed ? e.closed ? 3 : 1 : 0);
    }
    close(fd[1]);
    return fd[0];
}

/* Bytes until the end that are what they should be; -1 after a wrong one. Sleeps before some reads. */
static long read_all(int fd, bool slowly)
{
    static unsigned char to[1 << 20];
    size_t got = 0;
    ssize_t n;
    for (int turn = 0; (n = fd_read(fd, "pipe", to, turn % 3 ? sizeof to : 70001, &err)) > 0; turn++) {
        for (ssize_t i = 0; i < n; i++)
            if (to[i] != byte_at(got + (size_t)i))
                return -1;
        got += (size_t)n;
        if (slowly && turn % 4 == 0)
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return (long)got;
}

static int exit_of(pid_t child)
{
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int same_bytes(void)
{
    int failed = 0;
    for (int kind = 0; kind < 8; kind++) {
        char name[64];
        pid_t child;
        const int fd = child_writes(&child, kind & 4);
        if (kind & 1)
            pipe_announce(fd);
        pipe_enlarge(fd);
        snprintf(name, sizeof name, "pipe/same bytes%s%s%s", kind & 1 ? ", lent" : "", kind & 2 ? ", read slowly" : "",
                 kind & 4 ? ", non-blocking" : "");
        failed += test_ok(name, read_all(fd, kind & 2) == TOTAL && exit_of(child) == 0);
        close(fd);
    }
    return failed;
}

/* A reader that has not announced itself and moves the pages on, into a pipe where they stay while the writer goes
 * on. */
static int spliced(void)
{
    pid_t child, mover;
    int fd[2];
    const int from = child_writes(&child, false);
    if (pipe(fd) || (mover = fork()) < 0)
        exit(2);
    if (mover == 0) {
        close(fd[0]);
        while (splice(from, NULL, fd[1], NULL, 1 << 20, 0) > 0) {}
        _exit(0);
    }
    close(fd[1]);
    close(from);
    pipe_enlarge(fd[0]);
    pipe_announce(fd[0]);
    const int failed = test_ok("pipe/spliced on by another", read_all(fd[0], true) == TOTAL && exit_of(child) == 0);
    close(fd[0]);
    waitpid(mover, NULL, 0);
    return failed;
}

static int ends(void)
{
    static char some[2 << 20];
    pid_t child;
    int fd = child_writes(&child, false);
    pipe_announce(fd);
    ssize_t got = fd_read(fd, "pipe", some, sizeof some, &err);
    close(fd);
    int failed = test_ok("pipe/the reader went away", got > 0 && exit_of(child) == 3);

    fd = child_writes(&child, false);
    pipe_announce(fd);
    got = fd_read(fd, "pipe", some, 1000, &err);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    kill(child, SIGKILL);
    exit_of(child);
    bool right = got > 0;
    size_t all = 0;
    do {
        for (ssize_t i = 0; i < got; i++)
            right &= (unsigned char)some[i] == byte_at(all + (size_t)i);
        all += (size_t)got;
    } while ((got = fd_read(fd, "pipe", some, sizeof some, &err)) > 0);
    failed += test_ok("pipe/the writer was killed: what it had lent is there, then the end",
                      right && got == 0 && all < TOTAL);
    close(fd);
    failed += test_ok("pipe/a file is none", pipe_out_create(open("/dev/null", O_WRONLY)) == NULL);
    return failed;
}

int main(void)
{
    return (same_bytes() + spliced() + ends()) != 0;
}
