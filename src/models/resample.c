/* SPDX-License-Identifier: MIT */
/* resample.c -- pictures brought to another size, with Pillow's bytes.
 *
 * Along the width, then the height, each to 8 bits (Pillow 13 begins with the height where that is less work, in
 * pictures taller than wide; they can differ by some steps there); a pixel of the result is the sum over its window of
 * w(d) x, d the distance from its centre in units of max(1, scale), w Keys' cubic with a = -1/2, or for bilinear
 * 1 - |d|, weights with sum 1 rounded to 22 bits. Pillow src/libImaging/Resample.c. */
#include <math.h>
#include <stdlib.h>
#include "src/models/resample.h"

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
static const Filter bicubic = {cubic, 2}, bilinear = {triangle, 1};

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

/* Along the width, of the rows that are needed, then along the height, whose result lies column by column. */
static int run(Resampled *r, const uint8_t *x, int W, const Axis *down, int h, const Axis *across, int w)
{
    r->pixels = x + (size_t)down->first * W * 3;
    r->row = (size_t)W * 3;
    r->column = 3;
    if (across->window) {
        r->pixels = r->wide = resample(r->pixels, down->end - down->first, r->row, 3, across->window, w, 0);
        r->row = (size_t)w * 3;
        if (!r->wide)
            return -1;
    } else {
        r->pixels += (size_t)across->first * 3;
    }
    if (down->window) {
        r->pixels = r->tall = resample(r->pixels, w, 3, r->row, down->window, h, down->first);
        r->row = 3;
        r->column = (size_t)h * 3;
    }
    return r->pixels ? 0 : -1;
}

/* To a picture of high x wide, of which the middle h x w is kept. */
static int resize(Resampled *r, const Filter *filter, const uint8_t *x, int H, int W, int64_t high, int64_t wide, int h,
                  int w, Err *e)
{
    Axis down = {0}, across = {0};
    *r = (Resampled){0};
    const int failed = plan_axis(&down, filter, H, high, h) || plan_axis(&across, filter, W, wide, w)
                    || run(r, x, W, &down, h, &across, w);
    free(down.window);
    free(across.window);
    return failed ? err_set(e, "out of memory for a picture of %d x %d", W, H) : 0;
}

int resample_cover(Resampled *r, const uint8_t *x, int H, int W, int h, int w, Err *e)
{
    int64_t high = h, wide = w;
    if ((int64_t)H * w < (int64_t)W * h)
        wide = (int64_t)((double)h * W / H);
    else
        high = (int64_t)((double)w * H / W);
    return resize(r, &bicubic, x, H, W, high, wide, h, w, e);
}

int resample_stretch(Resampled *r, const uint8_t *x, int H, int W, int h, int w, Err *e)
{
    return resize(r, &bilinear, x, H, W, h, w, h, w, e);
}

void resampled_free(Resampled *r)
{
    free(r->wide);
    free(r->tall);
    *r = (Resampled){0};
}
