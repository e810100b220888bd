/* SPDX-License-Identifier: MIT */
/* text_steering.c -- steerings of autoencoders at the modules of text encoders. */
#include <stdlib.h>
#include "src/models/text_steering.h"

typedef struct Place {              /* one autoencoder at its module */
    TextSteering *owner;
    SteerSite site;
} Place;

struct TextSteering {
    SteerInputs inputs;
    const PromptEncoder *encoder;
    PromptStates *states;
    Half half;
    Place *place;
    int places;
    int now;                        /* the variant at work, -1: none */
    TextKind kind;                  /* what is encoded */
};

/* Steers each text's rows but the start token's in x (B*S, E), by the labels that it shows where a gate asks. */
static int steer_texts(void *context, float *x, const HookCall *call, Err *e)
{
    const Place *p = context;
    const SteerPlan *plan = &p->site.plan[p->owner->now];
    const int64_t S = call->W, E = call->C, start = prompt_encoder_tokens(p->owner->encoder, call->path).start;
    for (int64_t b = 0; b < call->B; b++) {
        float *text = x + (b*S + start)*E;
        for (int k = 0; k < plan->steerings; k++) {
            Steering *steering = plan->steering[k];
            uint64_t shown = steering_gated(steering) ? 0 : UINT64_MAX;
            if (steering_gated(steering) && steering_gate(steering, text, 1, S - start, &shown, e))
                return -1;
            if (steering_apply_labels(steering, shown, text, S - start, e))
                return -1;
        }
    }
    return 0;
}

static bool steers(const TextSteering *s, TextKind kind)
{
    return (kind == TEXT_PROMPT && s->half != HALF_UNCOND) || (kind == TEXT_NEGATIVE && s->half != HALF_COND);
}

static int on_hook(void *context, const HookCall *call, Err *e)
{
    Place *p = context;
    const TextSteering *s = p->owner;
    if (s->now < 0 || !steers(s, s->kind))
        return 0;
    return steer_site_call(&p->site, call, steer_texts, p, false, e);
}

static void begin_kind(void *context, TextKind kind)
{
    TextSteering *s = context;
    s->kind = kind;
}

int text_steering_create(TextSteering **out, PromptEncoder *encoder, PromptStates *states, const SteerInputs *inputs,
                         Half half, Err *e)
{
    TextSteering *s = *out = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, "out of memory");
    *s = (TextSteering){.inputs = *inputs, .encoder = encoder, .states = states, .half = half, .now = -1};
    int failed = steer_inputs_check(inputs, e);
    if (!failed && !(s->place = calloc((size_t)inputs->sae_count, sizeof *s->place)))
        failed = err_set(e, "out of memory");
    while (s->places < inputs->sae_count && !failed) {
        Place *p = &s->place[s->places];
        p->owner = s;
        failed = steer_site_open(&p->site, inputs, s->places++, prompt_encoder_hooks(encoder), on_hook, p, e);
    }
    if (failed) {
        text_steering_free(s);
        *out = NULL;
        return -1;
    }
    prompt_states_watch(states, &(ChunkWatch){.begin = begin_kind, .context = s});
    return 0;
}

void text_steering_free(TextSteering *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->places; i++)
        steer_site_close(&s->place[i].site);
    free(s->place);
    free(s);
}

const SteerSite *text_steering_site(const TextSteering *s)
{
    return &s->place[0].site;
}

int text_steering_plan(TextSteering *s, const Variants *variants, Err *e)
{
    for (int n = 0; n < variants->count; n++)
        if (variants->item[n].when.low > 0)
            return err_misuse(e, "when: texts are encoded once, for all timesteps");
    for (int i = 0; i < s->places; i++)
        if (steer_site_plan(&s->place[i].site, &s->inputs, variants, e))
            return -1;
    return 0;
}

int text_steering_select(TextSteering *s, int variant, Err *e)
{
    s->now = variant;
    for (int kind = 0; kind < TEXT_KINDS; kind++)
        if (steers(s, (TextKind)kind))
            prompt_states_forget(s->states, (TextKind)kind);
    for (int i = 0; i < s->places; i++) {
        const SteerPlan *plan = &s->place[i].site.plan[variant];
        for (int k = 0; k < plan->steerings; k++)
            if (steering_set_step(plan->steering[k], 0, e) < 0)
                return -1;
    }
    return 0;
}

void text_steering_describe(const TextSteering *s, Record *header)
{
    for (int i = 0; i < s->places; i++)
        steer_site_describe(&s->place[i].site, header);
}
