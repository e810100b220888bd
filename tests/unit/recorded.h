/* SPDX-License-Identifier: MIT */
/* recorded.h -- what the tests of whole pipelines share: one file of recorded values and what its metadata says, hooks
 * that keep each step's, pictures beside recorded ones. */
#ifndef TESTS_UNIT_RECORDED_H
#define TESTS_UNIT_RECORDED_H

#include "src/models/sampler.h"
#include "src/models/vae.h"
#include "tests/unit/golden.h"

static const Weights *golden;

static const char *said(const char *name)
{
    return json_string_value(json_object_get(weights_metadata(golden), name));
}

/* From value `from` of the recorded tensor on. */
static int near(const char *name, const float *got, const char *recorded, size_t from)
{
    const Weight *want = tensor(golden, recorded);
    return test_below(name, range_error(got, (const float *)want->data + from, weight_count(want) - from), 1e-4);
}

typedef struct Watch { const Sampler *sampler; float *got; } Watch;

static int watch(void *context, const HookCall *call, Err *e)
{
    const Watch *w = context;
    const size_t n = (size_t)(call->B*call->H*call->W*call->C);
    (void)e;
    op->download(w->got + n*(size_t)w->sampler->step, call->act, n*sizeof(float));
    return 0;
}

/* The VAE of `model` makes the recorded picture of a latent (C,h,w). */
static int test_picture(const char *model, const float *latent, const char *recorded)
{
    const Weight *image = tensor(golden, recorded);
    const size_t n = weight_count(image);
    float *pixels = malloc(n*sizeof *pixels);
    uint8_t *u8 = malloc(n);
    int far = 0;
    Vae *v = NULL;
    die_if(vae_load(&v, model, F32, &err));
    const int h = (int)image->dim[0]/vae_scale(v), w = (int)image->dim[1]/vae_scale(v);
    float *rows = rows_of(latent, 1, vae_channels(v), h*w);
    die_if(vae_decode(v, rows, 1, h, w, pixels, &err));
    vae_to_u8(u8, pixels, (int64_t)n);
    for (size_t i = 0; i < n; i++)
        far += abs(u8[i] - ((const uint8_t *)image->data)[i]) > 1;
    free(rows);
    free(pixels);
    free(u8);
    vae_free(v);
    return test_ok("picture within 1/255", far == 0);
}

#endif
