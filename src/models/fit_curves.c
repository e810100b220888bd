/* SPDX-License-Identifier: MIT */
/* fit_curves.c -- JSON lines into curves. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "formats/lines.h"
#include "src/models/fit_curves.h"

const FitFigureName fit_figure_name[FIT_FIGURES] = {
    [FIT_TOKENS] = {"tokens", false}, [FIT_FVU] = {"fvu", false}, [FIT_L0] = {"l0", false},
    [FIT_DEAD] = {"dead", false}, [FIT_AUX] = {"aux", false}, [FIT_GRADIENT] = {"gradient", false},
    [FIT_LR] = {"lr", false}, [FIT_SUPERVISED] = {"supervised", false}, [FIT_EVAL_FVU] = {"fvu", true},
    [FIT_EVAL_L0] = {"l0", true}, [FIT_EVAL_DEAD] = {"dead", true}};

void curves_free(Curves *c)
{
    for (int i = 0; i < c->count; i++) {
        free(c->curve[i].name);
        free(c->curve[i].figure[0]);
    }
    free(c->curve);
    *c = (Curves){0};
}

static Curve *need_curve(Curves *c, const char *name, const char *path, Err *e)
{
    for (int i = 0; i < c->count; i++)
        if (strcmp(c->curve[i].name, name) == 0)
            return &c->curve[i];
    if (c->count == CURVES_MAX) {
        err_set(e, "%s: more than %d trainings", path, CURVES_MAX);
        return NULL;
    }
    Curve *more = realloc(c->curve, sizeof *more*((size_t)c->count + 1));
    if (more)
        c->curve = more;
    Curve *x = more ? &c->curve[c->count] : NULL;
    if (x) {
        *x = (Curve){.name = strdup(name), .stride = 1};
        x->figure[0] = malloc(sizeof(double)*FIT_FIGURES*(CURVE_POINTS + 1));
        c->count++;
    }
    if (!x || !x->name || !x->figure[0]) {
        err_set(e, "%s: out of memory", path);
        return NULL;
    }
    for (int f = 1; f < FIT_FIGURES; f++)
        x->figure[f] = x->figure[0] + (size_t)f*(CURVE_POINTS + 1);
    return x;
}

static void move_point(Curve *x, int to, int from)
{
    for (int f = 0; f < FIT_FIGURES; f++)
        x->figure[f][to] = x->figure[f][from];
}

/* Room for the next line's point: that of the line before goes if it was kept as the last one only. */
static int next_point(Curve *x)
{
    if (x->points && (x->lines - 1) % x->stride)
        x->points--;
    if (x->points == CURVE_POINTS) {        /* all at multiples of the stride: each second one stays */
        for (int p = 0; p < CURVE_POINTS; p += 2)
            move_point(x, p/2, p);
        x->points = CURVE_POINTS/2;
        x->stride *= 2;
    }
    x->lines++;
    return x->points++;
}

static int add_line(Curves *c, const char *path, long number, const json_t *line, const char *only, Err *e)
{
    const json_t *hook = json_object_get(line, "hook"), *cell = json_object_get(line, "cell");
    const json_t *eval = json_object_get(line, "eval");
    char name[1024];
    if (!json_is_string(hook) || !json_is_integer(json_object_get(line, "tokens"))
        || (cell && !json_is_string(cell)))
        return err_set(e, "%s: line %ld: hook or tokens is missing: not a line of sae-fit --log", path, number);
    if (only && strcmp(json_string_value(hook), only) != 0)
        return 0;
    snprintf(name, sizeof name, "%s%s%s", only && cell ? "" : json_string_value(hook), only || !cell ? "" : " ",
             cell ? json_string_value(cell) : "");
    Curve *x = need_curve(c, name, path, e);
    if (!x)
        return -1;
    const int p = next_point(x);
    for (int f = 0; f < FIT_FIGURES; f++) {
        const json_t *value = json_object_get(fit_figure_name[f].eval ? eval : line, fit_figure_name[f].name);
        x->figure[f][p] = json_is_number(value) ? json_number_value(value) : NAN;
    }
    return 0;
}

int curves_load(Curves *c, const char *path, const char *hook, Err *e)
{
    Lines *in;
    char *text;
    int got = lines_open(&in, path, e) ? -1 : 1;
    while (got > 0 && (got = lines_next(in, &text, e)) > 0) {
        const long number = lines_number(in);
        json_error_t why;
        if (!text[strspn(text, " \t")])
            continue;
        json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, &why);
        if (!json_is_object(line))
            got = line ? err_set(e, "%s: line %ld: %s, expected an object", path, number, json_type_text(line))
                       : err_set(e, "%s: line %ld, column %d: %s", path, number, why.column, why.text);
        else if (add_line(c, path, number, line, hook, e))
            got = -1;
        json_decref(line);
    }
    lines_close(in);
    if (got == 0 && !c->count)
        return hook ? err_set(e, "%s: no line of the module %s", path, hook)
                    : err_set(e, "%s: no line in it: not a log of sae-fit", path);
    return got;
}

double curve_last(const Curve *c, FitFigure figure)
{
    for (int p = c->points; p-- > 0;)
        if (!isnan(c->figure[figure][p]))
            return c->figure[figure][p];
    return NAN;
}

double curve_first(const Curve *c, FitFigure figure)
{
    for (int p = 0; p < c->points; p++)
        if (!isnan(c->figure[figure][p]))
            return c->figure[figure][p];
    return NAN;
}
