/* SPDX-License-Identifier: MIT */
/* image_writer.c -- a ring of pictures: the caller fills it, workers take them in order and write them side by side. */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/image.h"
#include "formats/image_writer.h"

enum { MOST_THREADS = 4, SLOTS = MOST_THREADS + 2 };
static const size_t WORTH_THREADS = (size_t)256 << 10;  /* bytes of a picture */

typedef struct Slot {
    char *path;
    json_t *text;
    Image image;
    size_t room;                        /* bytes that image.pixels holds */
    bool busy;                          /* waits, or is written */
} Slot;

struct ImageWriter {
    Slot slot[SLOTS];                   /* number n is in slot n % SLOTS */
    long added, taken, written;         /* pictures so far */
    long failed;                        /* number of the first that failed */
    Err error;                          /* of that one */
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread[MOST_THREADS];
    int threads;                        /* 0: the caller does it all */
    int wanted;                         /* threads to start; 0 once that has been tried */
};

/* ---- workers ---- */

static void note_failure(ImageWriter *w, long number, const Err *e)
{
    if (e->set && (!w->error.set || number < w->failed)) {
        w->error = *e;
        w->failed = number;
    }
}

static void *work(void *argument)
{
    ImageWriter *w = argument;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->taken == w->added && !w->stop)
            pthread_cond_wait(&w->changed, &w->lock);
        if (w->stop)
            break;
        const long number = w->taken++;
        Slot *s = &w->slot[number%SLOTS];
        Err e = {0};
        pthread_mutex_unlock(&w->lock);
        image_write(s->path, s->image.width, s->image.height, s->image.channels, s->image.pixels, s->text, &e);
        pthread_mutex_lock(&w->lock);
        note_failure(w, number, &e);
        s->busy = false;
        w->written++;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- the caller's side ---- */

int image_writer_create(ImageWriter **out, int threads, Err *e)
{
    ImageWriter *w = *out = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, "out of memory");
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    const long wanted = threads ? threads : sysconf(_SC_NPROCESSORS_ONLN);
    w->wanted = wanted > MOST_THREADS ? MOST_THREADS : (int)wanted;
    return 0;
}

/* Fewer than wanted will do, and none. */
static void start_threads(ImageWriter *w)
{
    while (w->wanted > 1 && w->threads < w->wanted && pthread_create(&w->thread[w->threads], NULL, work, w) == 0)
        w->threads++;
    w->wanted = 0;
}

/* The first failure, said again at each call. */
static int failure(const ImageWriter *w, Err *e)
{
    if (w->error.set && !e->set)
        *e = w->error;
    return w->error.set ? -1 : 0;
}

static int fill(Slot *s, const char *path, Image image, size_t bytes, const json_t *text, Err *e)
{
    free(s->path);
    json_decref(s->text);
    s->path = strdup(path);
    s->text = json_deep_copy(text);
    if (bytes > s->room) {
        free(s->image.pixels);
        s->image.pixels = malloc(bytes);
        s->room = s->image.pixels ? bytes : 0;
    }
    if (!s->path || (text && !s->text) || !s->image.pixels)
        return err_set(e, "%s: out of memory for a picture of %zu bytes", path, bytes);
    memcpy(s->image.pixels, image.pixels, bytes);
    image.pixels = s->image.pixels;
    s->image = image;
    return 0;
}

int image_writer_add(ImageWriter *w, const char *path, int width, int height, int channels, const uint8_t *pixels,
                     const json_t *text, Err *e)
{
    const Image image = {width, height, channels, (uint8_t *)pixels};
    const size_t bytes = width < 1 || height < 1 ? 0 : (size_t)width*(size_t)height*(size_t)channels;
    if (w->wanted && bytes >= WORTH_THREADS)
        start_threads(w);
    if (w->threads == 0 || bytes == 0)
        return image_write(path, width, height, channels, pixels, text, e);
    Slot *s = &w->slot[w->added%SLOTS];
    pthread_mutex_lock(&w->lock);
    while (s->busy)
        pthread_cond_wait(&w->changed, &w->lock);
    int failed = failure(w, e);
    pthread_mutex_unlock(&w->lock);
    if (failed || fill(s, path, image, bytes, text, e))
        return -1;
    pthread_mutex_lock(&w->lock);
    s->busy = true;
    w->added++;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return 0;
}

int image_writer_drain(ImageWriter *w, Err *e)
{
    pthread_mutex_lock(&w->lock);
    while (w->written != w->added)
        pthread_cond_wait(&w->changed, &w->lock);
    const int failed = failure(w, e);
    pthread_mutex_unlock(&w->lock);
    return failed;
}

void image_writer_free(ImageWriter *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    for (int i = 0; i < w->threads; i++)
        pthread_join(w->thread[i], NULL);
    for (int i = 0; i < SLOTS; i++) {
        free(w->slot[i].path);
        json_decref(w->slot[i].text);
        image_free(&w->slot[i].image);
    }
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
    free(w);
}
