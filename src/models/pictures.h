/* SPDX-License-Identifier: MIT */
/* pictures.h -- where drawn pictures go: a folder of PNG files, or a stream of kind "images".
 *
 * A path that is "-" or ends in .mpk or .mpk.zst is a stream, one that ends in .png misuse, anything else a folder. In
 * a folder, record id "Fishes/Rust/3" becomes Fishes/Rust/3.png; its text chunks hold the record's fields and the
 * stream's provenance. */
#ifndef SRC_MODELS_PICTURES_H
#define SRC_MODELS_PICTURES_H

#include "formats/stream.h"
#include "src/models/vae.h"

typedef struct Pictures Pictures;

/* What can be said of a path before anything is drawn or loaded: that pictures may go there. */
int pictures_check(const char *path, Err *e);

/* vae and in, whose records will be drawn, are the caller's. header: of kind "images" with its provenance; copied where
 * needed. Of a folder the ids are remembered: one that comes twice is an error. */
int pictures_open(Pictures **p, const char *path, Vae *vae, const StreamIn *in, const Record *header,
                  const StreamOptions *options, Err *e);
/* Decodes one latent (C,h,w) f32, in torch's order, and writes it with the fields of rec (which gets no tensor). */
int pictures_write(Pictures *p, const Record *rec, const float *latent, int C, int h, int w, Err *e);
/* Writes a picture that is decoded already, rgb (H,W,3). */
int pictures_write_rgb(Pictures *p, const Record *rec, const uint8_t *rgb, int H, int W, Err *e);
/* Finishes the stream, or the folder, whose files may still be under way; also when it fails, p can only be abandoned
 * then. */
int pictures_finish(Pictures *p, Err *e);
void pictures_abandon(Pictures *p);                 /* frees p; a stream not finished is removed. NULL is fine */

#endif
