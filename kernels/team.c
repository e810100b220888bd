/* SPDX-License-Identifier: MIT */
/* team.c -- a team's processes, their barrier, and the memory they share.
 *
 * What passes through the board is written before a barrier and read after it. The two boards are taken in turns, so
 * that one barrier is enough: a rank writes a board again only when it has passed the next one, to which all come after
 * they have read. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kernels/team.h"

enum { TOLD = 1024, GRACE_US = 500000 };

typedef struct Shared {
    pthread_barrier_t barrier;
    struct { int64_t word[TEAM_MOST]; char told[TOLD]; } board[2];
    atomic_int failed;              /* 1 + the first rank that failed */
    Err why;
} Shared;

struct Team {
    int rank, ranks, turn;
    Shared *shared;
    int file;                       /* of what team_share gives, one piece after another */
    off_t size;
    pid_t pid[TEAM_MOST];           /* rank 0: the others' */
    pthread_t watcher;
    atomic_int over;                /* somebody says how it ends: rank 0 itself or its watcher */
    TeamLost *lost;
    void *context;
};

int team_rank(const Team *t)
{
    return t->rank;
}

int team_ranks(const Team *t)
{
    return t->ranks;
}

/* ---- beginning and end ---- */

static void describe(char *text, size_t size, const Team *t, pid_t pid, int status)
{
    int rank = 1;
    while (rank < t->ranks - 1 && t->pid[rank] != pid)
        rank++;
    if (t->shared->failed)
        snprintf(text, size, "device %d of %d: %s", t->shared->failed, t->ranks, t->shared->why.text);
    else if (WIFSIGNALED(status))
        snprintf(text, size, "the process of device %d of %d was ended by signal %d (%s)", rank + 1, t->ranks,
                 WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(text, size, "the process of device %d of %d ended with exit status %d", rank + 1, t->ranks,
                 WEXITSTATUS(status));
}

/* A thread of rank 0 that waits for the others to end. */
static void *watch(void *team)
{
    Team *t = team;
    char why[sizeof t->shared->why.text + 64];
    for (int left = t->ranks - 1; left > 0;) {
        int status;
        const pid_t pid = wait(&status);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            return NULL;
        left--;
        if ((WIFEXITED(status) && WEXITSTATUS(status) == 0) || atomic_exchange(&t->over, 1))
            continue;
        describe(why, sizeof why, t, pid, status);
        t->lost(t->context, why);
    }
    return NULL;
}

/* Signals are rank 0's, the terminal's too, and so is standard input. */
static void become(Team *t, int rank, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    t->rank = rank;
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t s = 0; s < sizeof signals/sizeof *signals; s++)
        signal(signals[s], SIG_IGN);
    const int none = open("/dev/null", O_RDONLY);
    if (none >= 0) {
        dup2(none, STDIN_FILENO);
        close(none);
    }
}

static int share(Team *t, int ranks)
{
    pthread_barrierattr_t between;
    t->ranks = ranks;
    t->shared = mmap(NULL, sizeof *t->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (t->shared == MAP_FAILED)
        return -1;
    t->file = memfd_create("team", MFD_CLOEXEC);
    pthread_barrierattr_init(&between);
    pthread_barrierattr_setpshared(&between, PTHREAD_PROCESS_SHARED);
    return t->file < 0 || pthread_barrier_init(&t->shared->barrier, &between, (unsigned)ranks) ? -1 : 0;
}

static int start_watcher(Team *t)
{
    sigset_t all, before;           /* signals are the main thread's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&t->watcher, NULL, watch, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

int team_start(Team **out, int ranks, TeamLost *lost, void *context, Err *e)
{
    Team *t = *out = calloc(1, sizeof *t);
    if (!t || share(t, ranks)) {
        free(t);
        *out = NULL;
        return err_set(e, "no memory that %d processes could share: %s", ranks, strerror(errno));
    }
    t->lost = lost;
    t->context = context;
    const pid_t parent = getpid();
    fflush(NULL);                   /* or each process would write it */
    bool failed = false;
    for (int rank = 1; rank < ranks && !failed; rank++) {
        t->pid[rank] = fork();
        if (t->pid[rank] == 0) {
            become(t, rank, parent);
            return 0;
        }
        failed = t->pid[rank] < 0;
    }
    if (!failed && (errno = start_watcher(t)) == 0)
        return 0;
    err_set(e, "cannot start %d processes: %s", ranks, strerror(errno));
    for (int rank = 1; rank < ranks && t->pid[rank] > 0; rank++) {
        kill(t->pid[rank], SIGKILL);
        waitpid(t->pid[rank], NULL, 0);
    }
    free(t);
    *out = NULL;
    return -1;
}

/* What fails in one rank may have failed in all: rank 0 is given the time to say it itself. */
void team_fail(Team *t, const Err *e)
{
    int nobody = 0;
    if (atomic_compare_exchange_strong(&t->shared->failed, &nobody, t->rank + 1))
        t->shared->why = *e;
    usleep(GRACE_US);
    _exit(1);
}

void team_end(Team *t, bool failed)
{
    if (!t)
        return;
    if (failed) {
        if (atomic_exchange(&t->over, 1))
            for (;;)
                pause();
        for (int rank = 1; rank < t->ranks; rank++)
            kill(t->pid[rank], SIGKILL);
    }
    pthread_join(t->watcher, NULL);
    munmap(t->shared, sizeof *t->shared);
    close(t->file);
    free(t);
}

/* ---- together ---- */

void team_barrier(Team *t)
{
    pthread_barrier_wait(&t->shared->barrier);
}

void team_gather(Team *t, int64_t *all, int64_t mine)
{
    int64_t *word = t->shared->board[t->turn].word;
    word[t->rank] = mine;
    team_barrier(t);
    memcpy(all, word, sizeof *all*(size_t)t->ranks);
    t->turn ^= 1;
}

void team_broadcast(Team *t, void *value, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += TOLD) {
        char *told = t->shared->board[t->turn].told, *here = (char *)value + at;
        const size_t n = bytes - at < TOLD ? bytes - at : TOLD;
        if (t->rank == 0)
            memcpy(told, here, n);
        team_barrier(t);
        if (t->rank != 0)
            memcpy(here, told, n);
        t->turn ^= 1;
    }
}

void *team_share(Team *t, size_t bytes, Err *e)
{
    const off_t page = sysconf(_SC_PAGESIZE), at = t->size;
    t->size += ((off_t)bytes + page - 1)/page*page;
    void *p = MAP_FAILED;
    if (t->rank != 0 || ftruncate(t->file, t->size) == 0) {
        team_barrier(t);
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, t->file, at);
    }
    if (p != MAP_FAILED)
        return p;
    err_set(e, "cannot share %zu bytes among %d processes: %s", bytes, t->ranks, strerror(errno));
    return NULL;
}
