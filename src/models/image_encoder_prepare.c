/* SPDX-License-Identifier: MIT */
/* image_encoder_prepare.c -- a picture as CLIPImageProcessor hands it to the image tower.
 *
 *   short side to `size` (bicubic, antialiased), centre crop, y = (x/255 - mean) / std
 *
 * Resizing gives Pillow's bytes, along the width, then the height, each to 8 bits (Pillow 13 begins with the height
 * where that is less work, in pictures taller than wide; they can differ by some steps there); a pixel of the result
 * is the sum over its window of w(d) x, d the distance from its centre in units of max(1, scale), w Keys' cubic with
 * a = -1/2, weights with sum 1 rounded to 22 bits. Pillow src/libImaging/Resample.c; transformers
 * image_transforms.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/text_encoder.h"

enum { BITS = 22 };                 /* 32, less 8 of the pixel, less 2 for overshoot */

typedef struct Window { int first, count; int32_t *weight; } Window;

static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/* Windows of n pixels made of m, in one allocation of which the first window's weights are the start. NULL when out of
 * memory. */
static Window *make_windows(int m, int n)
{
    const double scale = (double)m / n, stretch = scale < 1 ? 1 : scale, support = 2 * stretch;
    const int widest = (int)ceil(support) * 2 + 1;
    Window *w = malloc(n * sizeof *w + (size_t)n * widest * sizeof *w->weight);
    double *exact = malloc(widest * sizeof *exact);
    for (int i = 0; w && exact && i < n; i++) {
        const double centre = (i + 0.5) * scale;
        int first = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
        first = first < 0 ? 0 : first;
        end = end > m ? m : end;
        double sum = 0;
        for (int k = 0; k < end - first; k++)
            sum += exact[k] = cubic((k + first - centre + 0.5) * (1 / stretch));
        w[i] = (Window){first, end - first, (int32_t *)(w + n) + (size_t)i * widest};
        for (int k = 0; k < end - first; k++) {
            const double fixed = exact[k] / sum * (1 << BITS);
            w[i].weight[k] = (int32_t)(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
        }
    }
    if (!exact) {
        free(w);
        w = NULL;
    }
    free(exact);
    return w;
}

static uint8_t clip8(int32_t sum)
{
    sum >>= BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* y (lines, n, 3) of x (lines, m, 3); pixel p of line l of x lies at l*line + p*pixel. NULL when out of memory. */
static uint8_t *resample(const uint8_t *x, int lines, int m, size_t line, size_t pixel, int n)
{
    uint8_t *y = malloc((size_t)lines * n * 3);
    Window *w = y ? make_windows(m, n) : NULL;
    if (!w) {
        free(y);
        return NULL;
    }
    for (int l = 0; l < lines; l++)
        for (int i = 0; i < n; i++)
            for (int c = 0; c < 3; c++) {
                const uint8_t *from = x + l * line + w[i].first * pixel + c;
                int32_t sum = 1 << (BITS - 1);
                for (int k = 0; k < w[i].count; k++)
                    sum += from[k * pixel] * w[i].weight[k];
                y[((size_t)l * n + i) * 3 + c] = clip8(sum);
            }
    free(w);
    return y;
}

/* pixel at row i, column j: i*row + j*column, so that a result that lies column by column needs no turning. */
typedef struct View { const uint8_t *pixels; size_t row, column; int H, W; } View;

static void normalise(float *y, const View *v, const ImageForm *f)
{
    const int top = (v->H - f->size) / 2, left = (v->W - f->size) / 2;
    for (int i = 0; i < f->size; i++)
        for (int j = 0; j < f->size; j++)
            for (int c = 0; c < 3; c++) {
                const float x = (float)(v->pixels[(top + i) * v->row + (left + j) * v->column + c] / 255.0);
                *y++ = (x - f->mean[c]) / f->std[c];
            }
}

void image_prepare(float *pixels, const uint8_t *image, int H, int W, const ImageForm *f)
{
    const int size = f->size, shorter = H < W ? H : W, longer = H < W ? W : H;
    const int grown = (int)((double)size * longer / shorter), Ho = H < W ? size : grown, Wo = H < W ? grown : size;
    View v = {image, (size_t)W * 3, 3, H, W};
    uint8_t *wide = NULL, *tall = NULL;
    if (Wo != W) {
        wide = resample(v.pixels, v.H, v.W, v.row, v.column, Wo);
        v = (View){wide, (size_t)Wo * 3, 3, H, Wo};
    }
    if (Ho != H && v.pixels) {
        tall = resample(v.pixels, v.W, v.H, v.column, v.row, Ho);       /* columns as lines */
        v = (View){tall, 3, (size_t)Ho * 3, Ho, Wo};
    }
    if (v.pixels)
        normalise(pixels, &v, f);
    else
        abort();                    /* out of memory for one picture that is in memory already */
    free(wide);
    free(tall);
}
