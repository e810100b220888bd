/* SPDX-License-Identifier: MIT */
/* mpscan.h -- finds where a msgpack object ends, while its bytes arrive.
 *
 * A decoder takes memory for the sizes that the bytes claim. This scan takes none: it walks the heads of the values,
 * holds the claims against limits, and says when the whole object is there, so that decoding never sees a claim that is
 * not filled. */
#ifndef FORMATS_MPSCAN_H
#define FORMATS_MPSCAN_H

#include <stddef.h>
#include <stdint.h>

enum { MP_DEPTH = 32 };                                     /* maps and arrays in one another */
static const size_t MP_MAX_OBJECT = (size_t)1 << 30;        /* bytes of a record */
static const size_t MP_MAX_TEXT = (size_t)16 << 20;         /* bytes of a string */
static const uint64_t MP_MAX_VALUES = (uint64_t)1 << 20;    /* values in a record, a tensor being a handful */

typedef struct MpScan {
    size_t at;                  /* bytes walked */
    uint64_t values;            /* met or promised so far */
    int depth;
    uint64_t left[MP_DEPTH + 2];    /* values still to come: of the object itself, then of each map and array around */
    size_t body, wants;         /* where the bytes of a text or bin that is not whole begin and end; wants 0: none */
} MpScan;

/* Goes on with a scan (all zero at first) of the n bytes at p, which begin at the object's first byte in every call.
 * 1: the object is whole, scan->at is its length; 0: more bytes are needed; -1: *why says what is wrong. */
int mp_scan(MpScan *scan, const uint8_t *p, size_t n, const char **why);

#endif
