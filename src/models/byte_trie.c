/* SPDX-License-Identifier: MIT */
/* byte_trie.c -- a node for each beginning of a text, found by the node before it and the byte in one hash table:
 * memory is linear in the texts' bytes, a step takes constant time. */
#include <stdlib.h>
#include <string.h>
#include "src/models/byte_trie.h"

/* Where the node is, or the free slot that it would be in. */
static uint32_t slot_of(const ByteTrie *t, uint32_t parent, uint8_t byte)
{
    const uint64_t mixed = ((uint64_t)parent << 8 | byte) * 0x9e3779b97f4a7c15;
    uint32_t i = (uint32_t)(mixed >> 32) & (t->slots - 1);
    while (t->slot[i] && (t->node[t->slot[i]].parent != parent || t->node[t->slot[i]].byte != byte))
        i = (i + 1) & (t->slots - 1);
    return i;
}

/* Room for another node, and the root at the beginning. */
static int grow(ByteTrie *t, Err *e)
{
    if (t->nodes < t->room)
        return 0;
    const uint32_t room = t->room ? 2 * t->room : 256;
    void *node = room < 1u << 30 ? realloc(t->node, room * sizeof *t->node) : NULL;
    uint32_t *slot = node ? calloc(2 * (size_t)room, sizeof *slot) : NULL;
    t->node = node ? node : t->node;
    if (!slot)
        return err_set(e, "out of memory for a vocabulary");
    free(t->slot);
    t->slot = slot;
    t->slots = 2 * room;
    t->room = room;
    if (t->nodes == 0) {
        t->node[0].value = -1;
        t->nodes = 1;
    }
    for (uint32_t i = 1; i < t->nodes; i++)
        t->slot[slot_of(t, t->node[i].parent, t->node[i].byte)] = i;
    return 0;
}

int trie_add(ByteTrie *t, const char *text, size_t n, int32_t value, Err *e)
{
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t below = trie_below(t, at, (uint8_t)text[i]);
        if (!below) {
            if (grow(t, e))
                return -1;
            t->node[t->nodes].parent = at;
            t->node[t->nodes].byte = (uint8_t)text[i];
            t->node[t->nodes].value = -1;
            t->slot[slot_of(t, at, (uint8_t)text[i])] = t->nodes;
            at = t->nodes++;
        } else
            at = below;
    }
    t->node[at].value = value;
    return 0;
}

void trie_free(ByteTrie *t)
{
    free(t->node);
    free(t->slot);
    *t = (ByteTrie){0};
}

uint32_t trie_below(const ByteTrie *t, uint32_t node, uint8_t byte)
{
    return t->slots ? t->slot[slot_of(t, node, byte)] : 0;
}

int32_t trie_longest(const ByteTrie *t, const char *text, size_t n, size_t *length)
{
    int32_t longest = -1;
    uint32_t at = 0;
    for (size_t i = 0; i < n && (at = trie_below(t, at, (uint8_t)text[i])); i++)
        if (trie_value(t, at) >= 0) {
            longest = trie_value(t, at);
            *length = i + 1;
        }
    return longest;
}

int32_t trie_find(const ByteTrie *t, const char *text, size_t n)
{
    size_t length = 0;
    const int32_t longest = trie_longest(t, text, n, &length);
    return length == n ? longest : -1;
}
