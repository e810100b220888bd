/* SPDX-License-Identifier: MIT */
/* image.h -- 8-bit RGB and grey PNG files with text chunks, by libpng. */
#ifndef FORMATS_IMAGE_H
#define FORMATS_IMAGE_H

#include <jansson.h>
#include <stdint.h>
#include "formats/err.h"

typedef struct Image {
    int width, height, channels;    /* channels: 1 or 3 */
    uint8_t *pixels;                /* height rows of width*channels bytes, owned */
} Image;

/* Writes pixels [H,W,channels] to path (aside, then renamed) with one iTXt chunk a field of text (object; values that
 * are not strings are written as JSON). The same arguments give the same bytes. path "-": stdout, never a terminal. */
int image_write(const char *path, int width, int height, int channels, const uint8_t *pixels, const json_t *text,
                Err *e);
/* Reads any PNG as 8-bit grey or RGB (alpha dropped). *text, where not NULL, gets a new object of the text chunks.
 * A side over 16384 is refused before memory is taken. */
int image_read(Image *image, const char *path, json_t **text, Err *e);
/* The same as one channel of grey: of colours 0.299 R + 0.587 G + 0.114 B, each pixel times its alpha (0 to 1). */
int image_read_grey(Image *image, const char *path, Err *e);
void image_free(Image *image);

#endif
