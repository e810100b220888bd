/* SPDX-License-Identifier: MIT */
/* fnv.h -- FNV-1a hashes of 64 bits (Fowler, Noll, Vo): for ids and tables, not against malice. */
#ifndef FORMATS_FNV_H
#define FORMATS_FNV_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FNV_BASIS 0xcbf29ce484222325u       /* what a hash begins as */

/* The hash goes on over one value: a byte, as the authors have it, or a wider word. */
static inline uint64_t fnv_step(uint64_t hash, uint32_t value)
{
    return (hash ^ value)*0x100000001b3u;
}

/* Over n bytes. */
static inline uint64_t fnv_bytes(uint64_t hash, const void *data, size_t n)
{
    const unsigned char *byte = data;
    for (size_t i = 0; i < n; i++)
        hash = fnv_step(hash, byte[i]);
    return hash;
}

static inline uint64_t fnv_text(const char *text)
{
    return fnv_bytes(FNV_BASIS, text, strlen(text));
}

#endif
