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
