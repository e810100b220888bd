/* SPDX-License-Identifier: MIT */
/* geometric_median.h -- the point with the least sum of distances to rows. */
#ifndef SRC_MODELS_GEOMETRIC_MEDIAN_H
#define SRC_MODELS_GEOMETRIC_MEDIAN_H

#include <stdint.h>

/* y (D) of x (N,D), N > 0, host memory. Weiszfeld's iteration from the mean: y <- sum_n x_n/|x_n - y| / sum_n 1/|x_n -
 * y|, until y moves by less than 1e-5 of its mean distance from the rows, 100 times at most. Returns 0, or -1
 * without memory. */
int geometric_median(float *y, const float *x, int64_t N, int D);

#endif
