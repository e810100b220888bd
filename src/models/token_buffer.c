/* SPDX-License-Identifier: MIT */
/* token_buffer.c -- tokens in fixed slots, and an array of slot numbers that is shuffled in their stead (Fisher and
 * Yates).
 *
 *   slot:   | held, to be given out ......... | taken since the shuffle | free ...... |
 *           0                              left                       held       capacity */
#include <stdlib.h>
#include <string.h>
#include "src/models/splitmix.h"
#include "src/models/token_buffer.h"

struct TokenBuffer {
    int64_t capacity, held, left;
    int64_t peak;                   /* most ever held: slots from here on were never written */
    size_t size;                    /* bytes of a token */
    int D;
    DType type;
    uint64_t random;
    int32_t *slot;
    char *data;
};

int token_buffer_create(TokenBuffer **out, int64_t capacity, int D, DType type, uint64_t seed, Err *e)
{
    *out = NULL;
    TokenBuffer *b = calloc(1, sizeof *b);
    if (!b)
        return err_set(e, "out of memory");
    *b = (TokenBuffer){.capacity = capacity, .D = D, .type = type, .size = (size_t)D*dtype_size(type), .random = seed};
    b->slot = malloc(sizeof *b->slot*(size_t)capacity);
    b->data = malloc(b->size*(size_t)capacity);
    if (!b->slot || !b->data) {
        token_buffer_free(b);
        return err_set(e, "out of memory for a buffer of %lld tokens of width %d; try a smaller --buffer",
                       (long long)capacity, D);
    }
    for (int64_t j = 0; j < capacity; j++)
        b->slot[j] = (int32_t)j;
    *out = b;
    return 0;
}

void token_buffer_free(TokenBuffer *b)
{
    if (!b)
        return;
    free(b->slot);
    free(b->data);
    free(b);
}

int64_t token_buffer_held(const TokenBuffer *b)
{
    return b->held;
}

int64_t token_buffer_room(const TokenBuffer *b)
{
    return b->capacity - b->held;
}

void token_buffer_add(TokenBuffer *b, const void *tokens, int64_t n)
{
    if (b->held + n > b->peak)
        b->peak = b->held + n;
    for (int64_t j = 0; j < n; j++)
        memcpy(b->data + (size_t)b->slot[b->held++]*b->size, (const char *)tokens + (size_t)j*b->size, b->size);
}

static uint64_t next_random(TokenBuffer *b)
{
    return splitmix(b->random += SPLITMIX_STEP);
}

void token_buffer_shuffle(TokenBuffer *b)
{
    for (int64_t j = b->held - 1; j > 0; j--) {
        const int64_t other = (int64_t)((next_random(b) >> 32)*(uint64_t)(j + 1) >> 32);
        const int32_t s = b->slot[j];
        b->slot[j] = b->slot[other];
        b->slot[other] = s;
    }
    b->left = b->held;
}

int64_t token_buffer_take(TokenBuffer *b, float *x, int64_t n)
{
    n = n < b->left ? n : b->left;
    for (int64_t j = 0; j < n; j++)
        dtype_to_f32(x + j*b->D, b->data + (size_t)b->slot[--b->left]*b->size, b->type, (size_t)b->D);
    return n;
}

void token_buffer_drop(TokenBuffer *b)
{
    b->held = b->left;
}

int token_buffer_store(const TokenBuffer *b, Checkpoint *c, const char *part, Err *e)
{
    const int64_t place[] = {b->held, b->left, b->peak, (int64_t)b->random};
    return checkpoint_put(c, part, "buffer.place", I64, place, 4, false, e)
        || checkpoint_put(c, part, "buffer.slot", I32, b->slot, (size_t)b->peak, false, e)
        || checkpoint_put(c, part, "buffer.data", U8, b->data, (size_t)b->peak*b->size, false, e);
}

int token_buffer_restore(TokenBuffer *b, Checkpoint *c, const char *part, Err *e)
{
    int64_t place[4];
    if (checkpoint_get(c, part, "buffer.place", I64, place, 4, false, e))
        return -1;
    const int64_t held = place[0], left = place[1], peak = place[2];
    if (left < 0 || held < left || peak < held || peak > b->capacity)
        return err_set(e, "checkpoint: %s: a buffer of %lld tokens cannot hold %lld, %lld, %lld", part,
                       (long long)b->capacity, (long long)left, (long long)held, (long long)peak);
    if (checkpoint_get(c, part, "buffer.slot", I32, b->slot, (size_t)peak, false, e)
        || checkpoint_get(c, part, "buffer.data", U8, b->data, (size_t)peak*b->size, false, e))
        return -1;
    for (int64_t j = 0; j < peak; j++)
        if (b->slot[j] < 0 || b->slot[j] >= peak)
            return err_set(e, "checkpoint: %s: buffer.slot: value %lld is %d, expected 0 to %lld", part, (long long)j,
                           b->slot[j], (long long)peak - 1);
    b->held = held;
    b->left = left;
    b->peak = peak;
    b->random = (uint64_t)place[3];
    return 0;
}
