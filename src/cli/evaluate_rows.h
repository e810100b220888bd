/* SPDX-License-Identifier: MIT */
/* evaluate_rows.h -- rows of an evaluation as sd-evaluate writes them: a table, or JSON lines. */
#ifndef SRC_CLI_EVALUATE_ROWS_H
#define SRC_CLI_EVALUATE_ROWS_H

#include <stdio.h>
#include "src/models/evaluate.h"

typedef struct EvaluateColumns { bool brought, clip, frechet; } EvaluateColumns;       /* those that were asked for */

/* Tab-separated, in percent, - where nothing was measured; the names are its first line. */
void evaluate_print_names(FILE *f, const EvaluateColumns *c);
void evaluate_print_row(FILE *f, const EvaluateColumns *c, const EvalRow *row);
/* An object in a line: shares from 0 to 1 with what they count, null where nothing was measured. */
void evaluate_print_json(FILE *f, const EvaluateColumns *c, const EvalRow *row);

#endif
