/* SPDX-License-Identifier: MIT */
/* distance.c -- latents and pictures against others, by sums. */
#include <math.h>
#include "src/models/distance.h"

enum { WINDOW = 7, CHANNELS = 3 };

/* SSIM of one window, whose top left value is at p and p1; its sums are whole numbers, so exact */
static double window_ssim(const uint8_t *p, const uint8_t *p1, int W)
{
    const double n = WINDOW*WINDOW, C1 = (0.01*255)*(0.01*255), C2 = (0.03*255)*(0.03*255);
    int x = 0, y = 0, xx = 0, yy = 0, xy = 0;
    for (int h = 0; h < WINDOW; h++)
        for (int w = 0; w < WINDOW; w++) {
            const int at = (h*W + w)*CHANNELS, u = p[at], v = p1[at];
            x += u;
            y += v;
            xx += u*u;
            yy += v*v;
            xy += u*v;
        }
    const double m = x/n, m1 = y/n;
    const double v = (xx - n*m*m)/(n - 1), v1 = (yy - n*m1*m1)/(n - 1), c = (xy - n*m*m1)/(n - 1);
    return (2*m*m1 + C1)*(2*c + C2)/((m*m + m1*m1 + C1)*(v + v1 + C2));
}

static double mean_ssim(const uint8_t *p, const uint8_t *p1, int H, int W)
{
    double sum = 0;
    if (H < WINDOW || W < WINDOW)
        return NAN;
    for (int h = 0; h + WINDOW <= H; h++)
        for (int w = 0; w + WINDOW <= W; w++)
            for (int c = 0; c < CHANNELS; c++)
                sum += window_ssim(p + (h*W + w)*CHANNELS + c, p1 + (h*W + w)*CHANNELS + c, W);
    return sum/((double)(H - WINDOW + 1)*(W - WINDOW + 1)*CHANNELS);
}

void distance_add(Distance *d, const float *z, const float *z1, size_t n, const uint8_t *p, const uint8_t *p1, int H,
                  int W)
{
    double zz = 0, z1z1 = 0, zz1 = 0, dd = 0, square = 0, absolute = 0;
    for (size_t i = 0; i < n; i++) {
        const double u = (double)z[i], v = (double)z1[i];
        zz += u*u;
        z1z1 += v*v;
        zz1 += u*v;
        dd += (v - u)*(v - u);
    }
    const int values = H*W*CHANNELS;
    for (int i = 0; i < values; i++) {
        const double difference = (double)(p1[i] - p[i])/255;
        square += difference*difference;
        absolute += fabs(difference);
    }
    const Distance one = {1, zz, dd, zz1/sqrt(zz*z1z1), square/values, absolute/values, mean_ssim(p, p1, H, W)};
    distance_sum(d, &one);
}

void distance_sum(Distance *d, const Distance *more)
{
    d->pictures += more->pictures;
    d->zz += more->zz;
    d->dd += more->dd;
    d->cosine += more->cosine;
    d->square += more->square;
    d->absolute += more->absolute;
    d->ssim += more->ssim;
}

static double recovered(double distance, double zero)
{
    return zero > 0 ? 1 - distance/zero : NAN;
}

DistanceFigures distance_figures(const Distance *d, const Distance *zero)
{
    const double B = (double)d->pictures, mse = d->square/B;
    return (DistanceFigures){
        .latent_nmse = d->dd/d->zz, .latent_cosine = d->cosine/B,
        .mse = mse, .psnr = -10*log10(mse), .mad = d->absolute/B, .ssim = d->ssim/B,
        .latent_recovered = recovered(d->dd, zero->dd), .picture_recovered = recovered(d->square, zero->square),
    };
}
