/* SPDX-License-Identifier: MIT */
/* sorter.h -- byte strings put into the order of their keys, in memory of a given size, the rest in a file without a
 * name. */
#ifndef FORMATS_SORTER_H
#define FORMATS_SORTER_H

#include <stddef.h>
#include <stdint.h>
#include "formats/err.h"

typedef struct Sorter Sorter;
typedef struct SortKey { uint64_t high, low; } SortKey;

/* memory: bytes, 1 MB or more, of which 64 are for each string; the largest string comes on top. folder: where the file
 * is made, once memory is full. It takes the sum of all strings, gives that back as they are taken (where the file
 * system can), and is gone with the program, however that ends. */
int sorter_create(Sorter **s, size_t memory, const char *folder, Err *e);
int sorter_add(Sorter *s, SortKey key, const void *data, size_t bytes, Err *e);     /* takes a copy */
/* After the last sorter_add: the strings in the order of their keys; those of equal keys in any. 1; 0 at the end; -1.
 * *data is good until the next call. */
int sorter_next(Sorter *s, const void **data, size_t *bytes, Err *e);
void sorter_free(Sorter *s);                                                        /* NULL is fine */

#endif
