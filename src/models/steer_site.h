/* SPDX-License-Identifier: MIT */
/* steer_site.h -- an autoencoder at its module, with its ranks and what each variant changes there: what steering a
 * UNet and steering a text encoder have in common. */
#ifndef SRC_MODELS_STEER_SITE_H
#define SRC_MODELS_STEER_SITE_H

#include "src/models/hooks.h"
#include "src/models/steer.h"
#include "src/models/variants.h"

enum { STEER_KINDS = 4 };           /* kinds of label steered at once: concept, theme, ... */

typedef struct SteerInputs {
    const char *const *saes;        /* folders */
    int sae_count;
    const char *const *ranks;       /* files, one an autoencoder in its order; none: features only */
    int ranks_count;
    const char *hook;               /* module of the one autoencoder whose folder does not say; NULL */
    const int32_t *feature;         /* given by hand, for one autoencoder */
    const float *value;
    int feature_count;
    bool compat_saeuron;
    DType type;                     /* of the products */
} SteerInputs;

typedef struct SteerPlan {          /* a variant at one module */
    Steering *steering[STEER_KINDS];            /* one a kind of label, in turn */
    int steerings;
} SteerPlan;

typedef struct SteerSite {
    Sae *sae;
    Ranks *ranks;                   /* NULL: none */
    const char *module;             /* its path, the hooks' */
    SteerPlan *plan;                /* [variants] */
    int variants;
    void *diff, *steered;           /* device scratch, for autoencoders of output - input */
    size_t diff_bytes, steered_bytes;
} SteerSite;

/* That there are ranks for each autoencoder, or for none, and that none comes twice. */
int steer_inputs_check(const SteerInputs *in, Err *e);
/* Loads autoencoder i and its ranks, and hooks fn to its module. Closed by the caller after failure too. */
int steer_site_open(SteerSite *s, const SteerInputs *in, int i, Hooks *h, HookFn fn, void *context, Err *e);
int steer_site_plan(SteerSite *s, const SteerInputs *in, const Variants *variants, Err *e);
void steer_site_close(SteerSite *s);

/* Steers rows x (B*H*W, C) of a call, device memory, in place. */
typedef int SteerRowsFn(void *context, float *x, const HookCall *call, Err *e);
/* Has fn steer what the autoencoder was trained on: the module's output, or output - input, whose change is then added
 * to the output. look: fn changes nothing. For the hook. */
int steer_site_call(SteerSite *s, const HookCall *call, SteerRowsFn *fn, void *context, bool look, Err *e);
/* Adds the autoencoder's id to the header field "sae". */
void steer_site_describe(const SteerSite *s, Record *header);

#endif
