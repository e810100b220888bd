/* SPDX-License-Identifier: MIT */
/* mpscan.c -- walks msgpack heads (github.com/msgpack/msgpack, spec.md) without decoding. */
#include <stdbool.h>
#include "formats/mpscan.h"

typedef enum { PLAIN, TEXT, BINARY, ARRAY, MAP, FOREIGN } Shape;

typedef struct Head {
    Shape shape;
    int size_bytes;             /* of the big-endian count after the first byte */
    uint32_t count;             /* for those that hold it in the first byte; of PLAIN: the value's bytes */
} Head;

static Head head_of(uint8_t b)
{
    static const Head rest[32] = {
        [0x00] = {PLAIN, 0, 0}, [0x02] = {PLAIN, 0, 0}, [0x03] = {PLAIN, 0, 0},                 /* nil, false, true */
        [0x01] = {FOREIGN, 0, 0},
        [0x04] = {BINARY, 1, 0}, [0x05] = {BINARY, 2, 0}, [0x06] = {BINARY, 4, 0},
        [0x07] = {FOREIGN, 0, 0}, [0x08] = {FOREIGN, 0, 0}, [0x09] = {FOREIGN, 0, 0},           /* ext 8, 16, 32 */
        [0x0a] = {PLAIN, 0, 4}, [0x0b] = {PLAIN, 0, 8},                                         /* float 32, 64 */
        [0x0c] = {PLAIN, 0, 1}, [0x0d] = {PLAIN, 0, 2}, [0x0e] = {PLAIN, 0, 4}, [0x0f] = {PLAIN, 0, 8},
        [0x10] = {PLAIN, 0, 1}, [0x11] = {PLAIN, 0, 2}, [0x12] = {PLAIN, 0, 4}, [0x13] = {PLAIN, 0, 8},
        [0x14] = {FOREIGN, 0, 0}, [0x15] = {FOREIGN, 0, 0}, [0x16] = {FOREIGN, 0, 0},           /* fixext */
        [0x17] = {FOREIGN, 0, 0}, [0x18] = {FOREIGN, 0, 0},
        [0x19] = {TEXT, 1, 0}, [0x1a] = {TEXT, 2, 0}, [0x1b] = {TEXT, 4, 0},
        [0x1c] = {ARRAY, 2, 0}, [0x1d] = {ARRAY, 4, 0}, [0x1e] = {MAP, 2, 0}, [0x1f] = {MAP, 4, 0},
    };
    if (b < 0x80 || b >= 0xe0)
        return (Head){PLAIN, 0, 0};
    if (b < 0x90)
        return (Head){MAP, 0, b & 0x0f};
    if (b < 0xa0)
        return (Head){ARRAY, 0, b & 0x0f};
    if (b < 0xc0)
        return (Head){TEXT, 0, b & 0x1f};
    return rest[b - 0xc0];
}

int mp_scan(MpScan *s, const uint8_t *p, size_t n, const char **why)
{
    if (s->at == 0 && n > 0) {
        if (head_of(p[0]).shape != MAP) {
            *why = "is not a msgpack map";
            return -1;
        }
        s->depth = 1;
        s->left[1] = 1;
        s->values = 1;
    }
    s->wants = 0;
    while (s->depth > 0) {
        if (s->left[s->depth] == 0) {
            s->depth--;
            continue;
        }
        if (s->at >= n)
            return 0;
        const Head head = head_of(p[s->at]);
        size_t length = 1 + (size_t)head.size_bytes;
        if (n - s->at < length)
            return 0;
        uint64_t count = head.count;
        for (int i = 1; i <= head.size_bytes; i++)
            count = count << 8 | p[s->at + (size_t)i];

        const bool holds = head.shape == ARRAY || head.shape == MAP;
        const uint64_t inside = head.shape == MAP ? 2*count : count;
        *why = head.shape == FOREIGN ? "holds a byte that is no value of this format"
             : head.shape == TEXT && count > MP_MAX_TEXT ? "claims a text of over 16 MiB"
             : holds && s->values + inside > MP_MAX_VALUES ? "claims more than 1048576 values"
             : holds && s->depth > MP_DEPTH ? "is nested over 32 deep"
             : !holds && s->at + length + count > MP_MAX_OBJECT ? "claims to be over 1 GiB"
             : NULL;
        if (*why)
            return -1;
        s->body = s->at + length;
        if (!holds)
            length += count;
        if (n - s->at < length) {
            s->wants = s->at + length;
            return 0;
        }
        s->at += length;
        s->left[s->depth]--;
        if (holds) {
            s->values += inside;
            s->left[++s->depth] = inside;
        }
    }
    return 1;
}
