/* SPDX-License-Identifier: MIT */
/* sheet.h -- a contact sheet: pictures in rows and columns by their fields, labelled.
 *
 *   title
 *               column   column
 *     row       picture  picture
 *               caption  caption
 *
 * A picture's row is the text of its row field, its column that of its column field, in the order in which they first
 * come, those without a value first. Where only one of both is given, the n-th picture of a row stands in column n, or
 * the other way round; where none is, pictures fill rows of `across`. Texts are compared whole, and cut when they are
 * drawn: to 512 letters, beside a row to as many lines as its pictures are high. Memory: the cells' pixels, and the
 * texts of rows and columns. */
#ifndef SRC_MODELS_SHEET_H
#define SRC_MODELS_SHEET_H

#include <jansson.h>
#include "formats/err.h"
#include "src/models/font.h"

typedef struct SheetOptions {
    /* fields: "concept", "steering.multiplier", "concept,theme"; NULL: none */
    const char *title, *rows, *columns, *caption;
    int cell;                       /* side of a cell in pixels; 0: its sides are the first picture's */
    int across;                     /* pictures a row without rows and columns */
    int text;                       /* scale of the letters, 1 to 4 */
} SheetOptions;

typedef struct Sheet Sheet;

/* options are the caller's while the sheet lives */
int sheet_create(Sheet **s, const SheetOptions *options, Err *e);
void sheet_free(Sheet *s);
/* Adds one picture (H,W,3), copied, brought to the largest size that fits into the cell with the picture's proportions.
 * Returns 0 when it found a place, 1 when its cell was taken, -1 on error. */
int sheet_add(Sheet *s, const json_t *fields, const uint8_t *rgb, int W, int H, Err *e);
/* Draws the sheet; the caller frees canvas->pixels. Fails without pictures, and when a side would be over 16384
 * pixels. */
int sheet_draw(const Sheet *s, Canvas *canvas, Err *e);
/* The i-th of the fields asked for that no picture had, whatever its value; NULL after the last. */
const char *sheet_unseen(const Sheet *s, int i);

#endif
