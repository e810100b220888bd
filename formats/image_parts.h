/* SPDX-License-Identifier: MIT */
/* image_parts.h -- what image.c, which writes PNG, image_read.c and image_jpeg.c have in common. */
#ifndef FORMATS_IMAGE_PARTS_H
#define FORMATS_IMAGE_PARTS_H

#include <stdbool.h>
#include <sys/types.h>
#include "formats/image.h"

/* The keyword of chunks whose field has a name that none may have: the name is the "translated keyword" then, which is
 * UTF-8 of any length. */
#define IMAGE_FIELD "Field"

/* A file being read, the first bytes of which have been looked at. */
typedef struct ImageFile {
    const char *name;
    int fd;
    uint8_t head[3];
    size_t waiting;             /* bytes of head that are still to be given */
    Err *e;
} ImageFile;

/* Up to n bytes, at least one; -1 with e set, at the end too, for a picture is read no further than it goes. */
ssize_t image_file_read(ImageFile *file, void *data, size_t n);
/* Refuses a side over IMAGE_MAX_SIDE. */
int image_check_size(const ImageFile *file, int64_t width, int64_t height);

bool image_is_jpeg(const ImageFile *file);
/* The picture of a JPEG file, 1 or 3 channels, turned as its Exif orientation says. */
int image_read_jpeg(Image *image, ImageFile *file);

#endif
