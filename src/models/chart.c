/* SPDX-License-Identifier: MIT */
/* chart.c -- SVG charts. Coordinates have one decimal, so that equal numbers give equal bytes. */
#include <math.h>
#include <string.h>
#include "formats/html.h"
#include "src/models/chart.h"

enum { LEFT = 58, RIGHT = 16, TOP = 10, BOTTOM = 36, LINE = 13 };

/* ---- scales ---- */

typedef struct Scale { double low, high; int from, to; } Scale;     /* low is drawn at from, high at to */

static double at(const Scale *s, double value)
{
    return s->from + (value - s->low)/(s->high - s->low)*(s->to - s->from);
}

int chart_ticks(double tick[12], double low, double high, int about)
{
    if (!(high > low))
        return 0;
    const double rough = (high - low)/about, power = pow(10, floor(log10(rough))), lead = rough/power;
    const double step = power*(lead < 1.5 ? 1 : lead < 3 ? 2 : lead < 7 ? 5 : 10);
    int n = 0;
    for (double k = ceil(low/step - 1e-9); k*step <= high + 1e-9*step && n < 12; k++)
        tick[n++] = k*step;
    return n;
}

/* 200K, 1.5M, 0.05: as short as a tick may be. */
static void tick_text(char text[32], double value)
{
    static const struct { double unit; const char *suffix; } units[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "K"}};
    for (int i = 0; i < 3; i++)
        if (fabs(value) >= units[i].unit) {
            snprintf(text, 32, "%.4g%s", value/units[i].unit, units[i].suffix);
            return;
        }
    snprintf(text, 32, "%.3g", fabs(value) < 1e-12 ? 0 : value);
}

/* ---- frame ---- */

static void begin(FILE *f, const Plot *p)
{
    html(f, "<svg class=chart viewBox=\"0 0 %d %d\" role=img aria-label=\"%s\">\n", p->width, p->height, p->label);
}

static void draw_axes(FILE *f, const Plot *p, const Scale *x, const Scale *y)
{
    html(f, "<path class=axis d=\"M%d %dV%dH%d\"/>\n", LEFT, TOP, p->height - BOTTOM, p->width - RIGHT);
    html(f, "<text class=name x=%d y=%d text-anchor=middle>%s</text>", (LEFT + p->width - RIGHT)/2, p->height - 4,
         p->x);
    html(f, "<text class=name transform=\"translate(11 %d) rotate(-90)\" text-anchor=middle>%s</text>\n",
         (TOP + p->height - BOTTOM)/2, p->y);
    double tick[12];
    char text[32];
    const int ys = chart_ticks(tick, y->low, y->high, (p->height - BOTTOM - TOP)/32);
    for (int i = 0; i < ys; i++) {
        if (p->whole && tick[i] != floor(tick[i]))
            continue;
        tick_text(text, tick[i]);
        html(f, "<path class=grid d=\"M%d %.1fH%d\"/><text class=tick x=%d y=%.1f text-anchor=end>%s</text>\n", LEFT,
             at(y, tick[i]), p->width - RIGHT, LEFT - 4, at(y, tick[i]) + 4, text);
    }
    if (!x)
        return;
    const double low = fmin(x->low, x->high), high = fmax(x->low, x->high);
    const int xs = chart_ticks(tick, low, high, (p->width - LEFT - RIGHT)/60);
    for (int i = 0; i < xs; i++) {
        tick_text(text, tick[i]);
        html(f, "<text class=tick x=%.1f y=%d text-anchor=middle>%s</text>\n", at(x, tick[i]),
             p->height - BOTTOM + LINE, text);
    }
}

/* ---- lines ---- */

static void widen(double *low, double *high, double value)
{
    *low = isnan(*low) || value < *low ? value : *low;
    *high = isnan(*high) || value > *high ? value : *high;
}

static void draw_series(FILE *f, const Series *s, const Scale *x, const Scale *y)
{
    int shown = 0;
    bool pen = false;
    html(f, "<path class=\"line s%d%s\" d=\"", s->colour % CHART_SERIES, s->dashed ? " dashed" : "");
    for (int i = 0; i < s->count; i++) {
        if (isfinite(s->y[i]))
            html(f, pen ? "L%.1f %.1f" : "M%.1f %.1f", at(x, s->x[i]), at(y, s->y[i]));
        pen = isfinite(s->y[i]);
        shown += pen;
    }
    fputs("\"/>\n", f);
    for (int i = 0; i < s->count && shown < 3; i++)         /* a point or two are no line to see */
        if (isfinite(s->y[i]))
            html(f, "<circle class=\"dot s%d\" cx=%.1f cy=%.1f r=2.5 />\n", s->colour % CHART_SERIES, at(x, s->x[i]),
                 at(y, s->y[i]));
}

void chart_lines(FILE *f, const Plot *p, const Series *series, int count)
{
    double x_low = NAN, x_high = NAN, y_low = 0, y_high = NAN;
    for (int s = 0; s < count; s++)
        for (int i = 0; i < series[s].count; i++)
            if (isfinite(series[s].y[i])) {
                widen(&x_low, &x_high, series[s].x[i]);
                widen(&y_low, &y_high, series[s].y[i]);
            }
    if (isnan(x_low))
        return;
    y_high = fmax(y_high, 0);
    if (y_high <= y_low)
        y_high = y_low + 1;
    if (x_high <= x_low) {
        x_low -= 1;
        x_high += 1;
    }
    const Scale x = {p->falling ? x_high : x_low, p->falling ? x_low : x_high, LEFT, p->width - RIGHT};
    const Scale y = {y_low, y_high + (y_high - y_low)*0.04, p->height - BOTTOM, TOP};
    begin(f, p);
    draw_axes(f, p, &x, &y);
    for (int s = 0; s < count; s++)
        draw_series(f, &series[s], &x, &y);
    fputs("</svg>\n", f);
}

void chart_spark(FILE *f, const char *label, const double *y, int n, double low, double high)
{
    enum { W = 120, H = 24 };
    const Scale x = {0, n > 1 ? n - 1 : 1, 1, W - 1}, scale = {low, high > low ? high : low + 1, H - 2, 2};
    bool pen = false;
    html(f, "<svg class=spark viewBox=\"0 0 %d %d\" role=img aria-label=\"%s\"><path d=\"", W, H, label);
    for (int i = 0; i < n; i++) {
        if (isfinite(y[i]))
            html(f, pen ? "L%.1f %.1f" : "M%.1f %.1f", at(&x, i), at(&scale, y[i]));
        if (isfinite(y[i]) && !pen && (i + 1 == n || !isfinite(y[i + 1])))
            fputs("h1", f);                                 /* one point alone */
        pen = isfinite(y[i]);
    }
    fputs("\"/></svg>", f);
}

/* ---- histograms ---- */

/* Ticks at 1, 2 and 5 times the powers of ten, where there is room; else at the powers, or at every n-th of them. */
static void draw_decades(FILE *f, const Plot *p, const Scale *x)
{
    static const double parts[] = {1, 2, 5};
    const double decades = x->high - x->low, room = (p->width - LEFT - RIGHT)/46.0;
    const int every = (int)ceil(decades/room);
    char text[32];
    for (int d = (int)floor(x->low) - 1; d <= (int)ceil(x->high); d++)
        for (int i = 0; i < (3*decades <= room ? 3 : 1); i++) {
            const double place = d + log10(parts[i]);
            if (place < x->low - 1e-6 || place > x->high + 1e-6 || d % every)
                continue;
            tick_text(text, parts[i]*pow(10, d));
            html(f, "<text class=tick x=%.1f y=%d text-anchor=middle>%s</text>\n", at(x, place),
                 p->height - BOTTOM + LINE, text);
        }
}

void chart_bars(FILE *f, const Plot *p, const int64_t *bin, int bins, double low, double width)
{
    int first = bins, last = -1;
    int64_t most = 0;
    for (int b = 0; b < bins; b++)
        if (bin[b] > 0) {
            first = b < first ? b : first;
            last = b;
            most = bin[b] > most ? bin[b] : most;
        }
    if (last < 0)
        return;
    const Scale x = {low + first*width, low + (last + 1)*width, LEFT, p->width - RIGHT};
    const Scale y = {0, (double)most*1.04, p->height - BOTTOM, TOP};
    begin(f, p);
    draw_axes(f, p, NULL, &y);
    for (int b = first; b <= last; b++) {
        const double left = at(&x, low + b*width), right = at(&x, low + (b + 1)*width), top = at(&y, (double)bin[b]);
        if (bin[b] > 0)
            html(f, "<path class=bar d=\"M%.1f %dV%.1fH%.1fV%d\"/>\n", left, p->height - BOTTOM, top,
                 right - (right - left > 3 ? 1 : 0), p->height - BOTTOM);
    }
    draw_decades(f, p, &x);
    fputs("</svg>\n", f);
}

/* ---- colours ---- */

void chart_viridis(uint8_t rgb[3], double share)
{
    static const double c[7][3] = {
        {0.2777273272234177, 0.005407344544966578, 0.3340998053353061},
        {0.1050930431085774, 1.404613529898575, 1.384590162594685},
        {-0.3308618287255563, 0.214847559468213, 0.09509516302823659},
        {-4.634230498983486, -5.799100973351585, -19.33244095627987},
        {6.228269936347081, 14.17993336680509, 56.69055260068105},
        {4.776384997670288, -13.74514537774601, -65.35303263337234},
        {-5.435455855934631, 4.645852612178535, 26.3124352495832}};
    const double t = share > 0 ? share < 1 ? share : 1 : 0;
    for (int i = 0; i < 3; i++) {
        double v = 0;
        for (int k = 6; k >= 0; k--)
            v = v*t + c[k][i];
        rgb[i] = (uint8_t)lround(255*fmin(fmax(v, 0), 1));
    }
}
