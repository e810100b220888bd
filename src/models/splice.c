/* SPDX-License-Identifier: MIT */
/* splice.c -- a module's output replaced by its reconstruction, 0 or its mean over the picture's tokens. */
#include <stdlib.h>
#include "kernels/op.h"
#include "src/models/sae_hook.h"
#include "src/models/splice.h"

const char *const splice_names[SPLICES] = {"plain", "spliced", "zero", "mean"};

struct Splice {
    SpliceOptions options;
    Sampler *sampler;
    Sae *sae;
    SpliceKind kind;                /* of the pictures being drawn */
    bool active;                    /* at this step */
    int64_t room;                   /* tokens that the memory below holds */
    float *x, *y, *a;               /* device: (room,D) output - input; (room,D) what comes in x's place; (room,K) */
    int32_t *i;
    float *host;                    /* (room,D) */
};

static void drop_memory(Splice *s)
{
    void *const device[] = {s->x, s->y, s->a, s->i};
    for (int p = 0; p < 4; p++)
        if (device[p])
            op->free(device[p]);
    free(s->host);
    s->x = s->y = s->a = s->host = NULL;
    s->i = NULL;
    s->room = 0;
}

static int need_memory(Splice *s, int64_t N, Err *e)
{
    const size_t ND = sizeof(float)*(size_t)N*(size_t)s->sae->D, NK = sizeof(float)*(size_t)N*(size_t)s->sae->K;
    if (N <= s->room)
        return 0;
    drop_memory(s);
    s->x = op->alloc(ND, e);
    s->y = op->alloc(ND, e);
    s->a = op->alloc(NK, e);
    s->i = op->alloc(NK, e);
    s->host = malloc(ND);
    if (!s->x || !s->y || !s->a || !s->i || !s->host)
        return err_set(e, "out of memory for %lld tokens to splice", (long long)N);
    s->room = N;
    return 0;
}

/* Every row of a picture (HW,D) becomes the mean of its rows. */
static void spread_mean(float *x, int64_t HW, int D)
{
    for (int d = 0; d < D; d++) {
        double sum = 0;
        for (int64_t n = 0; n < HW; n++)
            sum += (double)x[n*D + d];
        for (int64_t n = 0; n < HW; n++)
            x[n*D + d] = (float)(sum/(double)HW);
    }
}

/* y = what comes in the place of x (images*HW, D) */
static int make_replacement(Splice *s, const float *x, int64_t images, int64_t HW, Err *e)
{
    const int D = s->sae->D;
    const size_t bytes = sizeof(float)*(size_t)(images*HW)*(size_t)D;
    if (s->kind == SPLICE_SPLICED) {
        sae_encode(s->sae, s->a, s->i, x, images*HW);
        sae_decode(s->sae, s->y, s->a, s->i, images*HW);
        return sae_check_device_codes(s->sae, s->a, images*HW, e);
    }
    if (s->kind == SPLICE_ZERO) {
        op->clear(s->y, bytes);
        return 0;
    }
    op->download(s->host, x, bytes);
    for (int64_t b = 0; b < images; b++)
        spread_mean(s->host + b*HW*D, HW, D);
    op->upload(s->y, s->host, bytes);
    return 0;
}

static int on_hook(void *context, const HookCall *call, Err *e)
{
    Splice *s = context;
    if (!s->active)
        return 0;
    int first, images;
    sampler_half(s->sampler, s->options.half, &first, &images);
    const int64_t HW = call->H*call->W, n = images*HW*call->C;
    if (sae_hook_check(s->sae, call, e) || need_memory(s, images*HW, e))
        return -1;
    float *x = call->act + first*HW*call->C;
    if (!sae_of_difference(s->sae)) {
        if (make_replacement(s, x, images, HW, e))
            return -1;
        op->copy(x, s->y, sizeof(float)*(size_t)n);
        return 0;
    }
    const float *input = call->input + first*HW*call->C;
    op->subtract(s->x, x, input, n);
    if (make_replacement(s, s->x, images, HW, e))
        return -1;
    op->copy(x, input, sizeof(float)*(size_t)n);
    op->add(x, s->y, n);
    return 0;
}

static bool replaces_at(const Splice *s, int step)
{
    return t_range_has(s->options.when, s->sampler->scheduler->step[step].t);
}

static int check_options(const Splice *s, Err *e)
{
    const SpliceOptions *o = &s->options;
    if (scheduler_first(s->sampler->scheduler, o->when) == s->sampler->scheduler->steps)
        return err_set(e, "no step's timestep lies in %d-%d: nothing would be replaced", o->when.high, o->when.low);
    return sampler_check_half(s->sampler, o->half, "replaced", e);
}

int splice_create(Splice **out, Sampler *sampler, const SpliceOptions *options, Err *e)
{
    Splice *s = *out = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, "out of memory");
    s->options = *options;
    s->sampler = sampler;
    if (check_options(s, e)
        || sae_hook(&s->sae, options->sae, options->hook, options->type, denoiser_hooks(sampler->denoiser), on_hook, s,
                    e)) {
        splice_free(s);
        *out = NULL;
        return -1;
    }
    return 0;
}

void splice_free(Splice *s)
{
    if (!s)
        return;
    drop_memory(s);
    sae_free(s->sae);
    free(s);
}

const Sae *splice_sae(const Splice *s)
{
    return s->sae;
}

const char *splice_module(const Splice *s)
{
    return hooks_path(denoiser_hooks(s->sampler->denoiser), 0);
}

/* StepFn */
static int before_step(void *context, Sampler *sampler, Err *e)
{
    Splice *s = context;
    (void)e;
    s->active = s->kind != SPLICE_PLAIN && replaces_at(s, sampler->step);
    return 0;
}

int splice_draw(Splice *s, SpliceKind kind, const CondBatch *batch, float *latents, Err *e)
{
    s->kind = kind;
    return (kind == SPLICE_PLAIN ? sampler_run_plain : sampler_run)(s->sampler, batch, latents, before_step, s, e);
}
