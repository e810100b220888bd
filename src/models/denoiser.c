/* SPDX-License-Identifier: MIT */
/* denoiser.c -- which network a model folder has, and calls of that one. */
#include <stdlib.h>
#include "src/models/denoiser.h"
#include "src/models/mmdit.h"
#include "src/models/model.h"
#include "src/models/unet.h"

struct Denoiser {                   /* one of them */
    UNet *unet;
    MMDiT *mmdit;
};

static int load(Denoiser *d, const char *dir, DType type, DType residual, Err *e)
{
    const bool unet = part_exists(dir, "unet"), transformer = part_exists(dir, "transformer");
    if (unet && transformer)
        return err_set(e, "%s: has folders unet and transformer; a model has one of them", dir);
    if (!unet && !transformer && part_exists(dir, "."))
        return err_set(e, "%s: no folder unet or transformer; a model in diffusers layout has one of them", dir);
    return transformer ? mmdit_load(&d->mmdit, dir, type, e) : unet_load(&d->unet, dir, type, residual, e);
}

int denoiser_load(Denoiser **out, const char *dir, DType type, DType residual, Err *e)
{
    *out = NULL;
    Denoiser *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(e, "out of memory");
    if (load(d, dir, type, residual, e)) {
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
    mmdit_free(d->mmdit);
    free(d);
}

const DenoiserWords *denoiser_words(const Denoiser *d)
{
    static const DenoiserWords unet = {"UNet", "cross_attention_dim", "projection_class_embeddings_input_dim"};
    static const DenoiserWords mmdit = {"transformer", "joint_attention_dim", "pooled_projection_dim"};
    return d->unet ? &unet : &mmdit;
}

int denoiser_channels(const Denoiser *d)
{
    return d->unet ? unet_channels(d->unet) : mmdit_channels(d->mmdit);
}

void denoiser_sample_size(const Denoiser *d, int *height, int *width)
{
    if (d->unet)
        unet_sample_size(d->unet, height, width);
    else
        mmdit_sample_size(d->mmdit, height, width);
}

int denoiser_check_size(const Denoiser *d, int height, int width, Err *e)
{
    return d->unet ? 0 : mmdit_check_size(d->mmdit, height, width, e);
}

int denoiser_text_width(const Denoiser *d)
{
    return d->unet ? unet_text_width(d->unet) : mmdit_text_width(d->mmdit);
}

int denoiser_pooled_width(const Denoiser *d)
{
    return d->unet ? unet_pooled_width(d->unet) : mmdit_pooled_width(d->mmdit);
}

bool denoiser_takes_guidance(const Denoiser *d)
{
    return d->unet && unet_takes_guidance(d->unet);
}

int denoiser_set_guidance(Denoiser *d, double guidance, Err *e)
{
    return d->unet ? unet_set_guidance(d->unet, guidance, e)
                   : err_set(e, "a guidance for a model that is told none");
}

int denoiser_set_text(Denoiser *d, const float *states, int64_t images, int64_t S, const int32_t *index, int64_t B,
                      Err *e)
{
    return d->unet ? unet_set_text(d->unet, states, images, S, index, B, e)
                   : mmdit_set_text(d->mmdit, states, images, S, index, B, e);
}

int denoiser_set_added(Denoiser *d, const float *pooled, int height, int width, Err *e)
{
    return d->unet ? unet_set_added(d->unet, pooled, height, width, e) : mmdit_set_added(d->mmdit, pooled, e);
}

int denoiser_eval(Denoiser *d, float *eps, const float *x, int64_t B, int64_t H, int64_t W, float t, Err *e)
{
    return d->unet ? unet_eval(d->unet, eps, x, B, H, W, t, e) : mmdit_eval(d->mmdit, eps, x, B, H, W, t, e);
}

Hooks *denoiser_hooks(Denoiser *d)
{
    return d->unet ? unet_hooks(d->unet) : mmdit_hooks(d->mmdit);
}

const char *denoiser_usual_hook(const Denoiser *d)
{
    return d->unet ? "up_blocks.1.attentions.1" : mmdit_usual_hook(d->mmdit);
}
