/* SPDX-License-Identifier: MIT */
/* chart.h -- line charts, histograms and small curves as SVG inside an HTML page, and the colours of heat maps.
 *
 * Colours, lines and letters come from the page's style sheet: classes axis, grid, tick, line, s0 to s7 (series), bar,
 * spark. A chart says what it shows in words too (aria-label). */
#ifndef SRC_MODELS_CHART_H
#define SRC_MODELS_CHART_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { CHART_SERIES = 8 };

typedef struct Series {
    const double *x, *y;            /* [count]; a y that is NaN is a gap */
    int count;
    int colour;                     /* 0 to CHART_SERIES - 1 */
    bool dashed;
} Series;

typedef struct Plot {
    const char *label;              /* what is to be seen, for who does not see it */
    const char *x, *y;              /* names of the axes */
    int width, height;
    bool falling;                   /* x falls from left to right, as timesteps do */
    bool whole;                     /* y counts: no ticks between whole numbers */
} Plot;

/* Lines over common axes: y from 0 or, where some are below, from the least. Draws nothing without a number. */
void chart_lines(FILE *f, const Plot *p, const Series *series, int count);
/* A histogram over a logarithmic axis: bin b counts from 10^(low + b*width) to 10^(low + (b+1)*width). Only the part
 * from the first to the last bin that is not empty is shown; nothing when all are. */
void chart_bars(FILE *f, const Plot *p, const int64_t *bin, int bins, double low, double width);
/* y [n] from left to right within low to high, without axes. */
void chart_spark(FILE *f, const char *label, const double *y, int n, double low, double high);

/* Places of ticks over low to high, at most 12: multiples of 1, 2 or 5 times a power of ten, `about` of them. Returns
 * their number. */
int chart_ticks(double tick[12], double low, double high, int about);

/* share 0 to 1 on the map viridis (of matplotlib: even to the eye, and for the colour-blind), as three bytes. By Matt
 * Zucker's polynomial of degree 6 (shadertoy.com/view/WlfXRN), within 4/255 of the table. */
void chart_viridis(uint8_t rgb[3], double share);

#endif
