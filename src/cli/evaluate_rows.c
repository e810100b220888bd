/* SPDX-License-Identifier: MIT */
/* evaluate_rows.c -- rows of an evaluation, printed. */
#include <jansson.h>
#include <math.h>
#include "formats/json_file.h"
#include "formats/tame.h"
#include "src/cli/evaluate_rows.h"

static int measures(const EvaluateColumns *c)
{
    return c->brought ? MEASURES : MEASURE_BROUGHT;             /* the last of them */
}

static const char *const row_names[] = {"unsteered", "features", "target", "overall"};

static void print_number(FILE *f, double x)
{
    if (isnan(x))
        fputs("\t-", f);
    else
        fprintf(f, "\t%.2f", x);
}

void evaluate_print_row(FILE *f, const EvaluateColumns *c, const EvalRow *row)
{
    fprintf(f, "%s\t%s\t", row_names[row->type], row->kind);
    tame_print(f, *row->target ? row->target : "-", ' ');
    fprintf(f, "\t%ld", row->pictures);
    for (int m = 0; m < measures(c); m++) {
        const Share *s = &row->share[m];
        if (s->of)
            fprintf(f, "\t%.2f\t%.2f\t%.2f", 100*s->value, 100*s->low, 100*s->high);
        else
            fputs("\t-\t-\t-", f);
    }
    print_number(f, 100*row->mean);
    if (c->clip) {
        print_number(f, row->clip);
        print_number(f, row->clip - 1.96*row->clip_error);
        print_number(f, row->clip + 1.96*row->clip_error);
    }
    if (c->frechet)
        print_number(f, row->frechet);
    fputc('\t', f);
    tame_print(f, *row->steering ? row->steering : "-", ' ');
    fputc('\n', f);
}

void evaluate_print_json(FILE *f, const EvaluateColumns *c, const EvalRow *row)
{
    json_t *line = json_pack("{ss ss ss si}", "row", row_names[row->type], "kind", row->kind, "target", row->target,
                             "targets", row->targets);
    json_object_set_new(line, "pictures", json_integer(row->pictures));
    for (int m = 0; m < measures(c); m++) {
        const Share *s = &row->share[m];
        json_object_set_new(line, measure_names[m], !s->of ? json_null()
                            : json_pack("{sI sI sf sf sf}", "hits", (json_int_t)s->hits, "of", (json_int_t)s->of,
                                        "value", s->value,
                                        "low", s->low, "high", s->high));
    }
    json_object_set_new(line, "mean", json_real_or_null(row->mean));
    if (c->clip) {
        json_object_set_new(line, "CLIP", json_real_or_null(row->clip));
        json_object_set_new(line, "CLIP_error", json_real_or_null(row->clip_error));
    }
    if (c->frechet)
        json_object_set_new(line, "frechet", json_real_or_null(row->frechet));
    json_object_set_new(line, "steering", json_string(row->steering));
    json_dumpf(line, f, JSON_COMPACT | JSON_REAL_PRECISION(10));
    fputc('\n', f);
    json_decref(line);
}

void evaluate_print_names(FILE *f, const EvaluateColumns *c)
{
    fputs("row\tkind\ttarget\tpictures", f);
    for (int m = 0; m < measures(c); m++)
        fprintf(f, "\t%s\t%s_low\t%s_high", measure_names[m], measure_names[m], measure_names[m]);
    fprintf(f, "\tmean%s%s\tsteering\n", c->clip ? "\tCLIP\tCLIP_low\tCLIP_high" : "",
            c->frechet ? "\tfrechet" : "");
}
