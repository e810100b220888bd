/* SPDX-License-Identifier: MIT */
/* sorter.c -- external merge sort (Knuth, The Art of Computer Programming 3, section 5.4).
 *
 *     strings --> memory, full --> sorted, a run of the file --> ... --> runs, merged side by side
 *
 * In the file a string is {u64 key high, u64 key low, u64 bytes} and its bytes. In memory the strings grow from the
 * front and their entries from the back; when runs are merged the same memory is shared out as room to read them. Runs
 * that are too many for that are merged to longer ones first. Keys need no even distribution, and the number of runs
 * does not show in the order. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/fdio.h"
#include "formats/sorter.h"

enum { HEAD = 24, LEAST_ROOM = 64 << 10, MOST_ROOM = 4 << 20, WRITE_ROOM = 256 << 10, GIVE_BACK = 16 << 20 };

typedef struct Entry {
    SortKey key;
    size_t at, bytes;
} Entry;

typedef struct Run { uint64_t begin, end; } Run;

/* A run that is read: its next string's head is in key and bytes, the string itself behind it. */
typedef struct Reader {
    uint64_t at, end;                   /* of the file: what is not in room yet */
    uint64_t given_back;                /* of the file: bytes before this take no space any more */
    uint8_t *room;
    size_t size, have, used;            /* of room */
    SortKey key;
    uint64_t bytes;
} Reader;

struct Sorter {
    uint8_t *memory;
    size_t size, used;
    Entry *entry;                       /* entries, at the end of memory */
    size_t entries, next;
    char *folder;
    int fd;                             /* -1: all is in memory */
    Run *run;
    size_t runs, run_room;
    uint64_t end;                       /* of the file */
    uint8_t *write;                     /* what is not written yet, before end */
    size_t written;
    Reader *reader;                     /* one a run that is merged; NULL: none are */
    size_t *heap, heaped;               /* of readers, the least key first */
    uint8_t *string;                    /* the last that was given */
    size_t string_room;
};

int sorter_create(Sorter **out, size_t memory, const char *folder, Err *e)
{
    Sorter *s = calloc(1, sizeof *s);
    *out = NULL;
    memory -= memory % sizeof(Entry);
    if (!s || !(s->memory = malloc(memory)) || !(s->folder = strdup(folder))) {
        err_set(e, "out of memory for %zu bytes", memory);
        if (s)
            free(s->memory);
        free(s);
        return -1;
    }
    s->size = memory;
    s->entry = (Entry *)(s->memory + memory);
    s->fd = -1;
    *out = s;
    return 0;
}

static void end_merge(Sorter *s)
{
    free(s->reader);
    free(s->heap);
    s->reader = NULL;
    s->heap = NULL;
}

void sorter_free(Sorter *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    end_merge(s);
    free(s->memory);
    free(s->folder);
    free(s->run);
    free(s->write);
    free(s->string);
    free(s);
}

static bool before(SortKey a, SortKey b)
{
    return a.high != b.high ? a.high < b.high : a.low < b.low;
}

static int compare(const void *a, const void *b)
{
    const Entry *x = a, *y = b;
    return before(x->key, y->key) ? -1 : before(y->key, x->key);
}

static void sort_entries(Sorter *s)
{
    qsort(s->entry, s->entries, sizeof *s->entry, compare);     /* its own copy is the other half of 64 bytes each */
}

/* ---- the file ---- */

static int open_file(Sorter *s, Err *e)
{
    char *path = NULL;
    s->fd = open(s->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (s->fd < 0 && asprintf(&path, "%s/sdsteer-XXXXXX", s->folder) > 0) {
        s->fd = mkostemp(path, O_CLOEXEC);                          /* a file system without O_TMPFILE */
        if (s->fd >= 0)
            unlink(path);
        free(path);
    }
    if (s->fd < 0)
        return err_set(e, "%s: no file can be made in it: %s (TMPDIR names another folder)", s->folder,
                       strerror(errno));
    if (!(s->write = malloc(WRITE_ROOM)))
        return err_set(e, "out of memory");
    return 0;
}

static int write_at(const Sorter *s, const uint8_t *p, size_t n, uint64_t at, Err *e)
{
    while (n > 0) {
        const ssize_t put = pwrite(s->fd, p, n, (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return err_set(e, "%s: setting records aside: %s (TMPDIR names another folder)", s->folder,
                           put < 0 ? strerror(errno) : "nothing was taken");
        p += put;
        n -= (size_t)put;
        at += (uint64_t)put;
    }
    return 0;
}

static int flush(Sorter *s, Err *e)
{
    const size_t n = s->written;
    s->written = 0;
    return write_at(s, s->write, n, s->end - n, e);
}

static int append(Sorter *s, const void *data, size_t n, Err *e)
{
    if (s->written + n > WRITE_ROOM && flush(s, e))
        return -1;
    s->end += n;
    if (n > WRITE_ROOM)
        return write_at(s, data, n, s->end - n, e);
    memcpy(s->write + s->written, data, n);
    s->written += n;
    return 0;
}

static int append_string(Sorter *s, SortKey key, const void *data, uint64_t n, Err *e)
{
    uint8_t head[HEAD];
    memcpy(head, &key, sizeof key);
    memcpy(head + sizeof key, &n, sizeof n);
    return append(s, head, HEAD, e) || append(s, data, n, e) ? -1 : 0;
}

static int begin_run(Sorter *s, Err *e)
{
    if (s->fd < 0 && open_file(s, e))
        return -1;
    if (s->runs == s->run_room) {
        const size_t room = s->run_room ? 2*s->run_room : 64;
        Run *more = realloc(s->run, room * sizeof *more);
        if (!more)
            return err_set(e, "out of memory");
        s->run = more;
        s->run_room = room;
    }
    s->run[s->runs++] = (Run){s->end, s->end};
    return 0;
}

static int end_run(Sorter *s, Err *e)
{
    s->run[s->runs - 1].end = s->end;
    return flush(s, e);
}

/* ---- strings come ---- */

/* What is in memory becomes a run. */
static int spill(Sorter *s, Err *e)
{
    if (s->entries == 0)
        return 0;
    if (begin_run(s, e))
        return -1;
    sort_entries(s);
    for (size_t i = 0; i < s->entries; i++) {
        const Entry *x = &s->entry[i];
        if (append_string(s, x->key, s->memory + x->at, x->bytes, e))
            return -1;
    }
    s->entry += s->entries;
    s->entries = s->used = 0;
    return end_run(s, e);
}

int sorter_add(Sorter *s, SortKey key, const void *data, size_t bytes, Err *e)
{
    const size_t free_bytes = s->size - s->used - 2*s->entries*sizeof(Entry);
    if (bytes > free_bytes || free_bytes - bytes < 2*sizeof(Entry)) {
        if (spill(s, e))
            return -1;
        if (bytes > s->size - 2*sizeof(Entry))
            return begin_run(s, e) || append_string(s, key, data, bytes, e) || end_run(s, e) ? -1 : 0;
    }
    memcpy(s->memory + s->used, data, bytes);
    *--s->entry = (Entry){key, s->used, bytes};
    s->entries++;
    s->used += bytes;
    return 0;
}

/* ---- runs are merged ---- */

static int read_at(const Sorter *s, uint8_t *to, size_t n, uint64_t at, Err *e)
{
    return fd_read_at(s->fd, to, n, at) == 0 ? 0
        : err_set(e, "%s: reading what was set aside: %s", s->folder, errno ? strerror(errno) : "it is gone");
}

/* Space of what was read goes back to the file system, where that can do it. */
static void give_back(const Sorter *s, Reader *r)
{
    const uint64_t read = r->at - (r->have - r->used);
    if (read - r->given_back < GIVE_BACK && read < r->end)
        return;
    fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r->given_back, (off_t)(read - r->given_back));
    r->given_back = read;
}

/* The head of the run's next string. 1; 0: there is none; -1. */
static int read_head(Sorter *s, Reader *r, Err *e)
{
    give_back(s, r);
    if (r->have - r->used < HEAD) {
        memmove(r->room, r->room + r->used, r->have - r->used);
        r->have -= r->used;
        r->used = 0;
        const uint64_t left = r->end - r->at;
        const size_t n = left < r->size - r->have ? (size_t)left : r->size - r->have;
        if (read_at(s, r->room + r->have, n, r->at, e))
            return -1;
        r->at += n;
        r->have += n;
    }
    if (r->have == r->used)
        return 0;
    memcpy(&r->key, r->room + r->used, sizeof r->key);
    memcpy(&r->bytes, r->room + r->used + sizeof r->key, sizeof r->bytes);
    r->used += HEAD;
    return 1;
}

/* The string itself, to s->string. */
static int read_string(Sorter *s, Reader *r, Err *e)
{
    if (r->bytes > s->string_room) {
        free(s->string);
        s->string = malloc(r->bytes);
        s->string_room = s->string ? r->bytes : 0;
        if (!s->string)
            return err_set(e, "out of memory for a record of %llu bytes", (unsigned long long)r->bytes);
    }
    const size_t have = r->have - r->used, here = r->bytes < have ? r->bytes : have;
    memcpy(s->string, r->room + r->used, here);
    r->used += here;
    const int failed = read_at(s, s->string + here, r->bytes - here, r->at, e);
    r->at += r->bytes - here;
    return failed;
}

static void sift(Sorter *s, size_t i)
{
    for (size_t least; (least = 2*i + 1) < s->heaped; i = least) {
        if (least + 1 < s->heaped && before(s->reader[s->heap[least + 1]].key, s->reader[s->heap[least]].key))
            least++;
        if (!before(s->reader[s->heap[least]].key, s->reader[s->heap[i]].key))
            return;
        const size_t other = s->heap[i];
        s->heap[i] = s->heap[least];
        s->heap[least] = other;
    }
}

/* Readers for the first k runs, memory shared out among them. */
static int begin_merge(Sorter *s, size_t k, Err *e)
{
    s->reader = calloc(k, sizeof *s->reader);
    s->heap = calloc(k, sizeof *s->heap);
    s->heaped = 0;
    if (!s->reader || !s->heap)
        return err_set(e, "out of memory");
    const size_t share = s->size/k < MOST_ROOM ? s->size/k : MOST_ROOM;
    for (size_t i = 0; i < k; i++) {
        const Run *run = &s->run[i];
        s->reader[i] = (Reader){.at = run->begin, .end = run->end, .given_back = run->begin,
                                .room = s->memory + i*share, .size = share};
        if (read_head(s, &s->reader[i], e) < 0)
            return -1;
        s->heap[s->heaped++] = i;               /* no run is empty */
    }
    for (size_t i = k/2; i-- > 0;)
        sift(s, i);
    return 0;
}

/* The least string of those runs, to s->string. 1; 0 at the end; -1. */
static int merge_next(Sorter *s, SortKey *key, size_t *bytes, Err *e)
{
    if (s->heaped == 0)
        return 0;
    Reader *r = &s->reader[s->heap[0]];
    *key = r->key;
    *bytes = r->bytes;
    const int more = read_string(s, r, e) ? -1 : read_head(s, r, e);
    if (more == 0)
        s->heap[0] = s->heap[--s->heaped];
    sift(s, 0);
    return more < 0 ? -1 : 1;
}

/* The first k runs to one, the last. */
static int merge_to_run(Sorter *s, size_t k, Err *e)
{
    SortKey key;
    size_t bytes;
    int got = begin_merge(s, k, e) || begin_run(s, e) ? -1 : 1;
    while (got > 0 && (got = merge_next(s, &key, &bytes, e)) > 0)
        if (append_string(s, key, s->string, bytes, e))
            got = -1;
    end_merge(s);
    if (got < 0 || end_run(s, e))
        return -1;
    s->runs -= k;
    memmove(s->run, s->run + k, s->runs * sizeof *s->run);
    return 0;
}

static int begin_reading(Sorter *s, Err *e)
{
    if (spill(s, e))
        return -1;
    const size_t most = s->size/LEAST_ROOM;
    while (s->runs > most) {
        const size_t k = s->runs - most + 1;
        if (merge_to_run(s, k < most ? k : most, e))
            return -1;
    }
    return begin_merge(s, s->runs, e);
}

int sorter_next(Sorter *s, const void **data, size_t *bytes, Err *e)
{
    SortKey key;
    if (s->fd < 0) {
        if (s->next == 0)
            sort_entries(s);
        if (s->next == s->entries)
            return 0;
        const Entry *x = &s->entry[s->next++];
        *data = s->memory + x->at;
        *bytes = x->bytes;
        return 1;
    }
    if (!s->reader && begin_reading(s, e))
        return -1;
    const int got = merge_next(s, &key, bytes, e);
    *data = s->string;
    return got;
}
