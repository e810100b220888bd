/* SPDX-License-Identifier: MIT */
/* frames.h -- whole zstd frames decompressed by several threads, given back in their order. Used by source.c only. */
#ifndef FORMATS_FRAMES_H
#define FORMATS_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Frames Frames;

/* One frame: as it came, and what it held. */
typedef struct Frame {
    uint8_t *packed, *plain;
    size_t packed_size, plain_size;
    bool failed;                /* plain holds nothing: what is wrong is found by decoding packed again */
} Frame;

Frames *frames_create(void);            /* NULL: no memory, or one processor only */
void frames_free(Frames *f);            /* NULL is fine */
/* By its header, which lies in the n bytes at p: whether a frame says what it holds, and that is not too much. */
bool frames_takes(const uint8_t *p, size_t n);
/* Whether all of the frame at p is in the n bytes there: *size gets its length. */
bool frames_whole(const uint8_t *p, size_t n, size_t *size);
/* Room for one more. */
bool frames_has_room(const Frames *f);
/* Takes a copy of a whole frame. False: no memory. */
bool frames_put(Frames *f, const uint8_t *p, size_t size);
/* The oldest, decoded, until frames_drop; NULL when none is there. */
const Frame *frames_first(Frames *f);
void frames_drop(Frames *f);
size_t frames_packed(const Frames *f);  /* bytes of all that are there, as they came */

#endif
