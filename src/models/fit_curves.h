/* SPDX-License-Identifier: MIT */
/* fit_curves.h -- the log of a training (sae-fit --log FILE) as curves: one for each module and cell of a grid. */
#ifndef SRC_MODELS_FIT_CURVES_H
#define SRC_MODELS_FIT_CURVES_H

#include <stdbool.h>
#include "formats/err.h"

typedef enum {
    FIT_TOKENS, FIT_FVU, FIT_L0, FIT_DEAD, FIT_AUX, FIT_GRADIENT, FIT_LR, FIT_SUPERVISED,
    FIT_EVAL_FVU, FIT_EVAL_L0, FIT_EVAL_DEAD, FIT_FIGURES
} FitFigure;

/* In a line of the log, or in its object "eval". */
typedef struct FitFigureName { const char *name; bool eval; } FitFigureName;
extern const FitFigureName fit_figure_name[FIT_FIGURES];

enum { CURVE_POINTS = 512, CURVES_MAX = 256 };

typedef struct Curve {
    char *name;                     /* module, and cell of the grid; where one module is read, its cell alone */
    double *figure[FIT_FIGURES];    /* [points]; NaN where a line does not say */
    int points;
    long lines, stride;             /* of the log; each stride-th is a point, and the last */
} Curve;

typedef struct Curves {
    Curve *curve;                   /* in the order in which they come */
    int count;
} Curves;

/* Reads the lines of one module, or of all (hook NULL). Memory: CURVE_POINTS of each curve at most; of a longer log
 * each n-th line is kept, and the last. Errors name file and line. */
int curves_load(Curves *c, const char *path, const char *hook, Err *e);
void curves_free(Curves *c);        /* zeroed memory is fine */
/* The last number of a figure; NaN when there is none. The first likewise. */
double curve_last(const Curve *c, FitFigure figure);
double curve_first(const Curve *c, FitFigure figure);

#endif
