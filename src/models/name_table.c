/* SPDX-License-Identifier: MIT */
/* name_table.c -- names of features, printed and read back. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/lines.h"
#include "formats/number.h"
#include "formats/tame.h"
#include "src/models/name_table.h"

enum { COLUMNS = 7 };
static const char columns[] = "feature\tpictures\tdensity\tplace\tscore\tkind\ttext";

void name_table_print_columns(FILE *f)
{
    fprintf(f, "%s\n", columns);
}

static void print_text(FILE *f, const char *text)
{
    fputc('\t', f);
    tame_print(f, *text ? text : "-", ' ');
}

void name_table_print(FILE *f, const NameRow *r)
{
    fprintf(f, "%d\t%ld\t%.6g\t%d\t%.4f", r->feature, r->pictures, r->density, r->place, r->score);
    print_text(f, r->kind);
    print_text(f, r->text);
    fputc('\n', f);
}

/* Cuts a line at its tabs, into COLUMNS fields. */
static int split(char *line, char *field[COLUMNS])
{
    int count = 0;
    for (char *rest = line; rest && count < COLUMNS;)
        field[count++] = strsep(&rest, "\t");
    return count;
}

static int read_number(const char *text, double low, double high, double *value)
{
    return number_real(text, value) || *value < low || *value > high ? -1 : 0;
}

static int read_row(NameTable *t, const Lines *l, char *line, Err *e)
{
    char *field[COLUMNS];
    double x[5];
    const double high[5] = {INT_MAX, INT_MAX, 1, INT_MAX, 1};
    const int count = split(line, field);
    for (int i = 0; i < 5 && count == COLUMNS; i++)
        if (read_number(field[i], i == 4 ? -1 : 0, high[i], &x[i]) || (i != 2 && i != 4 && x[i] != floor(x[i])))
            return err_set(e, "%s: line %ld: column %d is '%.40s', expected %s", lines_name(l), lines_number(l), i + 1,
                           field[i], i == 4 ? "a number from -1 to 1" : i == 2 ? "a number from 0 to 1" : "a count");
    if (count < COLUMNS)
        return err_set(e, "%s: line %ld: %d columns, expected %d", lines_name(l), lines_number(l), count, COLUMNS);
    if (x[3] != 1)
        return 0;
    if (!(t->rows & (t->rows - 1))) {
        NameRow *row = realloc(t->row, sizeof *row*(size_t)(t->rows ? 2*t->rows : 1));
        if (!row)
            return err_set(e, "out of memory for names");
        t->row = row;
    }
    NameRow *r = &t->row[t->rows++];
    *r = (NameRow){(int)x[0], 1, (long)x[1], x[2], x[4], strdup(field[5]), strdup(field[6])};
    return r->kind && r->text ? 0 : err_set(e, "out of memory for names");
}

static int by_feature(const void *a, const void *b)
{
    const NameRow *x = a, *y = b;
    return (x->feature > y->feature) - (x->feature < y->feature);
}

int name_table_load(NameTable *t, const char *path, Err *e)
{
    Lines *l = NULL;
    char *line;
    if (lines_open(&l, path, e))
        return -1;
    int got = lines_next(l, &line, e);
    if (got >= 0 && (!got || strcmp(line, columns) != 0))
        got = err_set(e, "%s: line 1: not the columns of sae-name-features: feature, pictures, density, place, score, "
                         "kind, text", lines_name(l));
    while (got > 0 && (got = lines_next(l, &line, e)) > 0)
        if (read_row(t, l, line, e))
            got = -1;
    if (got == 0 && t->rows)
        qsort(t->row, (size_t)t->rows, sizeof *t->row, by_feature);
    for (int i = 1; i < t->rows && got == 0; i++)
        if (t->row[i].feature == t->row[i - 1].feature)
            got = err_set(e, "%s: feature %d is named twice", lines_name(l), t->row[i].feature);
    lines_close(l);
    return got;
}

void name_table_free(NameTable *t)
{
    for (int i = 0; i < t->rows; i++) {
        free((char *)t->row[i].kind);
        free((char *)t->row[i].text);
    }
    free(t->row);
    *t = (NameTable){0};
}

const NameRow *name_table_find(const NameTable *t, int feature)
{
    const NameRow key = {.feature = feature};
    return t->rows ? bsearch(&key, t->row, (size_t)t->rows, sizeof *t->row, by_feature) : NULL;
}
