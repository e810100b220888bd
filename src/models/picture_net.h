/* SPDX-License-Identifier: MIT */
/* picture_net.h -- a network that describes pictures: CLIP's image tower, a vision transformer (image_encoder.h), or a
 * judge's convolutions (convnet.h). */
#ifndef SRC_MODELS_PICTURE_NET_H
#define SRC_MODELS_PICTURE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"

typedef struct PictureNet PictureNet;

int picture_net_clip(PictureNet **n, const char *dir, DType type, Err *e);      /* of DIR/clip */
/* Of a file: a judge's where its metadata has "conv", else a vision transformer. heads as image_encoder_open's. */
int picture_net_open(PictureNet **n, const char *path, int heads, DType type, Err *e);
void picture_net_free(PictureNet *n);               /* NULL is fine */
const char *picture_net_id(const PictureNet *n);    /* CLIP's model_id, or the file's name without its folder */
int picture_net_width(const PictureNet *n);         /* P */
int picture_net_classes(const PictureNet *n);       /* 0 where it only describes */
bool picture_net_heads(const PictureNet *n);        /* whether it is a transformer */
int picture_net_side(const PictureNet *n);          /* of the pictures that it takes; 0: it resizes them itself */
size_t picture_net_bytes(const PictureNet *n);      /* of a prepared picture */
/* room: a picture (H,W,3), of picture_net_side where that is not 0, as the network takes it. -1: out of memory */
int picture_net_prepare(const PictureNet *n, void *room, const uint8_t *rgb, int H, int W, Err *e);
/* embedding (B,P), logits (B,classes) or NULL, of B prepared pictures one after another; host memory all. */
int picture_net_embed(PictureNet *n, const void *prepared, int64_t B, float *embedding, float *logits, Err *e);

#endif
