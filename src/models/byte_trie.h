/* SPDX-License-Identifier: MIT */
/* byte_trie.h -- texts, each with a number, found byte by byte from a place in another text on. */
#ifndef SRC_MODELS_BYTE_TRIE_H
#define SRC_MODELS_BYTE_TRIE_H

#include <stddef.h>
#include <stdint.h>
#include "formats/err.h"

typedef struct ByteTrie {
    struct { uint32_t parent; int32_t value; uint8_t byte; } *node;     /* the first is the root */
    uint32_t nodes, room;
    uint32_t *slot, slots;      /* hash table of nodes by parent and byte: a power of two, half of it empty; 0: free */
} ByteTrie;                     /* all zero: empty */

/* The number, not negative, of n > 0 bytes; one that is there already has the new number. */
int trie_add(ByteTrie *t, const char *text, size_t n, int32_t value, Err *e);
void trie_free(ByteTrie *t);
/* The node below this one (the root is 0), 0 where there is none. */
uint32_t trie_below(const ByteTrie *t, uint32_t node, uint8_t byte);
/* -1: no text ends there */
static inline int32_t trie_value(const ByteTrie *t, uint32_t node)
{
    return t->node[node].value;
}
/* The number of the longest text that n bytes begin with and its length; -1 where there is none. */
int32_t trie_longest(const ByteTrie *t, const char *text, size_t n, size_t *length);
/* The number of these bytes, -1 where they are not there. */
int32_t trie_find(const ByteTrie *t, const char *text, size_t n);

#endif
