/* SPDX-License-Identifier: MIT */
/* geometric_median.c -- Weiszfeld 1937. Rows in their order, sums in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/geometric_median.h"

enum { ROUNDS = 100 };

int geometric_median(float *y, const float *x, int64_t N, int D)
{
    double *sum = calloc(2*(size_t)D, sizeof *sum);
    if (!sum)
        return -1;
    double *at = sum + D;
    for (int64_t n = 0; n < N; n++)
        for (int d = 0; d < D; d++)
            at[d] += (double)x[n*D + d]/(double)N;
    for (int round = 0; round < ROUNDS; round++) {
        double weights = 0, distances = 0, moved = 0;
        memset(sum, 0, sizeof *sum*(size_t)D);
        for (int64_t n = 0; n < N; n++) {
            double square = 0;
            for (int d = 0; d < D; d++)
                square += (x[n*D + d] - at[d])*(x[n*D + d] - at[d]);
            const double distance = sqrt(square), weight = 1/fmax(distance, 1e-12);
            for (int d = 0; d < D; d++)
                sum[d] += weight*(double)x[n*D + d];
            weights += weight;
            distances += distance;
        }
        for (int d = 0; d < D; d++) {
            const double next = sum[d]/weights;
            moved += (next - at[d])*(next - at[d]);
            at[d] = next;
        }
        if (sqrt(moved) <= 1e-5*distances/(double)N)
            break;
    }
    for (int d = 0; d < D; d++)
        y[d] = (float)at[d];
    free(sum);
    return 0;
}
