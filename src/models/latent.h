/* SPDX-License-Identifier: MIT */
/* latent.h -- a latent's two orders: planes (C,H,W), as torch and the streams have it, and rows (H*W,C),
 * as the ops read it. */
#ifndef SRC_MODELS_LATENT_H
#define SRC_MODELS_LATENT_H

#include <stddef.h>

/* y (HW,C) = x (C,HW) */
static inline void latent_to_rows(float *y, const float *x, int C, size_t HW)
{
    for (int c = 0; c < C; c++)
        for (size_t i = 0; i < HW; i++)
            y[i*C + c] = x[c*HW + i];
}

/* y (C,HW) = x (HW,C) */
static inline void latent_to_planes(float *y, const float *x, int C, size_t HW)
{
    for (int c = 0; c < C; c++)
        for (size_t i = 0; i < HW; i++)
            y[c*HW + i] = x[i*C + c];
}

#endif
