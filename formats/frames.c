/* SPDX-License-Identifier: MIT */
/* frames.c -- frame number n lies in place n % PLACES.
 *
 *     dropped <= begun <= put <= dropped + PLACES */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>
#include "formats/frames.h"

enum { PLACES = 6, THREADS = 4, LARGEST = 64 << 20 };   /* LARGEST: bytes inside a frame that is decoded whole */

typedef struct Place {
    Frame frame;
    size_t packed_room, plain_room;
    bool ready;
} Place;

struct Frames {
    Place place[PLACES];
    long put, begun, dropped;
    pthread_t thread[THREADS];
    int threads;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool quit;
};

static bool need(uint8_t **data, size_t *room, size_t bytes)
{
    if (bytes <= *room)
        return true;
    free(*data);
    *data = malloc(bytes);
    *room = *data ? bytes : 0;
    return *data != NULL;
}

static bool decode(Place *p, ZSTD_DCtx *zstd)
{
    Frame *f = &p->frame;
    const unsigned long long size = ZSTD_getFrameContentSize(f->packed, f->packed_size);
    if (!need(&f->plain, &p->plain_room, (size_t)size + 1))
        return false;
    f->plain_size = ZSTD_decompressDCtx(zstd, f->plain, (size_t)size, f->packed, f->packed_size);
    return f->plain_size == size;
}

static void *decode_in_thread(void *context)
{
    Frames *f = context;
    ZSTD_DCtx *zstd = ZSTD_createDCtx();
    pthread_mutex_lock(&f->lock);
    while (!f->quit) {
        if (f->begun == f->put) {
            pthread_cond_wait(&f->changed, &f->lock);
            continue;
        }
        Place *p = &f->place[f->begun++ % PLACES];
        pthread_mutex_unlock(&f->lock);
        p->frame.failed = !zstd || !decode(p, zstd);
        pthread_mutex_lock(&f->lock);
        p->ready = true;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    ZSTD_freeDCtx(zstd);
    return NULL;
}

Frames *frames_create(void)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    Frames *f = processors > 1 ? calloc(1, sizeof *f) : NULL;
    if (!f)
        return NULL;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    while (f->threads < THREADS && f->threads < processors
           && pthread_create(&f->thread[f->threads], NULL, decode_in_thread, f) == 0)
        f->threads++;
    if (f->threads > 0)
        return f;
    frames_free(f);
    return NULL;
}

void frames_free(Frames *f)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->lock);
    f->quit = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    for (int t = 0; t < f->threads; t++)
        pthread_join(f->thread[t], NULL);
    for (int i = 0; i < PLACES; i++) {
        free(f->place[i].frame.packed);
        free(f->place[i].frame.plain);
    }
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

bool frames_takes(const uint8_t *p, size_t n)
{
    const unsigned long long inside = ZSTD_getFrameContentSize(p, n);
    return inside != ZSTD_CONTENTSIZE_UNKNOWN && inside != ZSTD_CONTENTSIZE_ERROR && inside <= LARGEST;
}

bool frames_whole(const uint8_t *p, size_t n, size_t *size)
{
    *size = ZSTD_findFrameCompressedSize(p, n);
    return !ZSTD_isError(*size);
}

bool frames_has_room(const Frames *f)
{
    return f->put < f->dropped + PLACES;
}

bool frames_put(Frames *f, const uint8_t *p, size_t size)
{
    Place *place = &f->place[f->put % PLACES];
    if (!need(&place->frame.packed, &place->packed_room, size))
        return false;
    memcpy(place->frame.packed, p, size);
    place->frame.packed_size = size;
    place->ready = false;
    pthread_mutex_lock(&f->lock);
    f->put++;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    return true;
}

const Frame *frames_first(Frames *f)
{
    if (f->dropped == f->put)
        return NULL;
    Place *p = &f->place[f->dropped % PLACES];
    pthread_mutex_lock(&f->lock);
    while (!p->ready)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
    return &p->frame;
}

void frames_drop(Frames *f)
{
    f->dropped++;
}

size_t frames_packed(const Frames *f)
{
    size_t bytes = 0;
    for (long n = f->dropped; n < f->put; n++)
        bytes += f->place[n % PLACES].frame.packed_size;
    return bytes;
}
