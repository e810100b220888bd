/* SPDX-License-Identifier: MIT */
/* variants.h -- the steerings one run of sd-steer draws: one, or the product of its sweeps.
 *
 *   --sweep multiplier=-1,-5 --sweep concept=all
 *     ->  "multiplier=-1/concept=Bears", "multiplier=-1/concept=Birds", ..., "multiplier=-5/concept=Bears", ... */
#ifndef SRC_MODELS_VARIANTS_H
#define SRC_MODELS_VARIANTS_H

#include "src/models/steer.h"

enum { VARIANT_TARGETS = STEER_LABELS, VARIANT_FEATURES = 8 };

typedef struct VariantTarget { char kind[32], label[96]; } VariantTarget;

typedef struct Variant {
    char name[512];                 /* "" without sweeps; a prefix of the ids otherwise */
    SteerMode mode;
    double multiplier, percentile, gate;
    int top;
    TRange when;
    int none;                       /* 1: nothing is steered (the unsteered picture) */
    VariantTarget target[VARIANT_TARGETS];      /* by kind, in the order in which kinds are steered */
    int targets;
    int32_t feature[VARIANT_FEATURES];          /* by sweeps of features, beside those that all variants have */
    float value[VARIANT_FEATURES];
    int features;
    int by_hand;                    /* how many features all variants have, the unsteered apart */
} Variant;

typedef struct Variants { Variant *item; int count; } Variants;

/* The product of sweeps over base, at most 10,000. A sweep is "NAME=V,V,..."; NAME is multiplier, top, percentile,
 * gate, mode, when, feature (V: I=VALUE), or a kind of label such as concept or theme, where `all`, alone, stands for
 * every label in ranks, be it one that is called none, and `none` for nothing of the sweep: what has no label at all,
 * and no feature, is not steered. A backslash before a comma makes it part of the value. Labels are checked against
 * ranks (NULL: unchecked). Two sweeps that set the same, as top and percentile do too, are misuse. */
int variants_build(Variants *v, const Variant *base, const char *const *sweeps, int sweep_count, const Ranks *ranks,
                   Err *e);
/* Puts the unsteered variant, named "unsteered", before all others. */
int variants_add_none(Variants *v, Err *e);
void variants_free(Variants *v);
/* The label in ranks that a sweep's value `none` looks like and does not stand for; NULL: there is none. */
const char *variants_none_label(const char *sweep, const Ranks *ranks);
/* Reads I=VALUE, a feature given by hand. Returns 0, or -1 where text is none. */
int variant_feature(int32_t *feature, float *value, const char *text);
/* Adds a label to a variant that has not got it, behind those of its kind, spelt as the ranks have it whatever its case
 * here; NULL ranks: unchecked. */
int variant_target(Variant *v, const char *kind, const char *label, const Ranks *ranks, Err *e);
/* Whether it has labels or features. */
bool variant_steers(const Variant *v);
/* Fields "steered", "steered_kind" and "steering" (steered.h) of a record that this variant drew, in
 * place of what an earlier steering left there; no "steering" where nothing was steered. */
void variant_describe(const Variant *v, Record *rec);

#endif
