/* SPDX-License-Identifier: MIT */
/* model_check.c -- the loaders on a backend that holds nothing and computes nothing. */
#include <stdlib.h>
#include "kernels/op.h"
#include "src/models/model_check.h"
#include "src/models/prompt_encoder.h"
#include "src/models/scheduler.h"
#include "src/models/unet.h"
#include "src/models/vae.h"

static void *none_alloc(size_t bytes, Err *e)
{
    (void)bytes;
    void *p = malloc(1);
    if (!p)
        err_set(e, "out of memory");
    return p;
}

static void none_upload(void *device, const void *host, size_t bytes)
{
    (void)device;
    (void)host;
    (void)bytes;
}

static int none_conv_create(Conv **c, const ConvSpec *spec, const Weight *const *weight, const Weight *const *bias,
                            int parts, Err *e)
{
    (void)spec;
    (void)weight;
    (void)bias;
    (void)parts;
    *c = none_alloc(1, e);
    return *c ? 0 : -1;
}

static void none_conv_free(Conv *c)
{
    free(c);
}

/* What loading calls. */
static const Ops none = {
    .name = "none", .alloc = none_alloc, .free = free, .upload = none_upload, .conv_create = none_conv_create,
    .conv_free = none_conv_free,
};

int model_check(const char *dir, Err *e)
{
    PromptEncoder *text = NULL;
    UNet *unet = NULL;
    Vae *vae = NULL;
    Scheduler *scheduler = NULL;
    op = &none;
    int failed = prompt_encoder_load(&text, dir, F32, 0, e) || scheduler_load(&scheduler, dir, "auto", 1, 0, e)
              || unet_load(&unet, dir, F32, e)
              || vae_load(&vae, dir, F32, e) || vae_load_encoder(vae, e) || vae_takes(vae, unet_channels(unet), e);
    if (!failed && prompt_encoder_width(text) != unet_text_width(unet))
        failed = err_set(e, "%s: the text encoder is %d wide, the UNet takes text of %d (cross_attention_dim)", dir,
                         prompt_encoder_width(text), unet_text_width(unet));
    if (!failed && prompt_encoder_pooled(text) != unet_pooled_width(unet))
        failed = err_set(e, "%s: the text encoder pools %d values (projection_dim), the UNet takes %d "
                         "(projection_class_embeddings_input_dim)", dir, prompt_encoder_pooled(text),
                         unet_pooled_width(unet));
    vae_free(vae);
    unet_free(unet);
    prompt_encoder_free(text);
    scheduler_free(scheduler);
    return failed ? -1 : 0;
}
