/* SPDX-License-Identifier: MIT */
/* model_check.c -- the loaders on a backend that holds nothing and computes nothing. */
#include <stdlib.h>
#include "kernels/op.h"
#include "src/models/denoiser.h"
#include "src/models/model_check.h"
#include "src/models/prompt_encoder.h"
#include "src/models/scheduler.h"
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
    Denoiser *denoiser = NULL;
    Vae *vae = NULL;
    Scheduler *scheduler = NULL;
    const Ops *before = op;
    op = &none;
    int failed = prompt_encoder_load(&text, dir, F32, 0, T5_USUAL_TOKENS, e)
              || scheduler_load(&scheduler, dir, "auto", 1, 0, e) || denoiser_load(&denoiser, dir, F32, op->residual, e)
              || vae_load(&vae, dir, F32, e) || vae_load_encoder(vae, e)
              || vae_takes(vae, denoiser_channels(denoiser), e);
    const DenoiserWords *w = failed ? NULL : denoiser_words(denoiser);
    if (!failed && prompt_encoder_width(text) != denoiser_text_width(denoiser))
        failed = err_set(e, "%s: the text encoder is %d wide, the %s takes text of %d (%s)", dir,
                         prompt_encoder_width(text), w->network, denoiser_text_width(denoiser), w->text_width);
    if (!failed && prompt_encoder_pooled(text) != denoiser_pooled_width(denoiser))
        failed = err_set(e, "%s: the text encoder pools %d values (projection_dim), the %s takes %d (%s)", dir,
                         prompt_encoder_pooled(text), w->network, denoiser_pooled_width(denoiser), w->pooled_width);
    vae_free(vae);
    denoiser_free(denoiser);
    prompt_encoder_free(text);
    scheduler_free(scheduler);
    op = before;
    return failed ? -1 : 0;
}
