/* SPDX-License-Identifier: MIT */
/* sd-steer-text.c -- prompts to text states while features of sparse autoencoders in the text encoder are turned
 * down, up or off. */
#include "src/cli/encoding.h"
#include "src/cli/steering.h"
#include "src/models/text_steering.h"

typedef struct Config {
    EncodingConfig e;
    SteeringConfig steer;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    STEERING_LABEL_OPTIONS(Config, steer),
    STEERING_GATE_OPTION(Config, steer, "texts"),
    STEERING_FEATURE_OPTION(Config, steer),
    STEERING_HALF_OPTION(Config, steer, "cond"),
    STEERING_HOOK_OPTION(Config, steer),
    STEERING_SWEEP_OPTIONS(Config, steer, "encode", "multiplier, top, percentile, gate, mode", "states"),
    ENCODING_OPTIONS,
    COMPUTE_OPTIONS, STREAM_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sd-steer-text", "Encode prompts while features of the text encoder are turned down, up or off.", options,
    "[FILE...]",
    "Reads prompts and writes text states as sd-encode-text does, changed on the way: the autoencoder belongs to a "
    "module of the text encoder (sd-encode-text --hook captures for it), and the features that --ranks ties to the "
    "labels are changed in every token of the prompt but the start token. Pictures are then drawn as from any other "
    "states, at no cost a step, and such a steering needs no picture to learn from: prompts alone train and rank it. "
    "What it cannot do is steer by step, or in a part of the picture (sd-steer).\n"
    "Modes are those of sd-steer. Only the change is added, so a steering that changes no feature gives the states of "
    "sd-encode-text, bit for bit. --half says whether prompts, negative prompts or both are steered; where negative "
    "ones are, each record carries its own. With --gate only texts in which a label shows are changed; of a sweep "
    "sd-sample-hooked draws the others once, where they come into one batch. A sweep writes each record once with each "
    "of its steerings, whose name becomes the first part of the record's id. A record's init_prompt is never steered: "
    "where it is the prompt, sd-sample-hooked --init --inversion ddpm makes the steering's change to a picture that "
    "exists (init_image names it, since a sweep's ids are other ones).\n"
    "A record's bytes do not depend on its neighbours.",
    "# learn from prompts alone\n"
    "sd-assemble-prompts -n 1 > prompts.jsonl\n"
    "sd-encode-text --hook text_encoder.text_model.encoder.layers.2 prompts.jsonl -o text.mpk.zst\n"
    "sae-fit -k 8 --tokens 500K -o text-sae/ text.mpk.zst\n"
    "sae-rank-concepts --sae text-sae/ --score difference text.mpk.zst -o text-ranks.mpk.zst\n"
    "# the fish goes\n"
    "echo 'A fish in Watercolor style.' |\n"
    "  sd-steer-text --sae text-sae/ --ranks text-ranks.mpk.zst --concept Fishes --top 20 --mode replace |\n"
    "  sd-sample-hooked --no-activations --images out/\n"
    "# of a prompt with a learned word\n"
    "echo 'A fish in <my-style> style.' | sd-steer-text --embedding my-style.bin --sae text-sae/ "
    "--ranks text-ranks.mpk.zst --concept Fishes --top 20 --mode replace -o steered.mpk.zst"
};

typedef struct Run {
    const Config *cfg;
    EncodingTask task;
    Encoding *encoding;
    SteeringInputs inputs;
    TextSteering *steering;
    Variants variants;
} Run;

static int select_variant(void *context, int variant, Err *e)
{
    const Run *r = context;
    return text_steering_select(r->steering, variant, e);
}

static void describe(void *context, int variant, Record *rec)
{
    const Run *r = context;
    steering_describe(&r->inputs, &r->variants.item[variant], rec);
}

static int open_steering(Run *r, Err *e)
{
    const SteeringConfig *cfg = &r->cfg->steer;
    Half half;
    if (half_parse(&half, cfg->half, e)
        || steering_inputs(&r->inputs, &cli, cfg, encoding_compute(r->encoding)->type, e)
        || text_steering_create(&r->steering, encoding_encoder(r->encoding), encoding_states(r->encoding),
                                &r->inputs.steer, half, e))
        return -1;
    const SteerSite *site = text_steering_site(r->steering);
    steering_note_hook(&cli, cfg, site);
    if (steering_variants(&r->variants, &cli, cfg, "", site->ranks, e)
        || text_steering_plan(r->steering, &r->variants, e))
        return -1;
    r->task = (EncodingTask){.context = r, .variants = r->variants.count, .select = select_variant,
                             .describe = describe, .own_uncond = half != HALF_COND};
    return 0;
}

static int begin(Run *r, Err *e)
{
    Record more;
    record_init(&more, NULL);
    text_steering_describe(r->steering, &more);
    const int failed = encoding_begin(r->encoding, &more, e);
    record_clear(&more);
    return failed;
}

static void release(Run *r)
{
    encoding_close(r->encoding);
    text_steering_free(r->steering);
    variants_free(&r->variants);
    steering_inputs_clear(&r->inputs);
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    encoding_check(&cli, &cfg.e);
    steering_check(&cli, &cfg.steer);

    int failed = encoding_open(&r.encoding, &cli, &cfg.e, &r.task, &e)
              || open_steering(&r, &e)
              || begin(&r, &e)
              || encoding_run(r.encoding, &e)
              || encoding_finish(r.encoding, &e);

    release(&r);
    return failed ? cli_report(&cli, &e) : 0;
}
