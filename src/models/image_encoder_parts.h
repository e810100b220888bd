/* SPDX-License-Identifier: MIT */
/* image_encoder_parts.h -- what an ImageEncoder is made of. Private to image_encoder*.c. */
#ifndef SRC_MODELS_IMAGE_ENCODER_PARTS_H
#define SRC_MODELS_IMAGE_ENCODER_PARTS_H

#include "src/models/clip_layers.h"
#include "src/models/image_encoder.h"

struct ImageEncoder {
    ClipLayers layers;
    ImageForm form;
    int patch, S, P, classes;       /* S = 1 + G*G, G = form.size/patch */
    float *class, *position;        /* device (E), (S,E) */
    Norm before, after;             /* before: gamma NULL where there is none */
    Conv *patches, *projection, *head;          /* projection, head: NULL where there is none */
    Workspace work;
};

#endif
