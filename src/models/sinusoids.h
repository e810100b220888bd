/* SPDX-License-Identifier: MIT */
/* sinusoids.h -- what a network is told a number by: the timestep, a picture's size. */
#ifndef SRC_MODELS_SINUSOIDS_H
#define SRC_MODELS_SINUSOIDS_H

#include <stdbool.h>

/* y[D] = [sin(n f), cos(n f)], f_i = 10000^(-i/(D/2 - freq_shift)); cosines first where asked for; 0 at the end of an
 * odd D. As torch computes it in f32 (diffusers models/embeddings.py, get_timestep_embedding). */
void sinusoids(float *y, float n, int D, bool cos_first, double freq_shift);

#endif
