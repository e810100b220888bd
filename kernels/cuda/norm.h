/* SPDX-License-Identifier: MIT */
/* norm.h -- group norm by clusters of blocks (norm_hopper.cu), for norm.cu. Private to kernels/cuda. */
#ifndef KERNELS_CUDA_NORM_H
#define KERNELS_CUDA_NORM_H

#include <type_traits>
#include "kernels/cuda/cuda.h"

/* Of the input as it is, X: as y has it, T, or as it came, where that is a half. */
template <typename T, typename X> using AsIs = std::conditional_t<sizeof(X) == 2, X, T>;

/* cuda_group_norm, where hopper_wanted() and the layer's shape allow: false, and nothing was started, where not. */
bool norm_by_clusters(void *y, DType y_type, void *as_is, const NormInput *in, const float *gamma, const float *beta,
                      int64_t B, int64_t HW, int groups, float eps, Activation act);

#endif
