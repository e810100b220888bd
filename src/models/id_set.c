/* SPDX-License-Identifier: MIT */
/* id_set.c -- a hash table of hashes. */
#include <stdlib.h>
#include "src/models/fnv.h"
#include "src/models/id_set.h"
#include "src/models/splitmix.h"

/* The place of a hash, or the free one where it belongs. */
static size_t place(const uint64_t *hash, size_t capacity, uint64_t h)
{
    size_t i = h & (capacity - 1);
    while (hash[i] && hash[i] != h)
        i = (i + 1) & (capacity - 1);
    return i;
}

static int grow(IdSet *s)
{
    const size_t capacity = s->capacity ? s->capacity * 2 : 1024;
    uint64_t *hash = calloc(capacity, sizeof *hash);
    if (!hash)
        return -1;
    for (size_t i = 0; i < s->capacity; i++)
        if (s->hash[i])
            hash[place(hash, capacity, s->hash[i])] = s->hash[i];
    free(s->hash);
    s->hash = hash;
    s->capacity = capacity;
    return 0;
}

int id_set_add(IdSet *s, const char *id)
{
    if (s->count * 2 >= s->capacity && grow(s))
        return -1;
    uint64_t h = splitmix(fnv_text(id));
    h += h == 0;
    const size_t i = place(s->hash, s->capacity, h);
    if (s->hash[i])
        return 0;
    s->hash[i] = h;
    s->count++;
    return 1;
}

void id_set_free(IdSet *s)
{
    free(s->hash);
    *s = (IdSet){0};
}
