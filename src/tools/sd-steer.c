/* SPDX-License-Identifier: MIT */
/* sd-steer.c -- draws the pictures of a conditioning stream with features of sparse autoencoders turned down,
 * up or off. */
#include <stdlib.h>
#include <string.h>
#include "src/cli/sampling.h"
#include "src/cli/steering.h"
#include "src/models/intervention.h"
#include "src/models/pictures.h"

typedef struct Config {
    SamplingConfig s;
    SteeringConfig steer;
    const char *when, *where, *compat, *latents;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    STEERING_LABEL_OPTIONS(Config, steer),
    STEERING_GATE_OPTION(Config, steer, "pictures"),
    STEERING_FEATURE_OPTION(Config, steer),
    {0, "when", OPT_STR, offsetof(Config, when), "",
     "HIGH-LOW  steer where the timestep lies in between (default: always)", 0},
    {0, "where", OPT_STR, offsetof(Config, where), NULL,
     "MASK  PNG stretched over the picture: steer where it is white, not where black, in part where grey", 0},
    STEERING_HALF_OPTION(Config, steer, "both"),
    STEERING_HOOK_OPTION(Config, steer),
    STEERING_SWEEP_OPTIONS(Config, steer, "draw", "multiplier, top, percentile, gate, mode, when", "pictures"),
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
    "is more; set to M*m everywhere; add adds M*m. Only set and add change tokens that do not keep the feature. only "
    "is set with nothing else left of the module's output, b_dec + sum M*m W_dec: what features draw by themselves.\n"
    "Only the change is added, x' = x + sum (new - old) W_dec, so a steering that changes no feature gives the "
    "unsteered picture bit for bit. --where multiplies each token's change by the mean of the mask over its part of "
    "the picture, 0 to 1; transparent is black. Through attention and later layers other parts may still follow. A "
    "sweep draws all its variants with one model load, and what they have in common once: pictures that a gate leaves "
    "alone, steps before a --when; each variant's name becomes the first part of its pictures' ids. The value none "
    "leaves what is given beside the sweep, and where that is nothing the unsteered picture, which --unsteered draws "
    "in any case; a label that is called none is swept by all, or written None, since labels match whatever their "
    "case. Labels of several kinds are steered kind by kind, in alphabetical order, however they are given.\n"
    "With --init pictures that exist are steered. --inversion ddpm leaves them as they are but for what the steering "
    "changes, those that it leaves alone bit for bit; with --where no latent changes where the mask is black.\n"
    "With --dtype f16 the autoencoder's products are made in f32, with bf16 in bf16.",
    "# the fish goes, the watercolor stays\n"
    "echo '{\"id\":\"fish\",\"prompt\":\"A fish in Watercolor style.\",\"seed\":188}' | sd-encode-text |\n"
    "  sd-steer --sae sae/ --ranks ranks.mpk.zst --concept Fishes -o out/\n"
    "# the same in the white part of a mask\n"
    "sd-encode-text prompts.jsonl | "
    "sd-steer --sae sae/ --ranks ranks.mpk.zst --concept Fishes --where mask.png -o out/\n"
    "# pictures/1.png, which shows a fish, without it\n"
    "echo '{\"id\":\"1\",\"prompt\":\"A fish.\"}' | sd-encode-text |\n"
    "  sd-steer --sae sae/ --ranks ranks.mpk.zst --concept Fishes --init pictures/ --inversion ddpm -o out/\n"
    "# what features 3, 17 and 40 draw by themselves, without a prompt\n"
    "echo '{\"id\":\"icon\",\"prompt\":\"\"}' | sd-encode-text | "
    "sd-steer --sae sae/ --mode only --sweep feature=3=8,17=8,40=8 -o icons/\n"
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
    Pictures *pictures;
    Progress *progress;
    long long done;                 /* pictures */
    SteeringInputs inputs;
    Image mask;                     /* --where */
    float *final;                   /* (variants, batch, C,H,W) */
} Run;

/* Says of the first --when between two steps that it steers nothing. */
static void note_when(const Run *r)
{
    const Scheduler *s = r->s.sampler->scheduler;
    for (int n = 0; n < r->variants.count; n++) {
        const Variant *v = &r->variants.item[n];
        if (v->none || scheduler_first(s, v->when) < s->steps)
            continue;
        cli_note(&cli, "no step's timestep lies in --when %d-%d: nothing is steered there", v->when.high, v->when.low);
        return;
    }
}

static int open_intervention(Run *r, Err *e)
{
    const Config *cfg = r->cfg;
    InterventionOptions o = {.mask = cfg->where ? &r->mask : NULL};
    if (steering_inputs(&r->inputs, &cli, &cfg->steer, r->s.compute.type, e)
        || half_parse(&o.half, cfg->steer.half, e))
        return -1;
    o.steer = r->inputs.steer;
    o.steer.compat_saeuron = strcmp(cfg->compat, "saeuron") == 0;
    if (intervention_create(&r->intervention, r->s.sampler, &o, e))
        return -1;
    const SteerSite *site = intervention_site(r->intervention);
    steering_note_hook(&cli, &cfg->steer, site);
    if (steering_variants(&r->variants, &cli, &cfg->steer, cfg->when, site->ranks, e)
        || intervention_plan(r->intervention, &r->variants, e))
        return -1;
    note_when(r);
    return 0;
}

static int open_outputs(Run *r, Err *e)
{
    const StreamOptions o = cli_stream_options(&r->cfg->s.c);
    const Sampler *s = r->s.sampler;
    static const char *const kinds[] = {"latents", "images"};
    if (sampling_vae(&r->s, e))
        return -1;
    for (int i = 0; i < 2; i++) {
        Record header;
        sampling_header(&r->s, &cli, &header, kinds[i]);
        intervention_describe(r->intervention, &header);
        int failed = i == 1 ? pictures_open(&r->pictures, r->cfg->s.c.output, r->s.vae, r->s.in, &header, &o, e)
                   : r->cfg->latents ? stream_create(&r->latents, r->cfg->latents, &header, &o, e) : 0;
        record_clear(&header);
        if (failed)
            return -1;
    }
    r->final = malloc(sizeof(float) * r->variants.count * s->options.batch * s->C * s->H * s->W);
    return r->final ? 0 : err_set(e, "out of memory for the latents of %d variants", r->variants.count);
}

static int write_picture(Run *r, const CondItem *item, const Variant *v, const float *latent, Err *e)
{
    const Sampler *s = r->s.sampler;
    Record rec;
    record_init(&rec, NULL);
    rec.number = item->record.number;
    record_copy_fields(&rec, &item->record);
    steering_describe(&r->inputs, v, &rec);
    json_t *steering = json_object_get(rec.fields, "steering");
    if (steering && r->cfg->where)
        json_object_set_new(steering, "where", json_string(r->cfg->where));
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
    while ((got = sampling_next(&r->s, e)) > 0) {
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
    sampling_close(&r->s);
    free(r->final);
    steering_inputs_clear(&r->inputs);
    image_free(&r->mask);
}

static void check_usage(const Config *cfg)
{
    sampling_check(&cli, &cfg->s);
    steering_check(&cli, &cfg->steer);
    if (cfg->latents && strcmp(cfg->latents, "-") == 0 && strcmp(cfg->s.c.output, "-") == 0)
        cli_misuse(&cli, "the pictures and --latents - would both go to standard output: give -o DIR");
    sampling_check_latents(&cli, &cfg->s, cfg->latents, cfg->where, &cfg->steer.ranks);
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

    int failed = sampling_check_pictures(&cfg.s, cfg.s.c.output, &e)
              || (cfg.where && image_read_grey(&r.mask, cfg.where, &e))
              || sampling_open(&r.s, &cli, &cfg.s, &e)
              || open_intervention(&r, &e)
              || open_outputs(&r, &e)
              || draw_all(&r, &e)
              || finish(&r, &e);

    release(&r);
    return failed ? cli_report(&cli, &e) : 0;
}
