/* SPDX-License-Identifier: MIT */
/* intervention_hook.c -- what an intervention does at each step and at each module: pictures of several variants side
 * by side in one batch, each steered by its own. */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/intervention_parts.h"
#include "src/models/mask.h"

/* p->mask of the module's tokens. */
static int need_mask(Place *p, int64_t H, int64_t W, Err *e)
{
    if (p->mask && p->mask_H == H && p->mask_W == W)
        return 0;
    free(p->mask);
    p->mask = malloc((size_t)(H * W) * sizeof *p->mask);
    if (!p->mask)
        return err_set(e, "out of memory for a mask of %lld x %lld tokens", (long long)H, (long long)W);
    p->mask_H = H;
    p->mask_W = W;
    mask_tokens(p->mask, p->owner->options.mask, H, W);
    return 0;
}

/* The variant that picture j of the run is drawn by. */
static int variant_of(const Intervention *v, int j)
{
    return v->variant_of[v->sampler->picture[j]];
}

/* Pictures from j on that have the same variant. */
static int same_variant(const Intervention *v, int j)
{
    int n = 1;
    while (j + n < v->sampler->n && variant_of(v, j + n) == variant_of(v, j))
        n++;
    return n;
}

/* Steers `count` images of x from the first on, runs of those with the same labels at once; they are pictures from j on
 * of a run of `pictures`, of one half or, where j is 0 and all are of one variant, of both. */
static int steer_labels(Steering *s, const uint64_t *shown, float *x, const HookCall *call, int j, int pictures,
                        int count, Err *e)
{
    const int64_t HW = call->H * call->W, size = HW * call->C;
    for (int i = 0, run; i < count; i += run) {
        const uint64_t labels = shown[(j + i) % pictures];
        for (run = 1; i + run < count && shown[(j + i + run) % pictures] == labels; run++)
            ;
        if (steering_apply_labels(s, labels, x + size * i, HW * run, e))
            return -1;
    }
    return 0;
}

/* Steers pictures j to j + n of the run, which have one variant, in the halves asked for of x (B*HW, C). */
static int steer_pictures(Place *p, float *x, const HookCall *call, int j, int n, Err *e)
{
    const Sampler *s = p->owner->sampler;
    const int64_t HW = call->H * call->W, size = HW * call->C;
    int first, count, cond, pictures;
    sampler_half(s, p->owner->options.half, &first, &count);
    sampler_half(s, HALF_COND, &cond, &pictures);
    const SteerPlan *plan = &p->site.plan[variant_of(p->owner, j)];
    const int at_once = n == pictures ? count : n;
    for (int k = 0; k < plan->steerings; k++) {
        Steering *steering = plan->steering[k];
        steering_mask(steering, p->mask, HW);
        if (steering_gated(steering)
            && steering_gate(steering, x + size * (cond + j), n, HW, p->shown[k] + j, e))
            return -1;
        for (int i = first + j; i < first + count; i += n == pictures ? count : pictures)
            if (steer_labels(steering, p->shown[k], x + size * i, call, j, pictures, at_once, e))
                return -1;
    }
    return 0;
}

static int steer_images(Place *p, float *x, const HookCall *call, Err *e)
{
    if (p->owner->options.mask && need_mask(p, call->H, call->W, e))
        return -1;
    for (int j = 0, n; j < p->owner->sampler->n; j += n) {
        n = same_variant(p->owner, j);
        if (steer_pictures(p, x, call, j, n, e))
            return -1;
    }
    return 0;
}

/* Codes of the conditional half, once, then the gates of every variant that may leave a picture alone. */
static int watch_gates(Place *p, const float *x, const HookCall *call, Err *e)
{
    const Intervention *v = p->owner;
    const int64_t HW = call->H * call->W;
    int cond, pictures;
    sampler_half(v->sampler, HALF_COND, &cond, &pictures);
    if (sae_codes_read(p->site.sae, &p->codes, x + HW * cond * call->C, pictures * HW, e))
        return -1;
    for (int n = 0; n < v->variants->count; n++)
        for (int k = 0; k < p->site.plan[n].steerings; k++) {
            if (steering_always(p->site.plan[n].steering[k]))
                continue;
            memset(p->shown[k], 0, sizeof *p->shown[k] * pictures);
            steering_gate_codes(p->site.plan[n].steering[k], p->codes.host_a, p->codes.host_i, pictures, HW,
                                p->shown[k]);
            for (int b = 0; b < pictures; b++)
                v->opened[n * v->sampler->options.batch + v->sampler->picture[b]] |= p->shown[k][b] != 0;
        }
    return 0;
}

static int steer_rows(void *context, float *x, const HookCall *call, Err *e)
{
    Place *p = context;
    return p->owner->scouting ? watch_gates(p, x, call, e) : steer_images(p, x, call, e);
}

int intervention_hook(void *context, const HookCall *call, Err *e)
{
    Place *p = context;
    return p->active ? steer_site_call(&p->site, call, steer_rows, p, p->owner->scouting, e) : 0;
}

/* Features of variant n at the step, where they are watched or steered. */
static int set_step(Place *p, int n, Err *e)
{
    const Sampler *s = p->owner->sampler;
    for (int k = 0; k < p->site.plan[n].steerings; k++) {
        Steering *steering = p->site.plan[n].steering[k];
        if (p->owner->scouting && steering_always(steering))
            continue;
        const int got = steering_set_step(steering, s->scheduler->step[s->step].t, e);
        if (got < 0)
            return -1;
        p->active |= got;
    }
    return 0;
}

/* What n pictures from j on have shown before the first step: with a gate nothing, without one all is steered. */
static void forget_shown(Place *p, int j, int n)
{
    const SteerPlan *plan = &p->site.plan[variant_of(p->owner, j)];
    for (int k = 0; k < plan->steerings; k++)
        memset(p->shown[k] + j, steering_gated(plan->steering[k]) ? 0 : 0xff, sizeof *p->shown[k] * n);
}

int intervention_step(void *context, Sampler *s, Err *e)
{
    Intervention *v = context;
    for (int i = 0; i < v->places; i++) {
        Place *p = &v->place[i];
        p->active = 0;
        for (int n = 0; n < v->variants->count && v->scouting; n++)
            if (set_step(p, n, e))
                return -1;
        for (int j = 0, n; j < s->n && !v->scouting; j += n) {
            n = same_variant(v, j);
            if (set_step(p, variant_of(v, j), e))
                return -1;
            if (s->step == s->first)
                forget_shown(p, j, n);
        }
    }
    return 0;
}
