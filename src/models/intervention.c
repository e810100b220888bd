/* SPDX-License-Identifier: MIT */
/* intervention.c -- steerings of several autoencoders inside one sampler. */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/intervention.h"

enum { KINDS = 4 };                 /* kinds of label steered at once: concept, theme, ... */

typedef struct Place {              /* one autoencoder at its module */
    Intervention *owner;
    Sae *sae;
    Ranks *ranks;
    Steering *steering[KINDS];      /* one a kind of label, in turn */
    uint64_t *shown[KINDS];         /* [batch] labels that each picture has shown so far: steering_gate */
    int steerings, active;          /* active: of this step */
    float *diff, *steered;          /* device scratch, for autoencoders of output - input */
    size_t size;
} Place;

struct Intervention {
    InterventionOptions options;
    Sampler *sampler;
    Place *place;
    int places;
    double gate;                    /* of the variant in use */
};

/* Steers the images of the halves asked for in x (B*HW, C), runs of images with the same labels at once. */
static int steer_images(Place *p, float *x, const HookCall *call, Err *e)
{
    const Sampler *s = p->owner->sampler;
    const int64_t HW = call->H * call->W, size = HW * call->C;
    int first, count, cond, pictures;
    sampler_half(s, p->owner->options.half, &first, &count);
    sampler_half(s, HALF_COND, &cond, &pictures);
    for (int k = 0; k < p->steerings; k++) {
        const uint64_t *shown = p->shown[k];
        if (p->owner->gate > 0 && steering_gate(p->steering[k], x + size * cond, pictures, HW, p->shown[k], e))
            return -1;
        for (int i = first, run; i < first + count; i += run) {
            for (run = 1; i + run < first + count && shown[(i + run) % s->n] == shown[i % s->n]; run++)
                ;
            if (steering_apply_labels(p->steering[k], shown[i % s->n], x + size * i, HW * run, e))
                return -1;
        }
    }
    return 0;
}

/* x += steered(d) - d, d = x - input: for an autoencoder of output - input. */
static int steer_difference(Place *p, const HookCall *call, Err *e)
{
    const size_t n = (size_t)(call->B * call->H * call->W) * call->C;
    if (!call->input)
        return err_set(e, "%s: the autoencoder was trained on output - input, and the module's shapes differ", call->path);
    if (n > p->size) {
        if (p->diff) op->free(p->diff);
        if (p->steered) op->free(p->steered);
        p->diff = op->alloc(n * sizeof(float), e);
        p->steered = p->diff ? op->alloc(n * sizeof(float), e) : NULL;
        p->size = p->steered ? n : 0;
        if (!p->steered)
            return -1;
    }
    op->subtract(p->diff, call->act, call->input, (int64_t)n);
    op->copy(p->steered, p->diff, n * sizeof(float));
    if (steer_images(p, p->steered, call, e))
        return -1;
    op->subtract(p->steered, p->steered, p->diff, (int64_t)n);
    op->add(call->act, p->steered, (int64_t)n);
    return 0;
}

static int on_hook(void *context, const HookCall *call, Err *e)
{
    Place *p = context;
    if (!p->active)
        return 0;
    if (call->C != p->sae->D)
        return err_set(e, "%s: the module computes %d values a token, the autoencoder takes %d", call->path, call->C, p->sae->D);
    return strcmp(p->sae->take, "diff") == 0 ? steer_difference(p, call, e) : steer_images(p, call->act, call, e);
}

static int open_place(Intervention *v, int i, Err *e)
{
    Place *p = &v->place[i];
    const InterventionOptions *o = &v->options;
    p->owner = v;
    for (int k = 0; k < KINDS; k++)
        if (!(p->shown[k] = malloc(sizeof *p->shown[k] * v->sampler->options.batch)))
            return err_set(e, "out of memory");
    if (sae_load(&p->sae, o->saes[i], e) || sae_prepare(p->sae, o->type, e))
        return -1;
    if (i < o->ranks_count && ranks_load(&p->ranks, o->ranks[i], e))
        return -1;
    const char *hook = o->hook ? o->hook : p->sae->hook;
    if (!*hook)
        return err_set(e, "%s: cfg.json does not say which module it belongs to; give --hook", o->saes[i]);
    int got = unet_hook(v->sampler->unet, hook, strcmp(p->sae->take, "diff") == 0, on_hook, p, e);
    if (got > 1)
        return err_set(e, "hook '%s' matches %d modules; an autoencoder belongs to one", hook, got);
    return got < 0 ? -1 : 0;
}

int intervention_create(Intervention **out, Sampler *s, const InterventionOptions *options, Err *e)
{
    *out = NULL;
    if (options->ranks_count && options->ranks_count != options->sae_count)
        return err_set(e, "%d ranks for %d autoencoders: give one --ranks after each --sae", options->ranks_count, options->sae_count);
    Intervention *v = calloc(1, sizeof *v);
    if (!v || !(v->place = calloc(options->sae_count, sizeof *v->place))) {
        free(v);
        return err_set(e, "out of memory");
    }
    v->options = *options;
    v->sampler = s;
    for (v->places = 0; v->places < options->sae_count; v->places++)
        if (open_place(v, v->places, e)) {
            v->places++;
            intervention_free(v);
            return -1;
        }
    *out = v;
    return 0;
}

static void drop_steerings(Place *p)
{
    for (int k = 0; k < p->steerings; k++)
        steering_free(p->steering[k]);
    p->steerings = 0;
}

void intervention_free(Intervention *v)
{
    if (!v)
        return;
    for (int i = 0; i < v->places; i++) {
        Place *p = &v->place[i];
        drop_steerings(p);
        for (int k = 0; k < KINDS; k++)
            free(p->shown[k]);
        ranks_free(p->ranks);
        sae_free(p->sae);
        if (p->diff) op->free(p->diff);
        if (p->steered) op->free(p->steered);
    }
    free(v->place);
    free(v);
}

const Ranks *intervention_ranks(const Intervention *v)
{
    return v->places ? v->place[0].ranks : NULL;
}

static int add_steering(Place *p, const Variant *variant, const char *kind, Err *e)
{
    const InterventionOptions *o = &p->owner->options;
    const char *labels[VARIANT_TARGETS];
    SteerSpec spec = {.mode = variant->mode, .multiplier = variant->multiplier, .top = variant->top, .percentile = variant->percentile,
                      .kind = kind, .labels = labels, .t_high = variant->t_high, .t_low = variant->t_low,
                      .gate = variant->gate, .compat_saeuron = o->compat_saeuron};
    for (int i = 0; kind && i < variant->targets; i++)
        if (strcmp(variant->target[i].kind, kind) == 0)
            labels[spec.label_count++] = variant->target[i].label;
    if (!p->steerings) {
        spec.feature = o->feature;
        spec.value = o->value;
        spec.feature_count = o->feature_count;
    }
    if (p->steerings == KINDS)
        return err_set(e, "labels of more than %d kinds are steered at once", KINDS);
    if (steering_create(&p->steering[p->steerings], &spec, p->sae, p->ranks, e))
        return -1;
    p->steerings++;
    return 0;
}

int intervention_select(Intervention *v, const Variant *variant, Err *e)
{
    v->gate = variant->gate;
    for (int i = 0; i < v->places; i++) {
        Place *p = &v->place[i];
        drop_steerings(p);
        for (int k = 0; k < variant->targets && !variant->none; k++) {
            int seen = 0;
            for (int j = 0; j < k; j++)
                seen |= strcmp(variant->target[j].kind, variant->target[k].kind) == 0;
            if (!seen && add_steering(p, variant, variant->target[k].kind, e))
                return -1;
        }
        if (!p->steerings && !variant->none && v->options.feature_count && add_steering(p, variant, NULL, e))
            return -1;
    }
    return 0;
}

int intervention_before_step(void *context, Sampler *s, Err *e)
{
    Intervention *v = context;
    for (int i = 0; i < v->places; i++) {
        Place *p = &v->place[i];
        p->active = 0;
        for (int k = 0; k < KINDS && s->step == 0; k++)        /* without a gate all is steered; with one, what shows */
            memset(p->shown[k], v->gate > 0 ? 0 : 0xff, sizeof *p->shown[k] * s->options.batch);
        for (int k = 0; k < p->steerings; k++) {
            int got = steering_set_step(p->steering[k], s->scheduler->step[s->step].t, e);
            if (got < 0)
                return -1;
            p->active |= got;
        }
    }
    return 0;
}

void intervention_describe(const Intervention *v, Record *header)
{
    json_t *ids = json_array();
    for (int i = 0; i < v->places; i++)
        json_array_append_new(ids, json_string(v->place[i].sae->id));
    record_set_json(header, "sae", ids);
}
