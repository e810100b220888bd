/* SPDX-License-Identifier: MIT */
/* sinusoids.c -- sines and cosines of a number at falling frequencies. */
#include <math.h>
#include "src/models/sinusoids.h"

void sinusoids(float *y, float n, int D, bool cos_first, double freq_shift)
{
    const int half = D/2;
    const float rate = (float)-log(10000), steps = (float)((double)half - freq_shift);
    for (int i = 0; i < half; i++) {
        const float angle = n*expf(rate*(float)i/steps);
        y[i] = cos_first ? cosf(angle) : sinf(angle);
        y[half + i] = cos_first ? sinf(angle) : cosf(angle);
    }
    if (D%2)
        y[D - 1] = 0;
}
