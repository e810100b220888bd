/* SPDX-License-Identifier: MIT */
/* name_table.h -- the table of sae-name-features: a row a feature and text, columns separated by tabs.
 *
 *     feature  pictures  density     place  score   kind     text
 *     12       41        0.00390625  1      0.8712  concept  Fishes
 *
 * place 1 is the text of the highest score; - stands for an empty kind or text. */
#ifndef SRC_MODELS_NAME_TABLE_H
#define SRC_MODELS_NAME_TABLE_H

#include <stdio.h>
#include "formats/err.h"

typedef struct NameRow {
    int feature, place;
    long pictures;
    double density, score;
    const char *kind, *text;
} NameRow;

typedef struct NameTable {          /* zeroed: empty */
    NameRow *row;                   /* those of place 1, by feature */
    int rows;
} NameTable;

void name_table_print_columns(FILE *f);
void name_table_print(FILE *f, const NameRow *row);         /* tabs and other control characters become spaces */
/* The first place of each feature; kind and text are the table's. Errors name file and line: other columns, a number
 * that is none, a feature named twice. */
int name_table_load(NameTable *t, const char *path, Err *e);
void name_table_free(NameTable *t);
const NameRow *name_table_find(const NameTable *t, int feature);    /* NULL where it has no name */

#endif
