/* SPDX-License-Identifier: MIT */
/* picture_net.c -- one of the networks that describe pictures, behind one interface. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/weights_either.h"
#include "src/models/convnet.h"
#include "src/models/image_encoder.h"
#include "src/models/model.h"
#include "src/models/picture_net.h"

struct PictureNet {
    char id[256];
    ImageEncoder *encoder;          /* or */
    ConvNet *judge;
};

static int create(PictureNet **out, Err *e)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : err_set(e, "out of memory");
}

/* The end of a loading that may have failed. */
static int loaded(PictureNet **out, PictureNet *n, int failed)
{
    if (failed)
        picture_net_free(n);
    *out = failed ? NULL : n;
    return failed ? -1 : 0;
}

int picture_net_clip(PictureNet **out, const char *dir, DType type, Err *e)
{
    char clip[4200];
    PictureNet *n;
    if (create(&n, e))
        return loaded(out, n, -1);
    snprintf(clip, sizeof clip, "%.4096s/clip", dir);
    return loaded(out, n, image_encoder_load(&n->encoder, dir, type, e) || model_id(n->id, clip, e));
}

static int is_judge(const char *path, bool *judge, Err *e)
{
    Weights *w;
    if (weights_open_either(&w, path, e))
        return -1;
    *judge = json_object_get(weights_metadata(w), "conv") != NULL;
    weights_close(w);
    return 0;
}

int picture_net_open(PictureNet **out, const char *path, int heads, DType type, Err *e)
{
    const char *slash = strrchr(path, '/');
    bool judge = false;
    PictureNet *n;
    if (create(&n, e) || is_judge(path, &judge, e))
        return loaded(out, n, -1);
    snprintf(n->id, sizeof n->id, "%s", slash ? slash + 1 : path);
    return loaded(out, n, judge ? convnet_load(&n->judge, path, e)
                                : image_encoder_open(&n->encoder, path, heads, type, e));
}

void picture_net_free(PictureNet *n)
{
    if (!n)
        return;
    image_encoder_free(n->encoder);
    convnet_free(n->judge);
    free(n);
}

const char *picture_net_id(const PictureNet *n)
{
    return n->id;
}

int picture_net_width(const PictureNet *n)
{
    return n->judge ? convnet_width(n->judge) : image_encoder_projection(n->encoder);
}

int picture_net_classes(const PictureNet *n)
{
    return n->judge ? 0 : image_encoder_classes(n->encoder);
}

bool picture_net_heads(const PictureNet *n)
{
    return n->encoder != NULL;
}

int picture_net_side(const PictureNet *n)
{
    return n->judge ? convnet_size(n->judge) : 0;
}

size_t picture_net_bytes(const PictureNet *n)
{
    const size_t side = (size_t)(n->judge ? convnet_size(n->judge) : image_encoder_form(n->encoder)->size);
    return side * side * 3 * (n->judge ? 1 : sizeof(float));
}

int picture_net_prepare(const PictureNet *n, void *room, const uint8_t *rgb, int H, int W, Err *e)
{
    if (!n->judge)
        return image_prepare(room, rgb, H, W, image_encoder_form(n->encoder), e);
    memcpy(room, rgb, (size_t)H * W * 3);
    return 0;
}

int picture_net_embed(PictureNet *n, const void *prepared, int64_t B, float *embedding, float *logits, Err *e)
{
    return n->judge ? convnet_embed(n->judge, prepared, B, embedding, e)
                    : image_embed(n->encoder, prepared, B, embedding, logits, e);
}
