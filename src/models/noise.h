/* SPDX-License-Identifier: MIT */
/* noise.h -- torch.randn from torch.Generator("cpu").manual_seed(seed), value for value.
 * mt19937 seeded with the low 32 bits; 16 values and more: uniforms of the whole tensor, then Box-Muller over blocks of
 * 16 (a rest recomputes the last 16 values); fewer: pairs by the scalar path in double, which keeps half a pair for the
 * next time. ATen/native/cpu/DistributionTemplates.h. */
#ifndef SRC_MODELS_NOISE_H
#define SRC_MODELS_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NOISE_STATE = 624 };

typedef struct Noise {              /* a generator */
    uint32_t state[NOISE_STATE];
    int next;
    bool half;                      /* of a pair is left */
    double left;
} Noise;

void noise_seed(Noise *g, uint64_t seed);
void noise_draw(Noise *g, float *y, size_t n);              /* y: n values in torch's order (NCHW for a latent) */
void noise_torch(float *y, size_t n, uint64_t seed);        /* the first n of a seed */

#endif
