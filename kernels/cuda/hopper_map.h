/* SPDX-License-Identifier: MIT */
/* hopper_map.h -- tensor maps: where the copy engine of compute capability 9 finds a tensor, and in what boxes. Private
 * to kernels/cuda. */
#ifndef KERNELS_CUDA_HOPPER_MAP_H
#define KERNELS_CUDA_HOPPER_MAP_H

#include <cuda.h>
#include "kernels/cuda/cuda.h"

/* Whether kernels of a kind ("attention", "encode", "norm", "product") for compute capability 9.0a are to be used: the
 * device is one, the driver makes maps, and SDSTEER_CUDA_KERNELS is not set, or is "hopper", or names of kinds joined
 * by +, this one among them ("portable" is none of them). */
bool hopper_wanted(const char *kind);

enum { MAP_DIMENSIONS = 4 };

/* A dense tensor, F32, BF16 or F16, of `rank` dimensions, that along memory first; p and the sizes of all but the last
 * in bytes are multiples of 16. A row of a box that has 32, 64 or 128 bytes lies in shared memory with its parts of 16
 * turned by the swizzle of that width (hopper.h); one of another length, a multiple of 16, lies as it is. */
void tensor_map(CUtensorMap *map, DType type, int rank, const void *p, const int64_t *size, const int *box);
/* The same of one that is spread: spread[i] values from one to the next along dimension i + 1, of `rank` - 1. */
void tensor_map_spread(CUtensorMap *map, DType type, int rank, const void *p, const int64_t *size,
                       const int64_t *spread, const int *box);

#endif
