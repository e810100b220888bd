/* SPDX-License-Identifier: MIT */
/* intervention.c -- steerings of several autoencoders inside one sampler. */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/intervention.h"
#include "src/models/mask.h"

typedef struct Place {              /* one autoencoder at its module */
    SteerSite site;
    Intervention *owner;
    uint64_t *shown[STEER_KINDS];   /* [batch] labels that each picture has shown so far: steering_gate */
    int active;                     /* whether something is steered at this step */
    SaeCodes codes;                 /* of a batch, for scouting */
    float *mask;                    /* (mask_H, mask_W) of each token of the module */
    int64_t mask_H, mask_W;
} Place;

struct Intervention {
    InterventionOptions options;
    Sampler *sampler;
    Place *place;
    int places;
    const Variants *variants;
    int now;                        /* the variant at work; SCOUT: none, the gates of all are watched */
    int *begin;                     /* [variants] waypoints of the sampler before which nothing is steered */
    int left;                       /* waypoints that runs of the batch have left */
    uint8_t *opened;                /* [variants][batch] whether a gate has opened, by scouting */
    CondBatch part;                 /* pictures of a batch that a variant has to draw */
    int *part_of;                   /* [batch] their places in the batch */
    float *unsteered, *drawn;       /* (batch, C,H,W) latents */
};

enum { SCOUT = -1 };

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

/* Steers the images of the halves asked for in x (B*HW, C), runs of images with the same labels at once. */
static int steer_images(Place *p, float *x, const HookCall *call, Err *e)
{
    const Sampler *s = p->owner->sampler;
    const int64_t HW = call->H * call->W, size = HW * call->C;
    int first, count, cond, pictures;
    sampler_half(s, p->owner->options.half, &first, &count);
    sampler_half(s, HALF_COND, &cond, &pictures);
    const SteerPlan *plan = &p->site.plan[p->owner->now];
    if (p->owner->options.mask && need_mask(p, call->H, call->W, e))
        return -1;
    for (int k = 0; k < plan->steerings; k++) {
        const uint64_t *shown = p->shown[k];
        steering_mask(plan->steering[k], p->mask, HW);
        if (steering_gated(plan->steering[k])
            && steering_gate(plan->steering[k], x + size * cond, pictures, HW, p->shown[k], e))
            return -1;
        for (int i = first, run; i < first + count; i += run) {
            for (run = 1; i + run < first + count && shown[(i + run) % s->n] == shown[i % s->n]; run++)
                ;
            if (steering_apply_labels(plan->steering[k], shown[i % s->n], x + size * i, HW * run, e))
                return -1;
        }
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
    return p->owner->now == SCOUT ? watch_gates(p, x, call, e) : steer_images(p, x, call, e);
}

static int on_hook(void *context, const HookCall *call, Err *e)
{
    Place *p = context;
    return p->active ? steer_site_call(&p->site, call, steer_rows, p, p->owner->now == SCOUT, e) : 0;
}

static int open_place(Intervention *v, int i, Err *e)
{
    Place *p = &v->place[i];
    p->owner = v;
    for (int k = 0; k < STEER_KINDS; k++)
        if (!(p->shown[k] = malloc(sizeof *p->shown[k] * v->sampler->options.batch)))
            return err_set(e, "out of memory");
    return steer_site_open(&p->site, &v->options.steer, i, denoiser_hooks(v->sampler->denoiser), on_hook, p, e);
}

int intervention_create(Intervention **out, Sampler *s, const InterventionOptions *options, Err *e)
{
    *out = NULL;
    if (steer_inputs_check(&options->steer, e) || sampler_check_half(s, options->half, "steered", e))
        return -1;
    Intervention *v = calloc(1, sizeof *v);
    if (!v || !(v->place = calloc(options->steer.sae_count, sizeof *v->place))) {
        free(v);
        return err_set(e, "out of memory");
    }
    v->options = *options;
    v->sampler = s;
    if (options->mask && sampler_mask(s, options->mask, e)) {
        intervention_free(v);
        return -1;
    }
    for (v->places = 0; v->places < options->steer.sae_count; v->places++)
        if (open_place(v, v->places, e)) {
            v->places++;
            intervention_free(v);
            return -1;
        }
    *out = v;
    return 0;
}

static void close_place(Place *p)
{
    steer_site_close(&p->site);
    for (int k = 0; k < STEER_KINDS; k++)
        free(p->shown[k]);
    sae_codes_free(&p->codes);
    free(p->mask);
}

void intervention_free(Intervention *v)
{
    if (!v)
        return;
    for (int i = 0; i < v->places; i++)
        close_place(&v->place[i]);
    free(v->place);
    free(v->begin);
    free(v->opened);
    free(v->part.item);
    free(v->part_of);
    free(v->unsteered);
    free(v->drawn);
    free(v);
}

const Ranks *intervention_ranks(const Intervention *v)
{
    return v->places ? v->place[0].site.ranks : NULL;
}

/* The first step at which a variant may steer, those of the run for none. */
static int first_step(const Scheduler *s, const Variant *v)
{
    int i = v->none ? s->steps : 0;
    while (i < s->steps && (s->step[i].t > v->t_high || s->step[i].t < v->t_low))
        i++;
    return i;
}

/* The first steps of all variants, but for 0 and the end, are the sampler's waypoints. */
static int plan_waypoints(Intervention *v, Err *e)
{
    Sampler *s = v->sampler;
    const Variants *variants = v->variants;
    const int steps = s->scheduler->steps;
    int *waypoint = malloc(sizeof *waypoint * steps), *before = calloc(steps + 1, sizeof *before), count = 0;
    int failed = !waypoint || !before ? err_set(e, "out of memory") : 0;
    for (int n = 0; n < variants->count && !failed; n++)
        before[first_step(s->scheduler, &variants->item[n])] = 1;
    for (int i = 0; i <= steps && !failed; i++) {       /* before: now how many there are up to each step */
        if (before[i] && i > 0 && i < steps)
            waypoint[count++] = i;
        before[i] = count;
    }
    for (int n = 0; n < variants->count && !failed; n++)
        v->begin[n] = before[first_step(s->scheduler, &variants->item[n])];
    failed = failed || sampler_waypoints(s, waypoint, count, e);
    free(waypoint);
    free(before);
    return failed;
}

int intervention_plan(Intervention *v, const Variants *variants, Err *e)
{
    const Sampler *s = v->sampler;
    const size_t batch = s->options.batch, latents = batch * s->C * s->H * s->W;
    v->variants = variants;
    v->opened = malloc(batch * variants->count);
    v->begin = calloc(variants->count, sizeof *v->begin);
    v->part.item = malloc(batch * sizeof *v->part.item);
    v->part_of = malloc(batch * sizeof *v->part_of);
    v->unsteered = malloc(latents * sizeof(float));
    v->drawn = malloc(latents * sizeof(float));
    if (!v->opened || !v->begin || !v->part.item || !v->part_of || !v->unsteered || !v->drawn)
        return err_set(e, "out of memory for %d variants", variants->count);
    for (int i = 0; i < v->places; i++)
        if (steer_site_plan(&v->place[i].site, &v->options.steer, variants, e))
            return -1;
    return s->options.inversion == INVERSION_NONE ? plan_waypoints(v, e) : 0;
}

/* StepFn: the step's features of the variant at work, or when scouting of all whose gates are watched. */
static int before_step(void *context, Sampler *s, Err *e)
{
    Intervention *v = context;
    const int first = v->now == SCOUT ? 0 : v->now, last = v->now == SCOUT ? v->variants->count - 1 : v->now;
    for (int i = 0; i < v->places; i++) {
        Place *p = &v->place[i];
        p->active = 0;
        for (int n = first; n <= last; n++)
            for (int k = 0; k < p->site.plan[n].steerings; k++) {
                Steering *steering = p->site.plan[n].steering[k];
                if (v->now == SCOUT && steering_always(steering))
                    continue;
                const int got = steering_set_step(steering, s->scheduler->step[s->step].t, e);
                if (got < 0)
                    return -1;
                p->active |= got;
                if (s->step == s->first && v->now != SCOUT)           /* without a gate all is steered; with one, what shows */
                    memset(p->shown[k], steering_gated(steering) ? 0 : 0xff, sizeof *p->shown[k] * s->options.batch);
            }
    }
    return 0;
}

/* Whether a picture of the batch can differ from the unsteered one under a variant. */
static bool must_draw(const Intervention *v, int n, int b)
{
    for (int i = 0; i < v->places; i++)
        for (int k = 0; k < v->place[i].site.plan[n].steerings; k++)
            if (steering_always(v->place[i].site.plan[n].steering[k]))
                return true;
    return v->opened[n * v->sampler->options.batch + b];
}

/* Draws what steers nothing before the last of the first `begin` waypoints. */
static int run(Intervention *v, int begin, const CondBatch *batch, float *latents, Err *e)
{
    const int from = begin < v->left ? begin : v->left;
    v->left = begin > v->left ? begin : v->left;
    return sampler_run_from(v->sampler, from - 1, begin - 1, batch, latents, before_step, v, e);
}

static int draw_variant(Intervention *v, int n, const CondBatch *batch, float *latents, Err *e)
{
    const Sampler *s = v->sampler;
    const size_t picture = (size_t)s->C * s->H * s->W, bytes = picture * sizeof(float);
    CondItem *item = v->part.item;
    v->part = *batch;
    v->part.item = item;
    v->part.count = 0;
    for (int b = 0; b < batch->count; b++) {
        if (must_draw(v, n, b)) {
            v->part_of[v->part.count] = b;
            item[v->part.count++] = batch->item[b];
        } else
            memcpy(latents + picture*b, v->unsteered + picture*b, bytes);
    }
    if (v->part.count == 0)
        return 0;
    v->now = n;
    if (run(v, v->begin[n], &v->part, v->drawn, e))
        return -1;
    for (int i = 0; i < v->part.count; i++)
        memcpy(latents + picture*v->part_of[i], v->drawn + picture*i, bytes);
    return 0;
}

int intervention_draw(Intervention *v, const CondBatch *batch, float *latents, DrawnFn tick, void *context, Err *e)
{
    const Sampler *s = v->sampler;
    const size_t all = (size_t)s->options.batch * s->C * s->H * s->W;
    const int variants = v->variants->count;
    const bool inverted = s->options.inversion != INVERSION_NONE;
    bool scout = inverted;
    v->left = 0;
    memset(v->opened, 0, (size_t)s->options.batch * variants);
    for (int n = 0; n < variants; n++)
        scout |= !must_draw(v, n, 0);
    v->now = SCOUT;
    if (scout && (inverted ? sampler_run_plain(v->sampler, batch, v->unsteered, before_step, v, e)
                           : run(v, s->waypoints, batch, v->unsteered, e)))
        return -1;
    for (int n = 0; n < variants; n++) {
        if (draw_variant(v, n, batch, latents + all*n, e))
            return -1;
        tick(context, batch->count);
    }
    return 0;
}

void intervention_describe(const Intervention *v, Record *header)
{
    for (int i = 0; i < v->places; i++)
        steer_site_describe(&v->place[i].site, header);
}
