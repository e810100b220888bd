/* SPDX-License-Identifier: MIT */
/* image.h -- 8-bit RGB and grey PNG files with text chunks, by libpng; JPEG files read, by libjpeg; pictures brought to
 * another size. */
#ifndef FORMATS_IMAGE_H
#define FORMATS_IMAGE_H

#include <jansson.h>
#include <stdint.h>
#include "formats/err.h"

enum { IMAGE_MAX_SIDE = 16384 };

typedef struct Image {
    int width, height, channels;    /* channels: 1 or 3 */
    uint8_t *pixels;                /* height rows of width*channels bytes, owned */
} Image;

/* Writes pixels [H,W,channels] to path (aside, then renamed) with one iTXt chunk a field of text (object; values that
 * are not strings are written as JSON; a name that is no keyword of PNG's, as one in Chinese, is the chunk's translated
 * keyword). The same arguments give the same bytes. path "-": stdout, never a terminal. */
int image_write(const char *path, int width, int height, int channels, const uint8_t *pixels, const json_t *text,
                Err *e);
/* Reads any PNG as 8-bit grey or RGB (alpha dropped), or a JPEG, turned upright. *text, where not NULL, gets a new
 * object of a PNG's text chunks.
 * A side over IMAGE_MAX_SIDE is refused before memory is taken. */
int image_read(Image *image, const char *path, json_t **text, Err *e);
/* The same as three channels always. */
int image_read_rgb(Image *image, const char *path, json_t **text, Err *e);
/* As one channel of grey: of colours 0.299 R + 0.587 G + 0.114 B, each pixel times its alpha (0 to 1). */
int image_read_grey(Image *image, const char *path, Err *e);
/* Bytes of a name's ending where it is that of a picture to read, .png, .jpg or .jpeg in letters of either case, else
 * 0. */
size_t image_ending(const char *path);
void image_free(Image *image);
/* A PNG without text in memory: n bytes that the caller frees, NULL on error. channels 1, 3, or 4: RGB and alpha. */
int image_encode(uint8_t **bytes, size_t *n, int width, int height, int channels, const uint8_t *pixels, Err *e);
/* from (H,W,3) to (h,w,3): each pixel the mean of those it covers; a larger picture repeats pixels. */
void image_resize(uint8_t *to, int w, int h, const uint8_t *from, int W, int H);

#endif
