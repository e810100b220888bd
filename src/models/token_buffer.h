/* SPDX-License-Identifier: MIT */
/* token_buffer.h -- a bounded store of tokens that gives them out in random order.
 *
 *     add, add, ... until room is 0     shuffle     read, read, ...     drop those of the front
 *                                                                       (or not: another shuffle is another pass)
 *
 * A token is D values, kept in the type it came in, with a tag of its record. `unit` tokens that come together stay
 * together: 1 mixes tokens, a picture's number of them mixes pictures. Counts are of tokens, and multiples of unit. The
 * order depends on the seed and on what was added in which order. */
#ifndef SRC_MODELS_TOKEN_BUFFER_H
#define SRC_MODELS_TOKEN_BUFFER_H

#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"
#include "src/models/checkpoint.h"

typedef struct TokenBuffer TokenBuffer;

typedef struct BufferOptions {
    int64_t capacity;           /* less than 2^31; of whole units, at least one */
    int D, unit;
    DType type;                 /* F32, F16 or BF16 */
    uint64_t seed;
} BufferOptions;

/* Memory is touched as it fills. */
int token_buffer_create(TokenBuffer **b, const BufferOptions *options, Err *e);
void token_buffer_free(TokenBuffer *b);
int64_t token_buffer_held(const TokenBuffer *b);
int64_t token_buffer_room(const TokenBuffer *b);
/* n tokens (n,D) of the buffer's type, n <= room, all of one tag. */
void token_buffer_add(TokenBuffer *b, const void *tokens, int32_t tag, int64_t n);
/* A new random order of all that is held. */
void token_buffer_shuffle(TokenBuffer *b);
/* n tokens of the order from its place `from` on, as f32 (n,D), fewer when fewer are left; tag (n) may be NULL. Returns
 * how many. */
int64_t token_buffer_read(const TokenBuffer *b, int64_t from, float *x, int32_t *tag, int64_t n);
/* Of a full buffer: the order's first n tokens, which will be dropped, are not needed any more. What is added goes
 * to their places, late: it is not held, and not in the order, before the drop. */
void token_buffer_spare(TokenBuffer *b, int64_t n);
/* The order's first n tokens are held no longer; those that came late are. Returns how many these are, at most n. */
int64_t token_buffer_drop(TokenBuffer *b, int64_t n);

/* Everything but what came late, to a part of a checkpoint and back into a buffer of the same options. */
int token_buffer_store(const TokenBuffer *b, Checkpoint *c, const char *part, Err *e);
/* tags: how many there are. */
int token_buffer_restore(TokenBuffer *b, Checkpoint *c, const char *part, int32_t tags, Err *e);

#endif
