/* SPDX-License-Identifier: MIT */
/* distance.h -- how far pictures and their latents lie from others: of one picture, or summed over many.
 *
 *   z, z' latents, p, p' pictures in [0,1], sums over all their values
 *
 *     latent_nmse     sum |z' - z|^2 / sum |z|^2                  normalised mean squared error
 *     latent_cosine   mean over pictures of z.z' / (|z| |z'|)
 *     mse             mean of (p' - p)^2
 *     psnr            -10 log10(mse), in dB; infinite where p' = p
 *     mad             mean of |p' - p|                            mean absolute difference
 *     ssim            mean over 7 x 7 windows and channels of
 *                     (2 m m' + C1) (2 c + C2) / ((m^2 + m'^2 + C1) (v + v' + C2)),  C1 = 0.01^2, C2 = 0.03^2
 *                     m a window's means, v and c its sample variances and covariance
 *
 * Wang et al. 2004, Image quality assessment, with uniform windows: what scikit-image computes by default. Over many
 * pictures, nmse, mse and psnr are of the sums, not means of each picture's.
 *
 * With d0 the distance under zero ablation (splice.h):
 *     latent_recovered    1 - latent_nmse / latent_nmse0          1: nothing lost; 0: no better than zero ablation
 *     picture_recovered   1 - mse / mse0 */
#ifndef SRC_MODELS_DISTANCE_H
#define SRC_MODELS_DISTANCE_H

#include <stddef.h>
#include <stdint.h>

typedef struct Distance {           /* sums over pictures; all zero: none yet */
    int64_t pictures;
    double zz, dd;                  /* |z|^2, |z' - z|^2 */
    double cosine, square, absolute, ssim;
} Distance;

typedef struct DistanceFigures {
    double latent_nmse, latent_cosine, mse, psnr, mad, ssim, latent_recovered, picture_recovered;
} DistanceFigures;

/* Adds one picture: z, z1 of n values; p, p1 (H,W,3). A side below 7 has no ssim: NaN. */
void distance_add(Distance *d, const float *z, const float *z1, size_t n, const uint8_t *p, const uint8_t *p1, int H,
                  int W);
void distance_sum(Distance *d, const Distance *more);
/* zero: of the same pictures under zero ablation; where that moves nothing, nothing can be recovered: NaN. */
DistanceFigures distance_figures(const Distance *d, const Distance *zero);

#endif
