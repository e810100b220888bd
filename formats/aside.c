/* SPDX-License-Identifier: MIT */
/* aside.c -- files and folders written aside, then renamed. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "formats/aside.h"
#include "formats/folder.h"

enum { SLOTS = 1024, MOST_LINKS = 40 };
/* Names of files and folders to remove. The lock is for threads; the signal handler reads without it, so that a name
 * stands in memory that is never given back: one that gives way to another meanwhile is half-written too. */
typedef struct Slot {
    atomic_bool named;
    char name[PATH_MAX];
} Slot;
static Slot half_written[SLOTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct Aside {
    int fd;
    char *path;                         /* as it will be named */
    char *part;                         /* as it is named until then; NULL when written straight */
    Slot *slot;                         /* where part stands in the table */
};

struct AsideFolder {
    char *path;
    int files, parts;
    char **part;                        /* files in it as they will be called, folders in it, then the folder itself */
    Slot **slot;                        /* where each stands in the table */
};

/* path: what part will be called, for the message. NULL: e */
static Slot *table_add(const char *part, const char *path, Err *e)
{
    Slot *slot = NULL;
    if (strlen(part) >= PATH_MAX) {
        err_set(e, "%s: %s", path, strerror(ENAMETOOLONG));
        return NULL;
    }
    pthread_mutex_lock(&lock);
    for (int i = 0; i < SLOTS && !slot; i++)
        if (!atomic_load(&half_written[i].named))
            slot = &half_written[i];
    if (slot) {
        strcpy(slot->name, part);
        atomic_store(&slot->named, true);
    }
    pthread_mutex_unlock(&lock);
    if (!slot)
        err_set(e, "%s: too many files are being written at once", path);
    return slot;
}

static void table_drop(Slot *slot)
{
    pthread_mutex_lock(&lock);
    if (slot)
        atomic_store(&slot->named, false);
    pthread_mutex_unlock(&lock);
}

/* How many names in the table are of the file part. */
static int table_count(const char *part)
{
    struct stat file, other;
    int count = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < SLOTS && stat(part, &file) == 0; i++)
        count += atomic_load(&half_written[i].named) && stat(half_written[i].name, &other) == 0
              && other.st_dev == file.st_dev && other.st_ino == file.st_ino;
    pthread_mutex_unlock(&lock);
    return count;
}

static void aside_free(Aside *a)
{
    table_drop(a->slot);
    free(a->part);
    free(a->path);
    free(a);
}

/* The path behind symbolic links, also where their target is not there yet. NULL: errno says why */
static char *behind_links(const char *path)
{
    char *now = strdup(path), link[PATH_MAX];
    for (int links = 0; now; links++) {
        const ssize_t length = readlink(now, link, sizeof link - 1);
        if (length < 0)
            return now;
        const char *slash = link[0] == '/' ? NULL : strrchr(now, '/');
        char *next = NULL;
        if (links == MOST_LINKS)
            errno = ELOOP;
        else if (asprintf(&next, "%.*s%.*s", slash ? (int)(slash + 1 - now) : 0, now, (int)length, link) < 0)
            next = NULL;
        free(now);
        now = next;
    }
    return NULL;
}

/* What is written in place of the first n letters of path, until it is whole. NULL: out of memory */
static char *part_of(const char *path, size_t n)
{
    char *part;
    return asprintf(&part, "%.*s.part-%ld", (int)n, path, (long)getpid()) < 0 ? NULL : part;
}

/* part, which is in the table, as a new file. What is there already is another output of ours (EEXIST), or was left by
 * a program of this number that was killed. */
static int create(const char *part)
{
    const int flags = O_WRONLY | O_CLOEXEC | O_CREAT | O_EXCL;
    const int fd = open(part, flags, 0666);
    if (fd >= 0 || errno != EEXIST)
        return fd;
    if (table_count(part) == 1)
        return unlink(part) ? -1 : open(part, flags, 0666);
    errno = EEXIST;
    return -1;
}

bool aside_is_open(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    char *part = part_of(path, n);
    const bool open = part && table_count(part) > 0;
    free(part);
    return open;
}

Aside *aside_open(const char *path, Err *e)
{
    struct stat st;
    const bool exists = stat(path, &st) == 0, straight = exists && !S_ISREG(st.st_mode);
    Aside *a = calloc(1, sizeof *a);
    if (!a || !(a->path = straight ? strdup(path) : behind_links(path))) {
        err_set(e, "%s: %s", path, strerror(errno));
        free(a);
        return NULL;
    }
    if (exists && S_ISDIR(st.st_mode)) {
        err_set(e, "%s: is a folder, a file cannot take its place", path);
        aside_free(a);
        return NULL;
    }
    if (!straight) {
        a->part = part_of(a->path, strlen(a->path));
        if (!a->part)
            err_set(e, "out of memory");
        if (!a->part || !(a->slot = table_add(a->part, path, e))) {
            aside_free(a);
            return NULL;
        }
    }
    a->fd = straight ? open(a->path, O_WRONLY | O_CLOEXEC) : create(a->part);
    if (a->fd >= 0)
        return a;
    err_set(e, "%s: cannot be written: %s", path, errno == EEXIST ? "it is an output already" : strerror(errno));
    aside_free(a);
    return NULL;
}

int aside_fd(const Aside *a)
{
    return a->fd;
}

int aside_commit(Aside *a, bool sync, Err *e)
{
    int failed = a->part && sync && fsync(a->fd) && errno != EINVAL;
    if (close(a->fd))
        failed = 1;
    if (!failed && a->part && rename(a->part, a->path))
        failed = 1;
    if (failed) {
        err_set(e, "%s: writing: %s", a->path, strerror(errno));
        if (a->part)
            unlink(a->part);
    }
    aside_free(a);
    return failed ? -1 : 0;
}

void aside_abandon(Aside *a)
{
    if (!a)
        return;
    close(a->fd);
    if (a->part)
        unlink(a->part);
    aside_free(a);
}

int aside_try(const char *path, Err *e)
{
    Aside *a = aside_open(path, e);
    aside_abandon(a);
    return a ? 0 : -1;
}

/* ---- folders ---- */

static void folder_free(AsideFolder *f)
{
    for (int i = 0; f->part && f->slot && i < f->parts; i++) {
        table_drop(f->slot[i]);
        free(f->part[i]);
    }
    free(f->part);
    free(f->slot);
    free(f->path);
    free(f);
}

static int add_part(AsideFolder *f, const char *folder, const char *name, size_t length, Err *e)
{
    char *part;
    if (asprintf(&part, "%s%s%.*s", folder, length ? "/" : "", (int)length, name) < 0)
        return err_set(e, "%s: out of memory", f->path);
    f->part[f->parts] = part;
    f->slot[f->parts] = table_add(part, f->path, e);
    return f->slot[f->parts++] ? 0 : -1;
}

/* Whether files[i] is the first of them in its folder, whose name's length is *length. */
static bool first_in_folder(const char *const *files, int i, size_t *length)
{
    const char *slash = strchr(files[i], '/');
    *length = slash ? (size_t)(slash - files[i]) : 0;
    bool first = slash != NULL;
    for (int j = 0; j < i && first; j++)
        first = strncmp(files[j], files[i], *length + 1) != 0;
    return first;
}

/* f->part, and all of it in the table. */
static int name_parts(AsideFolder *f, const char *const *files, int count, Err *e)
{
    char *folder = part_of(f->path, strlen(f->path));
    size_t length;
    int failed = 0;
    if (!folder)
        return err_set(e, "%s: out of memory", f->path);
    for (int i = 0; i < count && !failed; i++)
        failed = add_part(f, folder, files[i], strlen(files[i]), e);
    f->files = f->parts;
    for (int i = 0; i < count && !failed; i++)
        if (first_in_folder(files, i, &length))
            failed = add_part(f, folder, files[i], length, e);
    failed = failed || add_part(f, folder, "", 0, e);
    free(folder);
    return failed;
}

static int make_folders(const AsideFolder *f, Err *e)
{
    int failed = folder_make(f->part[f->parts - 1], e);
    for (int i = f->files; i < f->parts - 1 && !failed; i++)
        failed = folder_make(f->part[i], e);
    return failed;
}

AsideFolder *aside_folder(const char *path, const char *const *files, int count, Err *e)
{
    AsideFolder *f = calloc(1, sizeof *f);
    const size_t most = 2*(size_t)count + 1;
    if (!f || !(f->path = strdup(path)) || !(f->part = calloc(most, sizeof *f->part))
        || !(f->slot = calloc(most, sizeof *f->slot))) {
        err_set(e, "%s: out of memory", path);
        if (f)
            folder_free(f);
        return NULL;
    }
    for (size_t n = strlen(f->path); n > 1 && f->path[n - 1] == '/'; n--)
        f->path[n - 1] = 0;
    if (name_parts(f, files, count, e) == 0) {
        if (make_folders(f, e) == 0)
            return f;
        err_move(e, aside_folder_part(f), f->path);
    }
    aside_folder_abandon(f);
    return NULL;
}

const char *aside_folder_part(const AsideFolder *f)
{
    return f->part[f->parts - 1];
}

int aside_folder_commit(AsideFolder *f, Err *e)
{
    if (rename(aside_folder_part(f), f->path)) {
        err_set(e, "%s: %s", f->path, strerror(errno));
        aside_folder_abandon(f);
        return -1;
    }
    folder_free(f);
    return 0;
}

void aside_folder_abandon(AsideFolder *f)
{
    for (int i = 0; i < f->parts; i++)
        if (i < f->files)
            unlink(f->part[i]);
        else
            rmdir(f->part[i]);
    folder_free(f);
}

void aside_cleanup(void)
{
    for (int pass = 0; pass < 3; pass++)                /* files, folders in folders, folders */
        for (int i = 0; i < SLOTS; i++) {
            if (!atomic_load(&half_written[i].named))
                continue;
            if (pass)
                rmdir(half_written[i].name);
            else
                unlink(half_written[i].name);
        }
    folder_remove_empty();
}
