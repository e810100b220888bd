/* SPDX-License-Identifier: MIT */
/* denoiser.c -- which network a model folder has, and calls of that one. */
#include <stdlib.h>
#include "src/models/denoiser.h"
#include "src/models/model.h"
#include "src/models/unet.h"

struct Denoiser {
    UNet *unet;
};

int denoiser_load(Denoiser **out, const char *dir, DType type, Err *e)
{
    *out = NULL;
    Denoiser *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(e, "out of memory");
    if (unet_load(&d->unet, dir, type, e)) {
        denoiser_free(d);
        return -1;
    }
    *out = d;
    return 0;
}

void denoiser_free(Denoiser *d)
{
    if (!d)
        return;
    unet_free(d->unet);
    free(d);
}

const DenoiserWords *denoiser_words(const Denoiser *d)
{
    static const DenoiserWords unet = {"UNet", "cross_attention_dim", "projection_class_embeddings_input_dim"};
    (void)d;
    return &unet;
}

int denoiser_channels(const Denoiser *d)
{
    return unet_channels(d->unet);
}

void denoiser_sample_size(const Denoiser *d, int *height, int *width)
{
    unet_sample_size(d->unet, height, width);
}

int denoiser_check_size(const Denoiser *d, int height, int width, Err *e)
{
    (void)d;
    (void)height;
    (void)width;
    (void)e;
    return 0;
}

int denoiser_text_width(const Denoiser *d)
{
    return unet_text_width(d->unet);
}

int denoiser_pooled_width(const Denoiser *d)
{
    return unet_pooled_width(d->unet);
}

bool denoiser_takes_guidance(const Denoiser *d)
{
    return unet_takes_guidance(d->unet);
}

int denoiser_set_guidance(Denoiser *d, double guidance, Err *e)
{
    return unet_set_guidance(d->unet, guidance, e);
}

int denoiser_set_text(Denoiser *d, const float *states, int64_t images, int64_t S, const int32_t *index, int64_t B,
                      Err *e)
{
    return unet_set_text(d->unet, states, images, S, index, B, e);
}

int denoiser_set_added(Denoiser *d, const float *pooled, int height, int width, Err *e)
{
    return unet_set_added(d->unet, pooled, height, width, e);
}

int denoiser_eval(Denoiser *d, float *eps, const float *x, int64_t B, int64_t H, int64_t W, float t, Err *e)
{
    return unet_eval(d->unet, eps, x, B, H, W, t, e);
}

Hooks *denoiser_hooks(Denoiser *d)
{
    return unet_hooks(d->unet);
}

const char *denoiser_usual_hook(const Denoiser *d)
{
    (void)d;
    return "up_blocks.1.attentions.1";
}
