/* SPDX-License-Identifier: MIT */
/* intervention.h -- several autoencoders' steerings at work inside one sampler: hooks, halves, variants.
 *
 * Each autoencoder sits at its own module. A module's output (or output - input, where the autoencoder was trained on that) is
 * steered in the halves asked for; only the change is added to the output. */
#ifndef SRC_MODELS_INTERVENTION_H
#define SRC_MODELS_INTERVENTION_H

#include "src/models/sampler.h"
#include "src/models/variants.h"

typedef struct InterventionOptions {
    const char *const *saes;        /* folders */
    int sae_count;
    const char *const *ranks;       /* files, one an autoencoder in its order; none: features only */
    int ranks_count;
    const char *hook;               /* module of the one autoencoder whose folder does not say; NULL */
    const int32_t *feature;         /* given by hand, for one autoencoder */
    const float *value;
    int feature_count;
    Half half;
    bool compat_saeuron;
    DType type;
} InterventionOptions;

typedef struct Intervention Intervention;

int intervention_create(Intervention **v, Sampler *s, const InterventionOptions *options, Err *e);
void intervention_free(Intervention *v);
const Ranks *intervention_ranks(const Intervention *v);         /* of the first autoencoder, or NULL */
/* The steering of the pictures that follow. */
int intervention_select(Intervention *v, const Variant *variant, Err *e);
/* StepFn for sampler_run, context the Intervention. */
int intervention_before_step(void *context, Sampler *s, Err *e);
/* Header field "sae": ids of the autoencoders. */
void intervention_describe(const Intervention *v, Record *header);

#endif
