/* SPDX-License-Identifier: MIT */
/* image_writer.h -- PNG files written by threads, while the caller makes the next picture: a picture of 512x512 takes a
 * thread some 40 ms. The files do not depend on the number of threads. */
#ifndef FORMATS_IMAGE_WRITER_H
#define FORMATS_IMAGE_WRITER_H

#include <jansson.h>
#include <stdint.h>
#include "formats/err.h"

typedef struct ImageWriter ImageWriter;

/* threads 0: one a processor; four at most, started at the first picture of 256 KiB or more; before, and with 1,
 * image_writer_add writes. Six pictures at most wait or are written. */
int image_writer_create(ImageWriter **w, int threads, Err *e);
/* As image_write, of which the bytes and the fields are copied. Fails for an earlier picture too, and for all after it;
 * those that were under way are written all the same. path is a file's name. */
int image_writer_add(ImageWriter *w, const char *path, int width, int height, int channels, const uint8_t *pixels,
                     const json_t *text, Err *e);
int image_writer_drain(ImageWriter *w, Err *e);            /* waits until all are written */
void image_writer_free(ImageWriter *w);                    /* those that have not begun are dropped. NULL is fine */

#endif
