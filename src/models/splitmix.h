/* SPDX-License-Identifier: MIT */
/* splitmix.h -- splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"). */
#ifndef SRC_MODELS_SPLITMIX_H
#define SRC_MODELS_SPLITMIX_H

#include <stdint.h>

#define SPLITMIX_STEP 0x9e3779b97f4a7c15u       /* what a generator's state moves on by */

/* The finalizer: a one-to-one scrambling of 64 bits. The n-th number from seed s is splitmix(s + n SPLITMIX_STEP). */
static inline uint64_t splitmix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

#endif
