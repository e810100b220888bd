/* SPDX-License-Identifier: MIT */
/* thumbs.h -- pictures of a page: small PNG files in memory, found by a key.
 *
 * A picture that is shown several times stands in the page once: where it is drawn first it is an SVG <image>, after
 * that a <use> of it. Which are drawn is settled before the page is written, in the page's order, until their bytes
 * reach a limit. */
#ifndef SRC_MODELS_THUMBS_H
#define SRC_MODELS_THUMBS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "formats/err.h"

typedef struct Thumb {
    char *key;
    uint8_t *png;
    size_t bytes;
    int W, H;                       /* of the small picture */
    uint64_t hash;                  /* of the whole picture's size and pixels */
    int number;                     /* its name in the page; 0: not asked for, -1: left out */
    bool written;
} Thumb;

typedef struct Thumbs {
    Thumb **item;                   /* by key */
    size_t count, room;
    int side;                       /* the longer side has at most so many pixels */
    size_t limit, taken;            /* bytes of base64 in the page */
    int drawn;
    long left_out;                  /* pictures asked for that the limit kept out */
} Thumbs;

void thumbs_free(Thumbs *t);        /* zeroed memory is fine */
/* The picture of a key; NULL when there is none. */
Thumb *thumbs_find(const Thumbs *t, const char *key);
/* Makes a small copy of a picture (H,W,3). A key that is there already keeps its picture. */
int thumbs_add(Thumbs *t, const char *key, const uint8_t *rgb, int W, int H, Err *e);
/* Forgets a picture that is not drawn. */
void thumbs_drop(Thumbs *t, const char *key);
/* Asks for a picture to be drawn; NULL, and one that is drawn already, are nothing. */
void thumbs_draw(Thumbs *t, Thumb *x);
/* The picture as part of an SVG of the size W, H of its own. Nothing where it is not drawn. */
void thumb_write(FILE *f, Thumb *x);

#endif
