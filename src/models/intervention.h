/* SPDX-License-Identifier: MIT */
/* intervention.h -- several autoencoders' steerings at work inside one sampler: hooks, halves, variants.
 *
 * Each autoencoder sits at its own module. A module's output (or output - input, where the autoencoder was trained on
 * that) is steered in the halves asked for; only the change is added to the output. */
#ifndef SRC_MODELS_INTERVENTION_H
#define SRC_MODELS_INTERVENTION_H

#include "formats/image.h"
#include "src/models/sampler.h"
#include "src/models/steer_site.h"

typedef struct InterventionOptions {
    SteerInputs steer;              /* compat_saeuron: without a mask */
    const Image *mask;              /* steers where it is white (mask.h), for every autoencoder; NULL: everywhere */
    Half half;
} InterventionOptions;

typedef struct Intervention Intervention;

int intervention_create(Intervention **v, Sampler *s, const InterventionOptions *options, Err *e);
void intervention_free(Intervention *v);
const SteerSite *intervention_site(const Intervention *v);      /* the first autoencoder's */
/* Prepares every variant; variants stays the caller's, unchanged. */
int intervention_plan(Intervention *v, const Variants *variants, Err *e);
/* Draws a batch once for each variant: latents (variants, options.batch, C,H,W), of which batch->count are filled.
 *
 * Where variants have a gate, the unsteered pictures are drawn first, and with them it is seen which variant's gate
 * opens in which picture. A picture in which it never opens is the unsteered one, bit for bit, and is not drawn again;
 * so a sweep over many concepts costs about as much as the pictures that have them. Steps before the first at which a
 * variant steers are drawn once for all variants. What is left is drawn options.batch pictures at once, of one variant
 * or of several. tick is told of pictures done. */
typedef void (*DrawnFn)(void *context, int pictures);
int intervention_draw(Intervention *v, const CondBatch *batch, float *latents, DrawnFn tick, void *context, Err *e);
/* Header field "sae": ids of the autoencoders. */
void intervention_describe(const Intervention *v, Record *header);

#endif
