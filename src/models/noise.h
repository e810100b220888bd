/* SPDX-License-Identifier: MIT */
/* noise.h -- torch.randn from torch.Generator("cpu").manual_seed(seed), value for value.
 * mt19937 seeded with the low 32 bits; 16 values and more: uniforms of the whole tensor, then Box-Muller over blocks of
 * 16 (a rest recomputes the last 16 values); fewer: pairs by the scalar path in double.
 * ATen/native/cpu/DistributionTemplates.h. */
#ifndef SRC_MODELS_NOISE_H
#define SRC_MODELS_NOISE_H

#include <stddef.h>
#include <stdint.h>

void noise_torch(float *y, size_t n, uint64_t seed);        /* y: n values in torch's order (NCHW for a latent) */

#endif
