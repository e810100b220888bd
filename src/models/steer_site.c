/* SPDX-License-Identifier: MIT */
/* steer_site.c -- an autoencoder at its module, its ranks, and the steerings of every variant there. */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/sae_hook.h"
#include "src/models/steer_site.h"
#include "src/models/workspace.h"

int steer_inputs_check(const SteerInputs *in, Err *e)
{
    if (in->ranks_count && in->ranks_count != in->sae_count)
        return err_misuse(e, "%d ranks for %d autoencoders: give one --ranks after each --sae", in->ranks_count,
                       in->sae_count);
    for (int i = 0; i < in->sae_count; i++)
        for (int k = 0; k < i; k++)
            if (strcmp(in->saes[i], in->saes[k]) == 0)
                return err_misuse(e, "--sae %s is given twice, and would steer twice", in->saes[i]);
    return 0;
}

int steer_site_open(SteerSite *s, const SteerInputs *in, int i, Hooks *h, HookFn fn, void *context, Err *e)
{
    if (sae_hook(&s->sae, in->saes[i], in->hook, in->type, h, fn, context, e))
        return -1;
    s->module = hooks_path(h, h->count - 1);
    return i < in->ranks_count ? ranks_load(&s->ranks, in->ranks[i], e) : 0;
}

void steer_site_close(SteerSite *s)
{
    for (int n = 0; s->plan && n < s->variants; n++)
        for (int k = 0; k < s->plan[n].steerings; k++)
            steering_free(s->plan[n].steering[k]);
    free(s->plan);
    if (s->diff)
        op->free(s->diff);
    if (s->steered)
        op->free(s->steered);
    ranks_free(s->ranks);
    sae_free(s->sae);
    *s = (SteerSite){0};
}

static int add_steering(SteerSite *s, SteerPlan *plan, const SteerInputs *in, const Variant *variant, const char *kind,
                        Err *e)
{
    const char *labels[VARIANT_TARGETS];
    SteerSpec spec = {.mode = variant->mode, .multiplier = variant->multiplier, .top = variant->top,
                      .percentile = variant->percentile,
                      .kind = kind, .labels = labels, .when = variant->when,
                      .gate = variant->gate, .compat_saeuron = in->compat_saeuron};
    for (int i = 0; kind && i < variant->targets; i++)
        if (strcmp(variant->target[i].kind, kind) == 0)
            labels[spec.label_count++] = variant->target[i].label;
    if (plan->steerings == STEER_KINDS)
        return err_set(e, "labels of more than %d kinds are steered at once", STEER_KINDS);
    if (plan->steerings && variant->mode == STEER_ONLY)
        return err_misuse(e, "--mode only leaves one kind of label: %s or %s", variant->target[0].kind, kind);
    const int features = plan->steerings ? 0 : in->feature_count + variant->features;
    int32_t *feature = malloc(sizeof *feature * (features + 1));
    float *value = malloc(sizeof *value * (features + 1));
    int failed = !feature || !value ? err_set(e, "out of memory") : 0;
    for (; spec.feature_count < features && !failed; spec.feature_count++) {
        const int i = spec.feature_count, swept = i - in->feature_count;
        feature[i] = swept < 0 ? in->feature[i] : variant->feature[swept];
        value[i] = swept < 0 ? in->value[i] : variant->value[swept];
        for (int k = 0; k < i && !failed; k++)
            if (feature[k] == feature[i])
                failed = err_misuse(e, "feature %d comes by --feature and by --sweep", feature[i]);
    }
    spec.feature = feature;
    spec.value = value;
    failed = failed || steering_create(&plan->steering[plan->steerings], &spec, s->sae, s->ranks, e);
    plan->steerings += !failed;
    free(feature);
    free(value);
    return failed ? -1 : 0;
}

static int plan_variant(SteerSite *s, SteerPlan *plan, const SteerInputs *in, const Variant *variant, Err *e)
{
    if (variant->none)
        return 0;
    for (int k = 0; k < variant->targets; k++) {
        int seen = 0;
        for (int j = 0; j < k; j++)
            seen |= strcmp(variant->target[j].kind, variant->target[k].kind) == 0;
        if (!seen && add_steering(s, plan, in, variant, variant->target[k].kind, e))
            return -1;
    }
    return !plan->steerings && in->feature_count + variant->features ? add_steering(s, plan, in, variant, NULL, e) : 0;
}

int steer_site_plan(SteerSite *s, const SteerInputs *in, const Variants *variants, Err *e)
{
    if (!(s->plan = calloc(variants->count, sizeof *s->plan)))
        return err_set(e, "out of memory for %d variants", variants->count);
    s->variants = variants->count;
    for (int n = 0; n < variants->count; n++)
        if (plan_variant(s, &s->plan[n], in, &variants->item[n], e))
            return -1;
    return 0;
}

/* act += steered(d) - d, d = act - input */
static int steer_difference(SteerSite *s, const HookCall *call, SteerRowsFn *fn, void *context, bool look, Err *e)
{
    const size_t n = (size_t)(call->B * call->H * call->W) * call->C;
    if (device_grow(&s->diff, &s->diff_bytes, n * sizeof(float), e)
        || device_grow(&s->steered, &s->steered_bytes, n * sizeof(float), e))
        return -1;
    op->subtract(s->diff, call->act, call->input, (int64_t)n);
    op->copy(s->steered, s->diff, n * sizeof(float));
    if (fn(context, s->steered, call, e))
        return -1;
    if (look)
        return 0;
    op->subtract(s->steered, s->steered, s->diff, (int64_t)n);
    op->add(call->act, s->steered, (int64_t)n);
    return 0;
}

int steer_site_call(SteerSite *s, const HookCall *call, SteerRowsFn *fn, void *context, bool look, Err *e)
{
    if (sae_hook_check(s->sae, call, e))
        return -1;
    return sae_of_difference(s->sae) ? steer_difference(s, call, fn, context, look, e)
                                     : fn(context, call->act, call, e);
}

void steer_site_describe(const SteerSite *s, Record *header)
{
    json_t *ids = json_object_get(header->fields, "sae");
    if (!ids)
        record_set_json(header, "sae", ids = json_array());
    json_array_append_new(ids, json_string(s->sae->id));
}
