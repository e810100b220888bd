/* SPDX-License-Identifier: MIT */
/* steering.c -- the options that say what is steered: autoencoders, labels, features by hand, sweeps. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/cli/hook_note.h"
#include "src/cli/steering.h"
#include "src/models/sampler.h"

void steering_check(const Cli *cli, const SteeringConfig *cfg)
{
    if (!cfg->concepts.count && !cfg->themes.count && !cfg->labels.count && !cfg->features.count && !cfg->sweeps.count)
        cli_misuse(cli, "says nothing to steer: give --concept, --theme, --label, --feature or --sweep");
    if (!cfg->ranks.count && (cfg->concepts.count || cfg->themes.count || cfg->labels.count))
        cli_misuse(cli, "a concept or theme is steered by its ranks: give --ranks FILE");
    if (cfg->top < 0 || cfg->top > INT32_MAX)
        cli_misuse(cli, "--top must be 0 or more");
    if (cfg->features.count && cfg->saes.count > 1)
        cli_misuse(cli, "--feature steers one autoencoder, not %d", cfg->saes.count);
    if (cfg->hook && cfg->saes.count > 1)
        cli_misuse(cli, "--hook names the module of one autoencoder, not of %d: sae-convert --hook writes it into a "
                   "folder", cfg->saes.count);
}

/* --feature I=VALUE into feature[] and value[] */
static int parse_features(SteeringInputs *in, const Cli *cli, const List *list, Err *e)
{
    in->feature = calloc(list->count + 1, sizeof *in->feature);
    in->value = calloc(list->count + 1, sizeof *in->value);
    if (!in->feature || !in->value)
        return err_set(e, "out of memory");
    for (int i = 0; i < list->count; i++) {
        if (variant_feature(&in->feature[i], &in->value[i], list->items[i]))
            cli_misuse(cli, "--feature '%s' is not I=VALUE", list->items[i]);
        for (int k = 0; k < i; k++)
            if (in->feature[k] == in->feature[i])
                cli_misuse(cli, "--feature %d is given twice", in->feature[i]);
    }
    return 0;
}

int steering_inputs(SteeringInputs *in, const Cli *cli, const SteeringConfig *cfg, DType type, Err *e)
{
    if (parse_features(in, cli, &cfg->features, e))
        return -1;
    in->steer = (SteerInputs){.saes = cfg->saes.items, .sae_count = cfg->saes.count, .ranks = cfg->ranks.items,
                              .ranks_count = cfg->ranks.count, .hook = cfg->hook, .feature = in->feature,
                              .value = in->value, .feature_count = cfg->features.count, .type = type};
    return 0;
}

void steering_inputs_clear(SteeringInputs *in)
{
    free(in->feature);
    free(in->value);
    *in = (SteeringInputs){0};
}

static int split_label(const char *text, char kind[32], const char **name)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || equals - text > 31 || !equals[1])
        return -1;
    memcpy(kind, text, equals - text);
    kind[equals - text] = 0;
    *name = equals + 1;
    return 0;
}

/* Of each sweep's `none` that looks like a label. */
static void note_none(const Cli *cli, const SteeringConfig *cfg, const Ranks *ranks)
{
    for (int i = 0; i < cfg->sweeps.count; i++) {
        const char *sweep = cfg->sweeps.items[i], *label = variants_none_label(sweep, ranks);
        const int kind = (int)strcspn(sweep, "=");
        if (label)
            cli_note(cli, "--sweep %.*s=none steers nothing of that sweep; the %.*s '%s' of the ranks is written None",
                     kind, sweep, kind, sweep, label);
    }
}

int steering_variants(Variants *v, const Cli *cli, const SteeringConfig *cfg, const char *when, const Ranks *ranks,
                      Err *e)
{
    Variant base = {.multiplier = cfg->multiplier, .percentile = cfg->percentile, .gate = cfg->gate,
                    .top = (int)cfg->top, .by_hand = cfg->features.count};
    int failed = steer_mode(&base.mode, cfg->mode, e) || t_range_parse(&base.when, "--when", when, e);
    for (int i = 0; i < cfg->concepts.count && !failed; i++)
        failed = variant_target(&base, "concept", cfg->concepts.items[i], ranks, e);
    for (int i = 0; i < cfg->themes.count && !failed; i++)
        failed = variant_target(&base, "theme", cfg->themes.items[i], ranks, e);
    for (int i = 0; i < cfg->labels.count && !failed; i++) {
        char kind[32];
        const char *name;
        if (split_label(cfg->labels.items[i], kind, &name))
            cli_misuse(cli, "--label '%s' is not KIND=NAME", cfg->labels.items[i]);
        failed = variant_target(&base, kind, name, ranks, e);
    }
    if (failed || variants_build(v, &base, cfg->sweeps.items, cfg->sweeps.count, ranks, e))
        return -1;
    for (int i = 0; i < v->count; i++) {
        if (!v->item[i].none && !variant_steers(&v->item[i]))
            cli_misuse(cli, "--sweep says nothing to steer: sweep concept, theme, another kind of label or feature "
                       "too, or give --concept, --theme, --label or --feature");
        if (v->item[i].features && cfg->saes.count > 1)
            cli_misuse(cli, "--sweep feature steers one autoencoder, not %d", cfg->saes.count);
    }
    note_none(cli, cfg, ranks);
    return cfg->unsteered ? variants_add_none(v, e) : 0;
}

void steering_note_hook(const Cli *cli, const SteeringConfig *cfg, const SteerSite *site)
{
    if (cfg->hook)
        hook_note(cli, site->module, cfg->saes.items[0], site->sae, site->ranks);
}

static void tell_features(json_t *features, const int32_t *feature, const float *value, int count)
{
    for (int i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", feature[i]);
        json_object_set_new(features, name, json_real((double)value[i]));
    }
}

/* What sd-steer-text said of its steering of the same record becomes the field "text_steering". */
static void keep_earlier(Record *rec)
{
    static const char *const labels[] = {"steered", "steered_kind"};
    json_t *earlier = json_object_get(rec->fields, "steering");
    if (!json_is_object(earlier))
        return;
    earlier = json_copy(earlier);
    for (int i = 0; i < 2; i++)
        json_object_set(earlier, labels[i], json_object_get(rec->fields, labels[i]));
    record_set_json(rec, "text_steering", earlier);
}

void steering_describe(const SteeringInputs *in, const Variant *v, Record *rec)
{
    if (*v->name)
        record_set_json(rec, "id", json_sprintf("%s/%s", v->name, record_text(rec, "id", "")));
    keep_earlier(rec);
    variant_describe(v, rec);
    json_t *steering = json_object_get(rec->fields, "steering"), *features = json_object();
    tell_features(features, in->feature, in->value, in->steer.feature_count);
    tell_features(features, v->feature, v->value, v->features);
    if (steering && json_object_size(features))
        json_object_set(steering, "features", features);
    json_decref(features);
}
