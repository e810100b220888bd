/* SPDX-License-Identifier: MIT */
/* sd-steer.c -- draws the pictures of a conditioning stream with features of sparse autoencoders turned down,
 * up or off. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/cli/sampling.h"
#include "src/models/intervention.h"
#include "src/models/pictures.h"

typedef struct Config {
    SamplingConfig s;
    List saes, ranks, concepts, themes, labels, features, sweeps;
    const char *hook, *mode, *when, *where, *half, *compat, *latents;
    int64_t top;
    double percentile, multiplier, gate;
    int unsteered;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    {0, "sae", OPT_LIST, offsetof(Config, saes), NULL,
     "DIR  autoencoder, as sae-fit wrote it; again for another module", OPT_REQUIRED},
    {0, "ranks", OPT_LIST, offsetof(Config, ranks), NULL,
     "FILE  its ranks, as sae-rank-concepts wrote them; one after each --sae", OPT_NEUTRAL},
    {0, "concept", OPT_LIST, offsetof(Config, concepts), NULL, "NAME  concept to steer; again for more", 0},
    {0, "theme", OPT_LIST, offsetof(Config, themes), NULL, "NAME  theme (style) to steer; again for more", 0},
    {0, "label", OPT_LIST, offsetof(Config, labels), NULL, "KIND=NAME  label of another kind to steer", 0},
    {0, "top", OPT_INT, offsetof(Config, top), "0",
     "N  features taken a label and timestep, by score; 0: by --percentile", 0},
    {0, "percentile", OPT_NUMBER, offsetof(Config, percentile), "99.5",
     "P  features whose score lies above this percentile", 0},
    {0, "multiplier", OPT_NUMBER, offsetof(Config, multiplier), "-1",
     "M  strength, as --mode reads it; negative removes", 0},
    {0, "mode", OPT_STR, offsetof(Config, mode), "multiply",
     "multiply|replace|scale|ablate|clamp|others|unlabelled|set|add  what becomes of a chosen feature", 0},
    {0, "gate", OPT_NUMBER, offsetof(Config, gate), "0",
     "G  steer only pictures in which the label shows: its features' sum lies G of the way from other labels' mean to "
     "its own; 0: all", 0},
    {0, "feature", OPT_LIST, offsetof(Config, features), NULL, "I=VALUE  steer feature I by hand, without ranks", 0},
    {0, "when", OPT_STR, offsetof(Config, when), "",
     "HIGH-LOW  steer where the timestep lies in between (default: always)", 0},
    {0, "where", OPT_STR, offsetof(Config, where), NULL,
     "MASK  PNG stretched over the picture: steer where it is white, not where black, in part where grey", 0},
    {0, "half", OPT_STR, offsetof(Config, half), "both",
     "cond|uncond|both  halves of classifier-free guidance to steer", 0},
    {0, "hook", OPT_STR, offsetof(Config, hook), NULL,
     "NAME  module of the autoencoder, where its folder does not say", 0},
    {0, "sweep", OPT_LIST, offsetof(Config, sweeps), NULL,
     "NAME=V,V  draw once with each value of multiplier, top, percentile, mode, when, concept or theme (all: every "
     "one); again for the product", 0},
    {0, "unsteered", OPT_FLAG, offsetof(Config, unsteered), NULL,
     "with --sweep: draw the unsteered pictures too, first", 0},
    {0, "compat", OPT_STR, offsetof(Config, compat), "none",
     "none|saeuron  saeuron: its published hook, with the doubled reconstruction error", 0},
    {0, "latents", OPT_STR, offsetof(Config, latents), NULL, "FILE  write the final latents too", OPT_NEUTRAL},
    SAMPLING_OPTIONS,
    COMPUTE_OPTIONS, STREAM_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sd-steer", "Draw pictures while features of a sparse autoencoder are turned down, up or off.", options, "[FILE]",
    "Reads a conditioning stream (sd-encode-text) and draws each picture with the features that --ranks ties to the "
    "labels changed at every step. -o DIR writes PNG files named by the records' ids; - or a name ending in .mpk.zst "
    "is a stream of images.\n"
    "Modes, for a chosen feature of value a whose mean over the label's pictures is m: multiply sets it to M*m*a where "
    "a exceeds its mean over all labels, replace to M*m there; scale sets it to M*a; ablate to 0; clamp to M*m where "
    "it is more; others to its mean over the pictures of other labels, unlabelled over those without a label, where it "
    "is more; set to M*m everywhere; add adds M*m. Only set and add change tokens that do not keep the feature.\n"
    "Only the change is added, x' = x + sum (new - old) W_dec, so a steering that changes no feature gives the "
    "unsteered picture bit for bit. --where multiplies each token's change by the mean of the mask over its part of "
    "the picture, 0 to 1; transparent is black. Through attention and later layers other parts may still follow. A "
    "sweep draws all its variants with one model load; each variant's name becomes the first part of its pictures' "
    "ids.\n"
    "With --dtype f16 the autoencoder's products are made in f32, with bf16 in bf16.",
    "# the fish goes, the watercolor stays\n"
    "echo '{\"id\":\"fish\",\"prompt\":\"A fish in Watercolor style.\",\"seed\":188}' | sd-encode-text |\n"
    "  sd-steer --sae sae/ --ranks ranks.mpk.zst --concept Fishes -o out/\n"
    "# the same in the white part of a mask\n"
    "sd-encode-text prompts.jsonl | "
    "sd-steer --sae sae/ --ranks ranks.mpk.zst --concept Fishes --where mask.png -o out/\n"
    "# every concept in turn, two strengths\n"
    "sd-encode-text prompts.jsonl | "
    "sd-steer --sae sae/ --ranks ranks.mpk.zst --sweep concept=all --sweep multiplier=-1,-5 -o sweep/"
};

typedef struct Run {
    const Config *cfg;
    Sampling s;
    Intervention *intervention;
    Variants variants;
    StreamOut *latents;
    Vae *vae;
    Pictures *pictures;
    Progress *progress;
    long long done;                 /* pictures */
    int32_t *feature;
    float *value;
    Image mask;                     /* --where */
    float *final;                   /* (variants, batch, C,H,W) */
} Run;

/* --feature I=VALUE into feature[] and value[] */
static int parse_features(Run *r, Err *e)
{
    const List *list = &r->cfg->features;
    r->feature = calloc(list->count + 1, sizeof *r->feature);
    r->value = calloc(list->count + 1, sizeof *r->value);
    if (!r->feature || !r->value)
        return err_set(e, "out of memory");
    for (int i = 0; i < list->count; i++) {
        char *end;
        const char *text = list->items[i];
        const long feature = strtol(text, &end, 10);
        if (end == text || *end != '=' || feature < 0 || feature > INT32_MAX)
            cli_misuse(&cli, "--feature '%s' is not I=VALUE", text);
        const char *number = end + 1;
        r->feature[i] = (int32_t)feature;
        r->value[i] = strtof(number, &end);
        if (end == number || *end || !isfinite(r->value[i]))
            cli_misuse(&cli, "--feature '%s' is not I=VALUE", text);
    }
    return 0;
}

static int open_intervention(Run *r, Err *e)
{
    const Config *cfg = r->cfg;
    InterventionOptions o = {.saes = cfg->saes.items, .sae_count = cfg->saes.count, .ranks = cfg->ranks.items,
                             .ranks_count = cfg->ranks.count, .hook = cfg->hook, .feature = r->feature,
                             .value = r->value, .feature_count = cfg->features.count,
                             .compat_saeuron = strcmp(cfg->compat, "saeuron") == 0,
                             .mask = cfg->where ? &r->mask : NULL, .type = r->s.compute.type};
    return half_parse(&o.half, cfg->half, e) || intervention_create(&r->intervention, r->s.sampler, &o, e);
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

static int plan_variants(Run *r, Err *e)
{
    const Config *cfg = r->cfg;
    const Ranks *ranks = intervention_ranks(r->intervention);
    Variant base = {.multiplier = cfg->multiplier, .percentile = cfg->percentile, .gate = cfg->gate,
                    .top = (int)cfg->top};
    int failed = steer_mode(&base.mode, cfg->mode, e) || t_range_parse(cfg->when, &base.t_high, &base.t_low, e);
    for (int i = 0; i < cfg->concepts.count && !failed; i++)
        failed = variant_target(&base, "concept", cfg->concepts.items[i], ranks, e);
    for (int i = 0; i < cfg->themes.count && !failed; i++)
        failed = variant_target(&base, "theme", cfg->themes.items[i], ranks, e);
    for (int i = 0; i < cfg->labels.count && !failed; i++) {
        char kind[32];
        const char *name;
        if (split_label(cfg->labels.items[i], kind, &name))
            cli_misuse(&cli, "--label '%s' is not KIND=NAME", cfg->labels.items[i]);
        failed = variant_target(&base, kind, name, ranks, e);
    }
    if (failed || variants_build(&r->variants, &base, cfg->sweeps.items, cfg->sweeps.count, ranks, e))
        return -1;
    if (cfg->unsteered && variants_add_none(&r->variants, e))
        return -1;
    return intervention_plan(r->intervention, &r->variants, e);
}

static int open_outputs(Run *r, Err *e)
{
    const StreamOptions o = compute_stream_options(&r->cfg->s.c);
    const Sampler *s = r->s.sampler;
    static const char *const kinds[] = {"latents", "images"};
    if (vae_load(&r->vae, r->s.compute.model, r->s.compute.type, e) || vae_takes(r->vae, s->C, e))
        return -1;
    for (int i = 0; i < 2; i++) {
        Record header;
        sampling_header(&r->s, &cli, &header, kinds[i]);
        intervention_describe(r->intervention, &header);
        int failed = i == 1 ? pictures_open(&r->pictures, r->cfg->s.c.output, r->vae, r->s.in, &header, &o, e)
                   : r->cfg->latents ? stream_create(&r->latents, r->cfg->latents, &header, &o, e) : 0;
        record_clear(&header);
        if (failed)
            return -1;
    }
    r->final = malloc(sizeof(float) * r->variants.count * s->options.batch * s->C * s->H * s->W);
    return r->final ? 0 : err_set(e, "out of memory for the latents of %d variants", r->variants.count);
}

/* Adds the features given by hand, and the mask, to what a variant says of its steering. */
static void describe_run(const Run *r, Record *rec)
{
    json_t *steering = json_object_get(rec->fields, "steering"), *features = json_object();
    for (int i = 0; i < r->cfg->features.count; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", r->feature[i]);
        json_object_set_new(features, name, json_real((double)r->value[i]));
    }
    if (steering && json_object_size(features))
        json_object_set(steering, "features", features);
    if (steering && r->cfg->where)
        json_object_set_new(steering, "where", json_string(r->cfg->where));
    json_decref(features);
}

static int write_picture(Run *r, const CondItem *item, const Variant *v, const float *latent, Err *e)
{
    const Sampler *s = r->s.sampler;
    Record rec;
    record_init(&rec, NULL);
    rec.number = item->record.number;
    record_copy_fields(&rec, &item->record);
    if (*v->name) {
        char id[4096];
        snprintf(id, sizeof id, "%s/%s", v->name, record_text(&item->record, "id", ""));
        record_set_text(&rec, "id", id);
    }
    variant_describe(v, &rec);
    describe_run(r, &rec);
    int failed = pictures_write(r->pictures, &rec, latent, s->C, s->H, s->W, e);
    if (!failed && r->latents) {
        record_add_tensor(&rec, "latent", F32, 3, (int64_t[]){s->C, s->H, s->W}, latent);
        failed = stream_write(r->latents, &rec, e);
    }
    record_clear(&rec);
    return failed;
}

static void count_pictures(void *context, int pictures)
{
    Run *r = context;
    progress_set(r->progress, r->done += pictures);
}

/* All variants of a batch are drawn before any is written: the order of the pictures is by record, then variant. */
static int draw_all(Run *r, Err *e)
{
    const Sampler *s = r->s.sampler;
    const CondBatch *batch = r->s.batch;
    const size_t picture = (size_t)s->C * s->H * s->W;
    int got;
    r->progress = progress_start(&cli, "pictures", 0);
    while ((got = cond_batch_next(r->s.batch, e)) > 0) {
        if (intervention_draw(r->intervention, batch, r->final, count_pictures, r, e))
            return -1;
        for (int i = 0; i < batch->count; i++)
            for (int v = 0; v < r->variants.count; v++)
                if (write_picture(r, &batch->item[i], &r->variants.item[v],
                                  r->final + picture*((size_t)s->options.batch*v + i), e))
                    return -1;
    }
    return got;
}

static int finish(Run *r, Err *e)
{
    return pictures_finish(r->pictures, e) || (r->latents && stream_finish(r->latents, e));
}

static void release(Run *r)
{
    progress_end(r->progress);
    pictures_abandon(r->pictures);
    stream_abandon(r->latents);
    intervention_free(r->intervention);
    variants_free(&r->variants);
    vae_free(r->vae);
    sampling_close(&r->s);
    free(r->final);
    free(r->feature);
    free(r->value);
    image_free(&r->mask);
}

static void check_usage(const Config *cfg)
{
    sampling_check(&cli, &cfg->s);
    if (!cfg->concepts.count && !cfg->themes.count && !cfg->labels.count && !cfg->features.count && !cfg->sweeps.count)
        cli_misuse(&cli, "says nothing to steer: give --concept, --theme, --label, --feature or --sweep");
    if (!cfg->ranks.count && (cfg->concepts.count || cfg->themes.count || cfg->labels.count))
        cli_misuse(&cli, "a concept or theme is steered by its ranks: give --ranks FILE");
    if (cfg->top < 0 || cfg->top > INT32_MAX)
        cli_misuse(&cli, "--top must be 0 or more");
    if (cfg->latents && strcmp(cfg->latents, "-") == 0 && strcmp(cfg->s.c.output, "-") == 0)
        cli_misuse(&cli, "the pictures and --latents - would both go to standard output: give -o DIR");
    if (cfg->features.count && cfg->saes.count > 1)
        cli_misuse(&cli, "--feature steers one autoencoder, not %d", cfg->saes.count);
    if (cfg->where && strcmp(cfg->compat, "saeuron") == 0)
        cli_misuse(&cli, "--where masks a change, and --compat saeuron adds more than that");
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    check_usage(&cfg);

    int failed = parse_features(&r, &e)
              || (cfg.where && image_read_grey(&r.mask, cfg.where, &e))
              || sampling_open(&r.s, &cli, &cfg.s, &e)
              || open_intervention(&r, &e)
              || plan_variants(&r, &e)
              || open_outputs(&r, &e)
              || draw_all(&r, &e)
              || finish(&r, &e);

    release(&r);
    return failed ? cli_report(&cli, &e) : 0;
}
