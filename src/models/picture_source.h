/* SPDX-License-Identifier: MIT */
/* picture_source.h -- pictures from wherever they are, one after the other: images streams, PNG and JPEG files, folders
 * of them.
 *
 * An operand that ends in .png, .jpg or .jpeg is such a file; a folder stands for those in it and in its subfolders, in
 * the order of their names, but for names that begin with a dot; anything else, and -, is a stream of images. */
#ifndef SRC_MODELS_PICTURE_SOURCE_H
#define SRC_MODELS_PICTURE_SOURCE_H

#include "formats/stream.h"

typedef struct Picture {
    /* The fields of its record. In a PNG file its text chunks are those, seed and steering as they were before they
     * became text; its id, where it has none, is its path within the folder, without its ending. No tensors. */
    Record record;
    json_t *run;                    /* what a PNG file (in texts) or a stream's header says of its run: model, ... */
    const uint8_t *rgb;             /* (H,W,3), H and W 1 or more */
    int H, W;
} Picture;

typedef struct PictureSource PictureSource;

/* Opens operands, no operand: standard input, at the first of them. They stay the caller's while the source lives. */
int picture_source_open(PictureSource **s, const char *const *operands, int count, Err *e);
/* Next picture, good until the next call. Returns 1 with a picture, 0 after the last, -1 on error, which names the file
 * (and the record). A folder without any, and one that cannot be read, are errors. */
int picture_source_next(PictureSource *s, Picture *p, Err *e);
/* The last picture's place, for messages: its file, or the stream and the record. Returns text. */
const char *picture_source_where(const PictureSource *s, char *text, size_t size);
/* The provenance of the streams opened so far (provenance_join), or an empty list, fresh. */
json_t *picture_source_provenance(const PictureSource *s);
void picture_source_close(PictureSource *s);        /* NULL is fine */

#endif
