/* SPDX-License-Identifier: MIT */
/* id_set.h -- which ids came before, to know one that comes twice: hashes of 64 bits, some 16 bytes an id.
 *
 * Two ids of one hash are taken for the same: at a million of them one run in 37 million. */
#ifndef SRC_MODELS_ID_SET_H
#define SRC_MODELS_ID_SET_H

#include <stddef.h>
#include <stdint.h>

typedef struct IdSet {          /* zeroed: empty */
    uint64_t *hash;             /* open addressing, 0 is free */
    size_t count, capacity;     /* capacity: a power of two, at most half full */
} IdSet;

/* 1: the id is new and now known, 0: it came before, -1: out of memory. */
int id_set_add(IdSet *s, const char *id);
void id_set_free(IdSet *s);

#endif
