/* SPDX-License-Identifier: MIT */
/* intervention.c -- steerings of several autoencoders inside one sampler: what is drawn for which variant, and from
 * where on. */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/intervention_parts.h"

static int open_place(Intervention *v, int i, Err *e)
{
    Place *p = &v->place[i];
    p->owner = v;
    for (int k = 0; k < STEER_KINDS; k++)
        if (!(p->shown[k] = malloc(sizeof *p->shown[k] * v->sampler->options.batch)))
            return err_set(e, "out of memory");
    return steer_site_open(&p->site, &v->options.steer, i, denoiser_hooks(v->sampler->denoiser), intervention_hook, p,
                           e);
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
    free(v->variant_of);
    free(v->unsteered);
    free(v->drawn);
    free(v);
}

const SteerSite *intervention_site(const Intervention *v)
{
    return &v->place[0].site;
}

/* The first step at which a variant may steer, those of the run for none. */
static int first_step(const Scheduler *s, const Variant *v)
{
    return v->none ? s->steps : scheduler_first(s, v->when);
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
    const size_t batch = s->options.batch, latents = batch * sampler_latent(s);
    v->variants = variants;
    v->opened = malloc(batch * variants->count);
    v->begin = calloc(variants->count, sizeof *v->begin);
    v->part.item = malloc(batch * sizeof *v->part.item);
    v->part_of = malloc(batch * sizeof *v->part_of);
    v->variant_of = malloc(batch * sizeof *v->variant_of);
    v->unsteered = malloc(latents * sizeof(float));
    v->drawn = malloc(latents * sizeof(float));
    if (!v->opened || !v->begin || !v->part.item || !v->part_of || !v->variant_of || !v->unsteered
        || !v->drawn)
        return err_set(e, "out of memory for %d variants", variants->count);
    for (int n = 0; n < variants->count; n++)
        if (v->options.mask && variants->item[n].mode == STEER_ONLY)
            return err_misuse(e, "--where masks a change, and --mode only leaves nothing that is changed");
    for (int i = 0; i < v->places; i++)
        if (steer_site_plan(&v->place[i].site, &v->options.steer, variants, e))
            return -1;
    return s->options.inversion == INVERSION_NONE ? plan_waypoints(v, e) : 0;
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
    return sampler_run_from(v->sampler, from - 1, begin - 1, batch, latents, intervention_step, v, e);
}

/* Of a variant's picture among `latents`. */
static float *place_of(const Intervention *v, float *latents, int variant, int picture)
{
    return latents + ((size_t)v->sampler->options.batch * variant + picture) * sampler_latent(v->sampler);
}

/* Draws what is in v->part, which is empty then. */
static int draw_part(Intervention *v, float *latents, DrawnFn tick, void *context, Err *e)
{
    const size_t size = sampler_latent(v->sampler);
    const int count = v->part.count;
    if (count == 0)
        return 0;
    if (run(v, v->begin[v->variant_of[0]], &v->part, v->drawn, e))
        return -1;
    for (int i = 0; i < count; i++)
        memcpy(place_of(v, latents, v->variant_of[i], v->part_of[i]), v->drawn + size*i, size * sizeof *latents);
    tick(context, count);
    v->part.count = 0;
    return 0;
}

/* Draws the batch by every variant: as many at once as a batch holds, of variants that begin at the same step. */
static int draw_variants(Intervention *v, const CondBatch *batch, float *latents, DrawnFn tick, void *context, Err *e)
{
    CondItem *item = v->part.item;
    v->part = *batch;
    v->part.item = item;
    v->part.count = 0;
    for (int n = 0; n < v->variants->count; n++) {
        if (v->part.count && v->begin[n] != v->begin[v->variant_of[0]] && draw_part(v, latents, tick, context, e))
            return -1;
        for (int b = 0; b < batch->count; b++) {
            if (!must_draw(v, n, b)) {
                memcpy(place_of(v, latents, n, b), place_of(v, v->unsteered, 0, b),
                       sampler_latent(v->sampler)*sizeof *latents);
                tick(context, 1);
                continue;
            }
            v->part_of[v->part.count] = b;
            v->variant_of[v->part.count] = n;
            item[v->part.count++] = batch->item[b];
            if (v->part.count == v->sampler->options.batch && draw_part(v, latents, tick, context, e))
                return -1;
        }
    }
    return draw_part(v, latents, tick, context, e);
}

int intervention_draw(Intervention *v, const CondBatch *batch, float *latents, DrawnFn tick, void *context, Err *e)
{
    Sampler *s = v->sampler;
    const bool inverted = s->options.inversion != INVERSION_NONE;
    v->left = 0;
    memset(v->opened, 0, (size_t)s->options.batch * v->variants->count);
    v->scouting = inverted;
    for (int n = 0; n < v->variants->count; n++)
        v->scouting |= !must_draw(v, n, 0);
    if (v->scouting && (inverted ? sampler_run_plain(s, batch, v->unsteered, intervention_step, v, e)
                                 : run(v, s->waypoints, batch, v->unsteered, e)))
        return -1;
    v->scouting = false;
    return draw_variants(v, batch, latents, tick, context, e);
}

void intervention_describe(const Intervention *v, Record *header)
{
    for (int i = 0; i < v->places; i++)
        steer_site_describe(&v->place[i].site, header);
}
