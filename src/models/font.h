/* SPDX-License-Identifier: MIT */
/* font.h -- a small bitmap font of our own, for labels in pictures: 95 printable ASCII characters, 5 pixels wide, 7
 * high and 2 below the line, in cells of 6 x 10. Other characters are drawn as a question mark, one each. */
#ifndef SRC_MODELS_FONT_H
#define SRC_MODELS_FONT_H

#include <stdint.h>

enum { FONT_WIDTH = 6, FONT_HEIGHT = 10 };

typedef struct Canvas {
    uint8_t *pixels;                /* (height, width, 3) */
    int width, height;
} Canvas;

/* Characters of text, as drawn: UTF-8 sequences count as one. */
int font_length(const char *text);
/* Where text goes on after its first `count` characters; at its end where it has no more. */
const char *font_skip(const char *text, int count);
/* Draws up to `count` characters with its top left corner at x, y, each pixel of the font scale x scale pixels; what
 * lies outside is cut. Returns where text goes on. */
const char *font_draw(Canvas *c, int x, int y, int scale, uint32_t rgb, const char *text, int count);
/* Characters of the first line when text is broken to lines of `most`: at a blank or after a slash where there is one.
 * At least 1 unless text is empty. */
int font_break(const char *text, int most);
/* Lines that text takes so broken; 0 for an empty one. */
int font_lines(const char *text, int most);

#endif
