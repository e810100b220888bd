/* SPDX-License-Identifier: MIT */
/* steering.h -- what sd-steer and sd-steer-text have in common: the options that say what is steered, and what comes
 * of them. */
#ifndef SRC_CLI_STEERING_H
#define SRC_CLI_STEERING_H

#include "src/cli/cli.h"
#include "src/models/steer_site.h"

typedef struct SteeringConfig {
    List saes, ranks, concepts, themes, labels, features, sweeps;
    const char *hook, *mode, *half;
    int64_t top;
    double percentile, multiplier, gate;
    int unsteered;
} SteeringConfig;

/* Options of a Config of type T whose member m is a SteeringConfig. */
#define STEERING_LABEL_OPTIONS(T, m) \
    {0, "sae", OPT_LIST, offsetof(T, m.saes), NULL, \
     "DIR  autoencoder, as sae-fit wrote it; again for another module", OPT_REQUIRED}, \
    {0, "ranks", OPT_LIST, offsetof(T, m.ranks), NULL, \
     "FILE  its ranks, as sae-rank-concepts wrote them; one after each --sae", 0}, \
    {0, "concept", OPT_LIST, offsetof(T, m.concepts), NULL, "NAME  concept to steer; again for more", 0}, \
    {0, "theme", OPT_LIST, offsetof(T, m.themes), NULL, "NAME  theme (style) to steer; again for more", 0}, \
    {0, "label", OPT_LIST, offsetof(T, m.labels), NULL, "KIND=NAME  label of another kind to steer", 0}, \
    {0, "top", OPT_INT, offsetof(T, m.top), "0", \
     "N  features taken a label and timestep, by score; 0: by --percentile", 0}, \
    {0, "percentile", OPT_NUMBER, offsetof(T, m.percentile), "99.5", \
     "P  features whose score lies above this percentile", 0}, \
    {0, "multiplier", OPT_NUMBER, offsetof(T, m.multiplier), "-1", \
     "M  strength, as --mode reads it; negative removes", 0}, \
    {0, "mode", OPT_STR, offsetof(T, m.mode), "multiply", \
     "multiply|replace|scale|ablate|clamp|others|unlabelled|set|add|only  what becomes of a chosen feature", 0}
#define STEERING_GATE_OPTION(T, m, things) \
    {0, "gate", OPT_NUMBER, offsetof(T, m.gate), "0", \
     "G  steer only " things " in which the label shows: its features' sum lies G of the way from other labels' mean " \
     "to its own; 0: all. What --feature says is steered in all", 0}
#define STEERING_FEATURE_OPTION(T, m) \
    {0, "feature", OPT_LIST, offsetof(T, m.features), NULL, "I=VALUE  steer feature I by hand, without ranks", 0}
#define STEERING_HOOK_OPTION(T, m) \
    {0, "hook", OPT_STR, offsetof(T, m.hook), NULL, \
     "NAME  module of the autoencoder (default: the one its folder names)", 0}
#define STEERING_HALF_OPTION(T, m, usual) \
    {0, "half", OPT_STR, offsetof(T, m.half), usual, \
     "cond|uncond|both  halves of classifier-free guidance to steer", 0}
#define STEERING_SWEEP_OPTIONS(T, m, do, numbers, what) \
    {0, "sweep", OPT_LIST, offsetof(T, m.sweeps), NULL, \
     "NAME=V,V  " do " once with each value of " numbers ", feature (V: I=VALUE), concept, theme or another kind of " \
     "label (all: every one; none: nothing of this sweep; a comma in a name is \\,), together with what " \
     "--concept, --theme, --label and --feature name; again for the product", 0}, \
    {0, "unsteered", OPT_FLAG, offsetof(T, m.unsteered), NULL, "with --sweep: " do " the unsteered " what \
     " too, first", 0}

typedef struct SteeringInputs {     /* of the options; points into them */
    SteerInputs steer;
    int32_t *feature;
    float *value;
} SteeringInputs;

/* Misuse: options that do not go together, values that are none. */
void steering_check(const Cli *cli, const SteeringConfig *cfg);
int steering_inputs(SteeringInputs *in, const Cli *cli, const SteeringConfig *cfg, DType type, Err *e);
void steering_inputs_clear(SteeringInputs *in);
/* The steerings of a run: one, or the product of the sweeps, the unsteered first where it is wanted. when: the
 * timesteps, as t_range_parse has them. */
int steering_variants(Variants *v, const Cli *cli, const SteeringConfig *cfg, const char *when, const Ranks *ranks,
                      Err *e);
/* Notes of what --hook goes before; site: the one autoencoder's. */
void steering_note_hook(const Cli *cli, const SteeringConfig *cfg, const SteerSite *site);
/* What a record of variant v says of it: its id behind the variant's name, the fields of variant_describe, features
 * that were given by hand; of an earlier steering, of its text, "text_steering". */
void steering_describe(const SteeringInputs *in, const Variant *v, Record *rec);

#endif
