/* SPDX-License-Identifier: MIT */
/* token_buffer.h -- a bounded store of tokens that gives them out in random order.
 *
 *     add, add, ... until room is 0     shuffle     take, take, ...     drop what was taken (or not: another shuffle is
 *     another pass)
 *
 * A token is D values, kept in the type it came in. The order depends on the seed and on what was added in which
 * order. */
#ifndef SRC_MODELS_TOKEN_BUFFER_H
#define SRC_MODELS_TOKEN_BUFFER_H

#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"
#include "src/models/checkpoint.h"

typedef struct TokenBuffer TokenBuffer;

/* Room for capacity tokens (less than 2^31); memory is touched as it fills. type: F32, F16 or BF16. */
int token_buffer_create(TokenBuffer **b, int64_t capacity, int D, DType type, uint64_t seed, Err *e);
void token_buffer_free(TokenBuffer *b);
int64_t token_buffer_held(const TokenBuffer *b);
int64_t token_buffer_room(const TokenBuffer *b);
/* n tokens (n,D) of the buffer's type, n <= room. */
void token_buffer_add(TokenBuffer *b, const void *tokens, int64_t n);
/* A new random order of all that is held; take begins anew. */
void token_buffer_shuffle(TokenBuffer *b);
/* The next n of the order as f32 (n,D), fewer when fewer are left. Returns how many. */
int64_t token_buffer_take(TokenBuffer *b, float *x, int64_t n);
/* What was taken since the last shuffle is held no longer. */
void token_buffer_drop(TokenBuffer *b);
/* Everything it holds and its place in the order, to and from a part of a checkpoint; the sizes must be the same. */
int token_buffer_store(const TokenBuffer *b, Checkpoint *c, const char *part, Err *e);
int token_buffer_restore(TokenBuffer *b, Checkpoint *c, const char *part, Err *e);

#endif
