/* SPDX-License-Identifier: MIT */
/* sampler.c -- guided sampling of a batch of pictures (diffusers StableDiffusionPipeline.__call__). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/latent.h"
#include "src/models/sampler_parts.h"
#include "src/models/vae.h"

int half_parse(Half *half, const char *name, Err *e)
{
    static const char *const names[] = {"cond", "uncond", "both"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *half = (Half)i;
            return 0;
        }
    return err_misuse(e, "half '%s' is not cond, uncond or both", name);
}

static int check_inversion(const Sampler *s, Err *e)
{
    if (!s->options.inversion || s->scheduler->kind != STEP_FLOW)
        return 0;
    return err_set(e, "%s: --inversion ddpm goes by noise, and this model matches flows", s->options.model);
}

/* The model's scheduler and network, and what they say of latents. */
static int open_model(Sampler *s, Err *e)
{
    const SamplerOptions *o = &s->options;
    if (scheduler_load(&s->scheduler, o->model, o->method ? o->method : "auto", o->steps, o->strength, e)
        || check_inversion(s, e)
        || denoiser_load(&s->denoiser, o->model, o->type, o->wide ? F32 : op->residual, e)
        || vae_cell(&s->cell, o->model, e)
        || (denoiser_takes_guidance(s->denoiser) && denoiser_set_guidance(s->denoiser, o->guidance, e)))
        return -1;
    s->halves = o->guidance == 1.0 || denoiser_takes_guidance(s->denoiser) ? 1 : 2;
    s->C = denoiser_channels(s->denoiser);
    denoiser_sample_size(s->denoiser, &s->H, &s->W);
    s->H = o->height ? o->height : s->H;
    s->W = o->width ? o->width : s->W;
    return denoiser_check_size(s->denoiser, s->H, s->W, e);
}

static int make_room(Sampler *s, Err *e)
{
    const size_t batch = (size_t)s->options.batch, picture = sizeof(float) * sampler_latent(s);
    const size_t memory = picture * batch * s->scheduler->memory;
    s->x = op->alloc(picture * batch, e);
    s->fresh = s->x ? op->alloc(picture * batch, e) : NULL;
    s->eps = s->fresh ? op->alloc(picture * batch * s->halves, e) : NULL;
    if ((s->eps && memory && !(s->memory = op->alloc(memory, e)))
        || (s->options.inversion && sampler_own_create(s, e)))
        return -1;
    s->host = malloc(picture * batch);
    s->planes = malloc(picture * batch);
    s->picture = calloc(batch, sizeof *s->picture);
    s->twin = calloc(batch, sizeof *s->twin);
    s->traced_at = calloc(batch, sizeof *s->traced_at);
    s->state_of = calloc(batch * s->halves, sizeof *s->state_of);
    s->noise = calloc(batch, sizeof *s->noise);
    if (!s->eps || !s->host || !s->planes || !s->picture || !s->twin || !s->traced_at || !s->state_of || !s->noise)
        return err_set(e, "out of memory for a batch of %d latents", s->options.batch);
    return 0;
}

int sampler_create(Sampler **out, const SamplerOptions *options, Err *e)
{
    *out = NULL;
    Sampler *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, "out of memory");
    s->options = *options;
    if (open_model(s, e) || make_room(s, e)) {
        sampler_free(s);
        return -1;
    }
    *out = s;
    return 0;
}

void sampler_free(Sampler *s)
{
    if (!s)
        return;
    denoiser_free(s->denoiser);
    scheduler_free(s->scheduler);
    if (s->x) op->free(s->x);
    if (s->fresh) op->free(s->fresh);
    if (s->eps) op->free(s->eps);
    if (s->memory) op->free(s->memory);
    sampler_own_free(s);
    sampler_waypoints_free(s);
    free(s->noise);
    free(s->host);
    free(s->planes);
    free(s->picture);
    free(s->twin);
    free(s->traced_at);
    free(s->states);
    free(s->pooled);
    free(s->state_of);
    free(s);
}

void sampler_half(const Sampler *s, Half half, int *first, int *count)
{
    if (s->halves == 1) {
        *first = 0;
        *count = half == HALF_UNCOND ? 0 : s->n;
        return;
    }
    *first = half == HALF_COND ? s->n : 0;
    *count = half == HALF_BOTH ? 2 * s->n : s->n;
}

int sampler_check_half(const Sampler *s, Half half, const char *what, Err *e)
{
    if (s->halves == 2 || half != HALF_UNCOND)
        return 0;
    if (denoiser_takes_guidance(s->denoiser))
        return err_set(e, "%s: a UNet that is told its guidance (\"time_cond_proj_dim\") has no unconditional half: "
                       "nothing would be %s", s->options.model, what);
    return err_set(e, "guidance 1 has no unconditional half: nothing would be %s", what);
}

/* The next noise of each picture's seed times share to x (n,H,W,C). */
static void upload_noise(Sampler *s, float *x, float share)
{
    const size_t picture = sampler_latent(s);
    sampler_draw_noise(s);
    for (size_t k = 0; k < picture * (size_t)s->n && share != 1; k++)
        s->planes[k] *= share;
    sampler_put(s, x);
}

/* x before the first step. */
static void begin(Sampler *s, const CondBatch *b)
{
    s->step = 0;
    for (int i = 0; i < s->n; i++)
        noise_seed(&s->noise[i], b->item[s->picture[i]].seed);
    if (s->memory)
        op->clear(s->memory, sampler_latent(s) * s->n * s->scheduler->memory * sizeof(float));
    if (s->options.inversion)
        sampler_own_begin(s);
    else if (s->options.strength > 0) {
        sampler_draw_noise(s);                  /* what starts.c took */
        sampler_put_noised(s, b, s->x);
    } else
        upload_noise(s, s->x, s->scheduler->first);
}

/* From the evaluation of a step to x after it. */
static void advance(Sampler *s)
{
    const Scheduler *plan = s->scheduler;
    const size_t all = sampler_latent(s) * s->n;
    scheduler_step(plan, s->step, s->x, s->memory, s->halves == 2 ? s->eps : NULL, s->eps + all*(s->halves - 1),
                   (float)s->options.guidance, (int64_t)all);
    if (plan->step[s->step].noise > 0) {
        upload_noise(s, s->fresh, plan->step[s->step].noise);
        op->add(s->x, s->fresh, (int64_t)all);
    }
}

static int download(Sampler *s, const CondBatch *b, float *latents, Err *e)
{
    const int HW = s->H * s->W;
    const size_t picture = (size_t)s->C * HW;
    for (int i = 0; i < s->n; i++) {
        op->download(s->host, s->x + picture*i, picture * sizeof(float));
        if (!dtype_finite(s->host, F32, picture))
            return err_set(e, "%s: record %ld: its latent has become no number: the text state, the guidance or the "
                           "steering is too large, or values leave the range of --dtype%s", stream_name(b->in),
                           b->item[s->picture[i]].record.number,
                           op->residual == F32 ? "" : " or of the residual stream (see --residual)");
        latent_to_planes(latents + picture*s->picture[i], s->host, s->C, HW);
    }
    return 0;
}

/* The pictures of the batch whose texts have S tokens. */
static int run(Sampler *s, const CondBatch *b, int S, float *latents, StepFn before_step, void *context, Err *e)
{
    const bool inverted = s->options.inversion != INVERSION_NONE;
    s->n = 0;
    for (int i = 0; i < b->count; i++)
        if (b->item[i].S == S && s->twin[i] == i)
            s->picture[s->n++] = i;
    if (sampler_set_text(s, b, S, e))
        return -1;
    begin(s, b);
    if (s->from >= 0)
        sampler_resume(s, b);
    for (s->first = s->step; s->step < s->scheduler->steps; s->step++) {
        sampler_leave(s, b);
        if (before_step && before_step(context, s, e))
            return -1;
        if (inverted)
            sampler_own_before(s, b);
        if (denoiser_eval(s->denoiser, s->eps, s->x, s->n, s->H, s->W, s->scheduler->step[s->step].time, e))
            return -1;
        if (inverted)
            sampler_own_after(s, b);
        else
            advance(s);
    }
    if (inverted)
        sampler_own_end(s, b);
    return download(s, b, latents, e);
}

int sampler_run_from(Sampler *s, int waypoint, int leave, const CondBatch *b, float *latents, StepFn before_step,
                     void *context, Err *e)
{
    s->from = waypoint;
    s->leave = leave;
    const bool hooked = denoiser_hooks(s->denoiser)->count > 0;         /* hooks may tell pictures apart */
    for (int i = 0; i < b->count; i++) {
        s->twin[i] = hooked ? i : sampler_twin(s, b, i);
        if (s->tracing)
            s->traced_at[b->item[i].place] = b->item[s->twin[i]].place;
    }
    for (int i = 0; i < b->count; i++) {
        int same = 0;
        while (b->item[same].S != b->item[i].S)
            same++;
        if (same == i && run(s, b, b->item[i].S, latents, before_step, context, e))
            return -1;
    }
    const size_t picture = sampler_latent(s);
    for (int i = 0; i < b->count; i++)
        if (s->twin[i] != i)
            memcpy(latents + picture*i, latents + picture*s->twin[i], picture * sizeof *latents);
    return 0;
}

int sampler_run(Sampler *s, const CondBatch *b, float *latents, StepFn before_step, void *context, Err *e)
{
    return sampler_run_from(s, -1, -1, b, latents, before_step, context, e);
}

int sampler_run_plain(Sampler *s, const CondBatch *batch, float *latents, StepFn before_step, void *context, Err *e)
{
    s->tracing = s->options.inversion != INVERSION_NONE;
    const bool again = s->tracing && cond_batch_retold(batch);
    int failed = sampler_run(s, batch, latents, before_step, context, e);
    s->tracing = false;
    return failed || (again && sampler_run(s, batch, latents, before_step, context, e)) ? -1 : 0;
}
