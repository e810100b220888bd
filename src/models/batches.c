/* SPDX-License-Identifier: MIT */
/* batches.c -- batch number n of a round lies in place n % PLACES.
 *
 *     given < ready ones < being gathered <= given + PLACES          all counted from the round's first */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include "kernels/op.h"
#include "src/models/batches.h"
#include "src/models/sae_shards.h"

/* One batch is trained on while the others become ready: a thread gathers some 1.5 million tokens a second of width
 * 1280, which a GPU trains on, and one in four processors can be spared. */
enum { THREADS = 4, PLACES = THREADS + 2 };

struct Batches {
    const TokenBuffer *buffer;
    Labels *labels;
    Team *team;
    int labels_there;                   /* how many, once memory for them has been taken */
    int64_t tokens;                     /* that a place holds */
    Batch place[PLACES];
    int32_t *tag[PLACES];
    pthread_t thread[THREADS];
    int threads;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t from, to, batch;            /* the round */
    int64_t count, begun, given;        /* batches: of the round, being gathered or ready, given to the trainer */
    int64_t ready[PLACES];              /* 1 + number of the batch that is ready there, 0: none */
    int busy;                           /* threads that are gathering */
    bool quit;
};

static void gather(Batches *b, int64_t number)
{
    const int p = (int)(number % PLACES);
    const int64_t at = b->from + number*b->batch, left = b->to - at;
    Batch *to = &b->place[p];
    to->n = token_buffer_read(b->buffer, at, to->x, b->tag[p], left < b->batch ? left : b->batch);
    for (int64_t j = 0; b->labels_there && j < to->n; j++)
        labels_fill(b->labels, b->tag[p][j], to->label + j*b->labels_there);
}

static void *gather_in_thread(void *context)
{
    Batches *b = context;
    pthread_mutex_lock(&b->lock);
    while (!b->quit) {
        /* The one given last is still in use: its place is free when the next is asked for. */
        if (b->begun == b->count || b->begun >= (b->given ? b->given - 1 : 0) + PLACES) {
            pthread_cond_wait(&b->changed, &b->lock);
            continue;
        }
        const int64_t number = b->begun++;
        b->busy++;
        pthread_mutex_unlock(&b->lock);
        gather(b, number);
        pthread_mutex_lock(&b->lock);
        b->busy--;
        b->ready[number % PLACES] = number + 1;
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

int batches_create(Batches **out, const TokenBuffer *buffer, Labels *labels, Team *team, int D, int64_t tokens, Err *e)
{
    const size_t bytes = sizeof(float)*(size_t)D*(size_t)tokens;
    Batches *b = *out = calloc(1, sizeof *b);
    if (!b)
        return err_set(e, "out of memory");
    *b = (Batches){.buffer = buffer, .labels = labels, .team = team, .tokens = tokens};
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    bool there = true;
    for (int p = 0; p < PLACES; p++) {
        b->place[p].x = team ? shards_space(team, bytes, e) : op->alloc_host(bytes);
        b->tag[p] = malloc(sizeof *b->tag[p]*(size_t)tokens);
        there &= b->place[p].x && b->tag[p];
    }
    const long spare = sysconf(_SC_NPROCESSORS_ONLN)/4, wanted = spare < 1 ? 1 : spare > THREADS ? THREADS : spare;
    while (there && b->threads < wanted && pthread_create(&b->thread[b->threads], NULL, gather_in_thread, b) == 0)
        b->threads++;
    if (b->threads > 0)
        return 0;
    batches_free(b);
    *out = NULL;
    return err_set(e, there ? "no thread can be started" : "out of memory for batches of %lld tokens",
                   (long long)tokens);
}

void batches_free(Batches *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->quit = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    for (int t = 0; t < b->threads; t++)
        pthread_join(b->thread[t], NULL);
    for (int p = 0; p < PLACES; p++) {
        if (!b->team)
            op->free_host(b->place[p].x);
        free(b->place[p].label);
        free(b->tag[p]);
    }
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

float *batches_scratch(Batches *b)
{
    return b->place[0].x;
}

static int need_labels(Batches *b, Err *e)
{
    const int count = b->labels ? labels_count(b->labels) : 0;
    for (int p = 0; p < PLACES && count && !b->place[p].label; p++)
        if (!(b->place[p].label = malloc((size_t)b->tokens*(size_t)count)))
            return err_set(e, "out of memory for %d labels a token", count);
    b->labels_there = count;
    return 0;
}

int batches_begin(Batches *b, int64_t from, int64_t to, int64_t batch, Err *e)
{
    if (need_labels(b, e))
        return -1;
    pthread_mutex_lock(&b->lock);
    b->from = from;
    b->to = to;
    b->batch = batch;
    b->begun = b->given = 0;
    b->count = to > from ? (to - from + batch - 1)/batch : 0;
    for (int p = 0; p < PLACES; p++)
        b->ready[p] = 0;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    return 0;
}

const Batch *batches_next(Batches *b)
{
    const Batch *next = NULL;
    pthread_mutex_lock(&b->lock);
    if (b->given < b->count) {
        const int p = (int)(b->given++ % PLACES);
        pthread_cond_broadcast(&b->changed);
        while (b->ready[p] != b->given)
            pthread_cond_wait(&b->changed, &b->lock);
        next = &b->place[p];
    }
    pthread_mutex_unlock(&b->lock);
    return next;
}

void batches_end(Batches *b)
{
    pthread_mutex_lock(&b->lock);
    b->count = b->begun;
    while (b->busy > 0)
        pthread_cond_wait(&b->changed, &b->lock);
    pthread_mutex_unlock(&b->lock);
}
