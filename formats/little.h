/* SPDX-License-Identifier: MIT */
/* little.h -- integers as most formats lay them out: little-endian, of 1 to 8 bytes, anywhere. */
#ifndef FORMATS_LITTLE_H
#define FORMATS_LITTLE_H

#include <stdint.h>

static inline uint64_t little(const uint8_t *p, int bytes)
{
    uint64_t n = 0;
    for (int i = bytes; i-- > 0;)
        n = n << 8 | p[i];
    return n;
}

#endif
