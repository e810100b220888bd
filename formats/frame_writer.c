/* SPDX-License-Identifier: MIT */
/* frame_writer.c -- a ring of frames: the caller fills it, workers take frames in order, compress them side by side,
 * and write each when its turn has come. The workers start at the first frame that is worth it: what comes before, and
 * all of a small stream, the caller compresses and writes itself. */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>
#include <zstd.h>
#include "formats/frame_writer.h"

enum { MOST_THREADS = 4, SLOTS = MOST_THREADS + 2 };
static const size_t WORTH_THREADS = (size_t)256 << 10;  /* bytes of a frame */

typedef struct Slot {
    Bytes frame;
    uint8_t *packed;
    size_t capacity, size;              /* size: of what is packed */
    Err error;                          /* of compressing it */
} Slot;

struct FrameWriter {
    const char *name;
    FrameWrite write;
    void *context;
    Slot slot[SLOTS];
    long added, taken, written;         /* frames so far; number n is in slot n % SLOTS */
    Err error;                          /* the first, by order of frames */
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread[MOST_THREADS];
    ZSTD_CCtx *zstd[MOST_THREADS];      /* the caller's own is the first thread's too */
    int threads;                        /* 0: the caller does it all */
    int wanted;                         /* threads to start; 0 once that has been tried */
    int level;
};

static void compress(const FrameWriter *f, ZSTD_CCtx *zstd, Slot *s)
{
    const size_t bound = ZSTD_compressBound(s->frame.size);
    s->error = (Err){0};
    s->size = 0;
    if (bound > s->capacity) {
        free(s->packed);
        s->packed = malloc(bound);
        s->capacity = s->packed ? bound : 0;
    }
    if (!s->packed) {
        err_set(&s->error, "%s: out of memory for a compressed frame of up to %zu bytes", f->name, bound);
        return;
    }
    s->size = ZSTD_compress2(zstd, s->packed, bound, s->frame.data, s->frame.size);
    if (ZSTD_isError(s->size))
        err_set(&s->error, "%s: compressing: %s", f->name, ZSTD_getErrorName(s->size));
}

/* ---- workers ---- */

typedef struct Worker { FrameWriter *f; int number; } Worker;

/* Only while it writes may a worker be cancelled: a reader may be a long time coming. */
static void write_slot(FrameWriter *f, Slot *s, Err *e)
{
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    f->write(f->context, s->packed, s->size, e);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
}

static void *work(void *argument)
{
    const Worker w = *(Worker *)argument;
    FrameWriter *f = w.f;
    free(argument);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_mutex_lock(&f->lock);
    for (;;) {
        while (f->taken == f->added && !f->stop)
            pthread_cond_wait(&f->changed, &f->lock);
        if (f->stop)
            break;
        const long number = f->taken++;
        Slot *s = &f->slot[number%SLOTS];
        pthread_mutex_unlock(&f->lock);
        compress(f, f->zstd[w.number], s);
        pthread_mutex_lock(&f->lock);
        while (f->written != number && !f->stop)
            pthread_cond_wait(&f->changed, &f->lock);
        if (f->stop)
            break;
        Err e = s->error;
        if (!e.set && !f->error.set) {
            pthread_mutex_unlock(&f->lock);
            write_slot(f, s, &e);
            pthread_mutex_lock(&f->lock);
        }
        if (!f->error.set)
            f->error = e;
        f->written++;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* ---- the caller's side ---- */

static int open_zstd(ZSTD_CCtx **zstd, int level, Err *e)
{
    if (!(*zstd = ZSTD_createCCtx()))
        return err_set(e, "out of memory");
    if (ZSTD_isError(ZSTD_CCtx_setParameter(*zstd, ZSTD_c_compressionLevel, level))
        || ZSTD_isError(ZSTD_CCtx_setParameter(*zstd, ZSTD_c_checksumFlag, 1)))
        return err_set(e, "zstd level %d is not possible", level);
    return 0;
}

static int start_thread(FrameWriter *f)
{
    Err ignored = {0};
    Worker *w = malloc(sizeof *w);
    if (!w)
        return -1;
    *w = (Worker){f, f->threads};
    if ((!f->zstd[w->number] && open_zstd(&f->zstd[w->number], f->level, &ignored))
        || pthread_create(&f->thread[w->number], NULL, work, w)) {
        free(w);
        return -1;
    }
    f->threads++;
    return 0;
}

/* Fewer than wanted will do, and none. */
static void start_threads(FrameWriter *f)
{
    while (f->wanted > 1 && f->threads < f->wanted && start_thread(f) == 0) {}
    f->wanted = 0;
}

int frame_writer_create(FrameWriter **out, int level, int threads, const char *name, FrameWrite write, void *context,
                        Err *e)
{
    *out = NULL;
    FrameWriter *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(e, "out of memory");
    f->name = name;
    f->write = write;
    f->context = context;
    f->level = level;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    const long wanted = threads ? threads : sysconf(_SC_NPROCESSORS_ONLN);
    f->wanted = wanted > MOST_THREADS ? MOST_THREADS : (int)wanted;
    if (open_zstd(&f->zstd[0], level, e)) {
        frame_writer_free(f);
        return -1;
    }
    *out = f;
    return 0;
}

static void swap(Bytes *a, Bytes *b)
{
    const Bytes other = *a;
    *a = *b;
    *b = other;
}

/* The first failure, said again at each call. */
static int failure(const FrameWriter *f, Err *e)
{
    if (f->error.set && !e->set)
        *e = f->error;
    return f->error.set ? -1 : 0;
}

static void write_at_once(FrameWriter *f, Bytes *frame)
{
    Slot *s = &f->slot[0];
    swap(&s->frame, frame);
    frame->size = 0;
    compress(f, f->zstd[0], s);
    f->error = s->error;
    if (!f->error.set)
        f->write(f->context, s->packed, s->size, &f->error);
}

int frame_writer_add(FrameWriter *f, Bytes *frame, Err *e)
{
    if (f->wanted && frame->size >= WORTH_THREADS)
        start_threads(f);
    if (f->threads == 0) {
        if (!f->error.set)
            write_at_once(f, frame);
        return failure(f, e);
    }
    pthread_mutex_lock(&f->lock);
    while (f->added - f->written == SLOTS)
        pthread_cond_wait(&f->changed, &f->lock);
    const int failed = failure(f, e);
    if (!failed) {
        swap(&f->slot[f->added%SLOTS].frame, frame);
        frame->size = 0;
        f->added++;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return failed;
}

int frame_writer_drain(FrameWriter *f, Err *e)
{
    pthread_mutex_lock(&f->lock);
    while (f->threads && f->written != f->added)
        pthread_cond_wait(&f->changed, &f->lock);
    const int failed = failure(f, e);
    pthread_mutex_unlock(&f->lock);
    return failed;
}

void frame_writer_free(FrameWriter *f)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    for (int i = 0; i < f->threads; i++) {
        pthread_cancel(f->thread[i]);
        pthread_join(f->thread[i], NULL);
    }
    for (int i = 0; i < MOST_THREADS; i++)
        ZSTD_freeCCtx(f->zstd[i]);
    for (int i = 0; i < SLOTS; i++) {
        free(f->slot[i].frame.data);
        free(f->slot[i].packed);
    }
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
    free(f);
}
