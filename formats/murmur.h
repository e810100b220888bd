/* SPDX-License-Identifier: MIT */
/* murmur.h -- MurmurHash3 (x64, 128 bits; Appleby 2011): fast over many bytes, not against malice. */
#ifndef FORMATS_MURMUR_H
#define FORMATS_MURMUR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct Murmur { uint64_t a, b; } Murmur;

static inline uint64_t murmur_rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline uint64_t murmur_mix(uint64_t word, uint64_t before, int bits, uint64_t after)
{
    return murmur_rotate(word*before, bits)*after;
}

static inline uint64_t murmur_finish(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccd;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53;
    return x ^ x >> 33;
}

/* Of n bytes, on a machine whose words begin with their low byte. */
static inline Murmur murmur(const void *data, size_t n, uint64_t seed)
{
    const uint64_t c1 = 0x87c37b91114253d5, c2 = 0x4cf5ad432745937f;
    const uint8_t *p = data;
    uint64_t a = seed, b = seed, word[2];
    for (size_t left = n; left >= sizeof word; left -= sizeof word, p += sizeof word) {
        memcpy(word, p, sizeof word);
        a = (murmur_rotate(a ^ murmur_mix(word[0], c1, 31, c2), 27) + b)*5 + 0x52dce729;
        b = (murmur_rotate(b ^ murmur_mix(word[1], c2, 33, c1), 31) + a)*5 + 0x38495ab5;
    }
    word[0] = word[1] = 0;                      /* the last 0 to 15 bytes; words of 0 change nothing */
    memcpy(word, p, n % sizeof word);
    a ^= murmur_mix(word[0], c1, 31, c2) ^ n;
    b ^= murmur_mix(word[1], c2, 33, c1) ^ n;
    a += b;
    b += a;
    a = murmur_finish(a);
    b = murmur_finish(b);
    a += b;
    return (Murmur){a, a + b};
}

#endif
