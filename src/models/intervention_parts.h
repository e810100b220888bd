/* SPDX-License-Identifier: MIT */
/* intervention_parts.h -- the inside of an intervention: intervention.c plans and draws, intervention_hook.c is what
 * happens in the network's hooks. */
#ifndef SRC_MODELS_INTERVENTION_PARTS_H
#define SRC_MODELS_INTERVENTION_PARTS_H

#include "src/models/intervention.h"

typedef struct Place {              /* one autoencoder at its module */
    SteerSite site;
    Intervention *owner;
    uint64_t *shown[STEER_KINDS];   /* [batch] labels that each picture of the run has shown so far: steering_gate */
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
    bool scouting;                  /* nothing is steered, the gates of all variants are watched */
    int *begin;                     /* [variants] waypoints of the sampler before which nothing is steered */
    int left;                       /* waypoints that runs of the batch have left */
    uint8_t *opened;                /* [variants][batch] whether a gate has opened, by scouting */
    CondBatch part;                 /* pictures that are drawn in one run, of several variants */
    int *part_of, *variant_of;      /* [batch] their places in the batch, and their variants, rising */
    float *unsteered, *drawn;       /* (batch, C,H,W) latents */
};

/* HookFn of a Place. */
int intervention_hook(void *context, const HookCall *call, Err *e);
/* StepFn of an Intervention. */
int intervention_step(void *context, Sampler *s, Err *e);

#endif
