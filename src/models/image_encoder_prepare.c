/* SPDX-License-Identifier: MIT */
/* image_encoder_prepare.c -- a picture as CLIPImageProcessor hands it to the image tower, or torchvision's transforms
 * to a vision transformer.
 *
 *   FIT_CROP      short side to `size` (bicubic, antialiased), centre crop, y = (x/255 - mean) / std
 *   FIT_STRETCH   both sides to `size` (bilinear, antialiased), y likewise
 *
 * Resizing gives Pillow's bytes, along the width, then the height, each to 8 bits (Pillow 13 begins with the height
 * where that is less work, in pictures taller than wide; they can differ by some steps there); a pixel of the result
 * is the sum over its window of w(d) x, d the distance from its centre in units of max(1, scale), w Keys' cubic with
 * a = -1/2, or for bilinear 1 - |d|, weights with sum 1 rounded to 22 bits. Pillow src/libImaging/Resample.c;
 * transformers image_transforms.py; torchvision transforms/_functional_pil.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/image_encoder.h"

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

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

typedef struct Filter { double (*weight)(double); double support; } Filter;
static const Filter filters[] = {[FIT_CROP] = {cubic, 2}, [FIT_STRETCH] = {triangle, 1}};

/* Windows of `count` pixels, from `first` on, of n made of m, in one allocation of which the first window's weights are
 * the start. NULL when out of memory. */
static Window *make_windows(const Filter *filter, int m, int64_t n, int64_t first, int count)
{
    const double scale = (double)m / (double)n, stretch = scale < 1 ? 1 : scale, support = filter->support * stretch;
    const int widest = (int)ceil(support) * 2 + 1;
    Window *w = malloc((size_t)count * sizeof *w + (size_t)count * widest * sizeof *w->weight);
    double *exact = malloc(widest * sizeof *exact);
    for (int i = 0; w && exact && i < count; i++) {
        const double centre = ((double)(first + i) + 0.5) * scale;
        int begin = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
        begin = begin < 0 ? 0 : begin;
        end = end > m ? m : end;
        double sum = 0;
        for (int k = 0; k < end - begin; k++)
            sum += exact[k] = filter->weight((k + begin - centre + 0.5) * (1 / stretch));
        w[i] = (Window){begin, end - begin, (int32_t *)(w + count) + (size_t)i * widest};
        for (int k = 0; k < end - begin; k++) {
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

/* One direction: which pixels of the picture the crop is made of, and how. */
typedef struct Axis {
    Window *window;             /* [size]; NULL: each is taken as it is */
    int first, end;
} Axis;

/* m pixels brought to n, of which the middle `size` are kept. -1: out of memory */
static int plan_axis(Axis *a, const Filter *filter, int m, int64_t n, int size)
{
    const int64_t crop = (n - size) / 2;
    *a = (Axis){NULL, (int)crop, (int)crop + size};
    if (n == m)
        return 0;
    if (!(a->window = make_windows(filter, m, n, crop, size)))
        return -1;
    a->first = a->window[0].first;
    a->end = a->window[size - 1].first + a->window[size - 1].count;
    return 0;
}

/* y (lines, size, 3); pixel p of line l lies at x + l*line + (p - first)*pixel. NULL when out of memory. */
static uint8_t *resample(const uint8_t *x, int lines, size_t line, size_t pixel, const Window *w, int size, int first)
{
    uint8_t *y = malloc((size_t)lines * size * 3);
    for (int l = 0; y && l < lines; l++)
        for (int i = 0; i < size; i++)
            for (int c = 0; c < 3; c++) {
                const uint8_t *from = x + l * line + (size_t)(w[i].first - first) * pixel + c;
                int32_t sum = 1 << (BITS - 1);
                for (int k = 0; k < w[i].count; k++)
                    sum += from[k * pixel] * w[i].weight[k];
                y[((size_t)l * size + i) * 3 + c] = clip8(sum);
            }
    return y;
}

/* pixel at row i, column j: i*row + j*column, so that a result that lies column by column needs no turning. */
typedef struct View { const uint8_t *pixels; size_t row, column; } View;

static void normalise(float *y, const View *v, const ImageForm *f)
{
    for (int i = 0; i < f->size; i++)
        for (int j = 0; j < f->size; j++)
            for (int c = 0; c < 3; c++) {
                const float x = (float)(v->pixels[i * v->row + j * v->column + c] / 255.0);
                *y++ = (x - f->mean[c]) / f->std[c];
            }
}

int image_prepare(float *pixels, const uint8_t *image, int H, int W, const ImageForm *f, Err *e)
{
    const Filter *filter = &filters[f->fit];
    const int size = f->size, shorter = H < W ? H : W, longer = H < W ? W : H;
    const int64_t grown = f->fit == FIT_STRETCH ? size : (int64_t)((double)size * longer / shorter);
    Axis down = {0}, across = {0};
    uint8_t *wide = NULL, *tall = NULL;
    int failed = plan_axis(&down, filter, H, H < W ? size : grown, size)
              || plan_axis(&across, filter, W, H < W ? grown : size, size);
    View v = {image + (size_t)down.first * W * 3, (size_t)W * 3, 3};
    if (!failed && across.window) {
        wide = resample(v.pixels, down.end - down.first, v.row, v.column, across.window, size, 0);
        v = (View){wide, (size_t)size * 3, 3};
        failed = !wide;
    } else {
        v.pixels += (size_t)across.first * 3;
    }
    if (!failed && down.window) {
        tall = resample(v.pixels, size, v.column, v.row, down.window, size, down.first);        /* columns as lines */
        v = (View){tall, 3, (size_t)size * 3};
        failed = !tall;
    }
    if (!failed)
        normalise(pixels, &v, f);
    free(down.window);
    free(across.window);
    free(wide);
    free(tall);
    return failed ? err_set(e, "out of memory for a picture of %d x %d", W, H) : 0;
}
