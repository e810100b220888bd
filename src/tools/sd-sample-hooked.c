/* SPDX-License-Identifier: MIT */
/* sd-sample-hooked.c -- draws the pictures of a conditioning stream and writes what hooked
 * modules compute on the way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/text_out.h"
#include "src/cli/sampling.h"
#include "src/models/capture.h"
#include "src/models/pictures.h"

typedef struct Config {
    SamplingConfig s;
    List hooks;
    const char *take, *half, *act_type, *at, *latents, *images, *where;
    int64_t every, tokens;
    int no_activations, list_hooks, dry_run;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    {0, "hook", OPT_LIST, offsetof(Config, hooks), NULL,
     "NAME  module to capture, by diffusers' path or a glob; may come again (default: up_blocks.1.attentions.1, of a "
     "transformer its middle block)", 0},
    {0, "list-hooks", OPT_FLAG, offsetof(Config, list_hooks), NULL,
     "print the modules that can be hooked, and end", OPT_NEUTRAL},
    {0, "dry-run", OPT_FLAG, offsetof(Config, dry_run), NULL,
     "take one step of one picture, print how many records and bytes all would be, and end", OPT_NEUTRAL},
    {0, "take", OPT_STR, offsetof(Config, take), "output",
     "output|input|diff  of the module; diff is output - input", 0},
    {0, "half", OPT_STR, offsetof(Config, half), "cond",
     "cond|uncond|both  halves of classifier-free guidance to keep", 0},
    {0, "act-type", OPT_STR, offsetof(Config, act_type), "f16",
     "f32|f16|bf16|i8  type of the activations written; i8: with a scale a token", 0},
    {0, "every", OPT_INT, offsetof(Config, every), "1", "N  keep every N-th evaluation, from the first", 0},
    {0, "at", OPT_STR, offsetof(Config, at), "",
     "HIGH-LOW  keep steps whose timestep lies in between (default: all)", 0},
    {0, "tokens", OPT_INT, offsetof(Config, tokens), "0",
     "N  keep N tokens of each activation, chosen by the record's seed; 0: all", 0},
    {0, "no-activations", OPT_FLAG, offsetof(Config, no_activations), NULL,
     "write no activations: pictures or latents only", 0},
    {0, "latents", OPT_STR, offsetof(Config, latents), NULL,
     "FILE  write final latents, a stream for sd-decode", OPT_NEUTRAL},
    {0, "images", OPT_STR, offsetof(Config, images), NULL,
     "DIR  write the pictures: PNG files in a folder, or a stream named *.mpk.zst", OPT_NEUTRAL},
    SAMPLING_OPTIONS,
    {0, "where", OPT_STR, offsetof(Config, where), NULL,
     "MASK  with --inversion, PNG stretched over the picture: where it is black nothing changes", 0},
    COMPUTE_OPTIONS, STREAM_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sd-sample-hooked", "Draw pictures with a Stable Diffusion model and write what chosen modules compute.",
    options, "[FILE]",
    "Reads a conditioning stream (sd-encode-text) and draws one picture a record with classifier-free "
    "guidance, from the noise that torch's CPU generator gives for the record's seed. While it draws, the outputs of "
    "the hooked modules are written as a stream of activations: one record a picture, step, hook and half.\n"
    "--sampler dpm++2m-karras (DPM-Solver++ of second order, on Karras's noise levels) comes as near to where the "
    "model leads in 15 steps as ddim in 50. dpm++2m takes the timesteps that the model's scheduler_config.json spaces, "
    "and leaves out the noisiest where that says \"leading\". unipc and unipc-karras (UniPC of second order) correct "
    "each step when the next one begins, and with Karras's levels come nearer from 10 steps on. euler is DDIM at the "
    "timesteps of diffusers' EulerDiscreteScheduler, which may lie between whole ones (t is the nearest); of a model "
    "that matches flows, as Stable Diffusion 3 does, it is FlowMatchEulerDiscreteScheduler, which nothing else stands "
    "in for. euler-a adds "
    "new noise at each step, the next of the record's seed, as models made for few steps want it. So does lcm, which "
    "latent consistency models, and others with an LCM-LoRA (sd-convert --lora), are drawn with: --steps 1 to 8 of "
    "those that the model was distilled for (\"original_inference_steps\"), --guidance 1 to 2. A UNet that is told "
    "its guidance (\"time_cond_proj_dim\") takes any --guidance, and has no unconditional half. All other samplers "
    "add no noise (eta 0). pndm is Stable Diffusion 1.x's own, diffusers' PNDMScheduler, by its config's "
    "\"skip_prk_steps\". True: one evaluation more than --steps, the second timestep twice (--steps 1: one). Else, as "
    "in the config of another sampler, which has no such key: nine more, with timesteps between, from 4 steps on. "
    "Each evaluation is a record with a step of its own; --at, --when and ranks go by t, and hold all of a "
    "timestep's.\n"
    "With --init a picture begins with another, its latent with noise for the timestep at which --strength begins, as "
    "diffusers' image-to-image pipelines have it. --inversion ddpm keeps what it begins with: only what is made to "
    "change does, here by another text, where a record has an init_prompt that says what the picture shows. Without "
    "one nothing is drawn, and the activations are those that the modules have of the picture itself at each timestep: "
    "an autoencoder may learn from pictures that exist. See sdsteer(7).\n"
    "Memory is flat in the number of records: a batch's activations are held until its last step, so that the order of "
    "records, and with it every byte, is the same for any --batch.",
    "# capture two modules of 20 pictures and look at what came\n"
    "sd-assemble-prompts -n 1 | head -20 | sd-encode-text | "
    "sd-sample-hooked --hook 'up_blocks.1.attentions.[01]' -o acts.mpk.zst\n"
    "tstream info acts.mpk.zst\n"
    "# how much that would be of 10,000 pictures, and with 8-bit activations of 16 tokens\n"
    "sd-assemble-prompts -n 50 | sd-encode-text | sd-sample-hooked --steps 50 --dry-run\n"
    "sd-assemble-prompts -n 50 | sd-encode-text | sd-sample-hooked --steps 50 --act-type i8 --tokens 16 --dry-run\n"
    "# pictures only\n"
    "echo 'A fish in Watercolor style.' | sd-encode-text | sd-sample-hooked --no-activations --images out/\n"
    "# of out/1.png, the same picture of a cat\n"
    "echo '{\"id\":\"1\",\"init_prompt\":\"A fish in Watercolor style.\","
    "\"prompt\":\"A cat in Watercolor style.\"}' |\n"
    "  sd-encode-text | sd-sample-hooked --no-activations --init out/ --inversion ddpm --images cats/"
};

typedef struct Run {
    const Config *cfg;
    Sampling s;
    Capture *capture;
    StreamOut *activations, *latents;
    Pictures *pictures;
    Progress *progress;
    Image mask;                     /* --where */
    float *final;                   /* (batch,C,H,W) */
} Run;

static int print_hooks(const Config *cfg, Err *e)
{
    Compute compute;
    Denoiser *denoiser = NULL;
    const int failed = compute_start(&compute, &cfg->s.c, e)
                    || denoiser_load(&denoiser, compute.model, compute.type, op->residual, e)
                    || text_list(cfg->s.c.output, denoiser_hooks(denoiser)->module, e);
    denoiser_free(denoiser);
    return failed;
}

static int open_capture(Run *r, Err *e)
{
    const Config *cfg = r->cfg;
    const char *const usual[] = {denoiser_usual_hook(r->s.sampler->denoiser)};
    if (cfg->no_activations)
        return 0;
    CaptureOptions o = {.patterns = usual, .pattern_count = 1, .type = (DType)dtype_parse(cfg->act_type),
                        .every = (int)cfg->every, .tokens = (int)cfg->tokens};
    if (cfg->hooks.count) {
        o.patterns = cfg->hooks.items;
        o.pattern_count = cfg->hooks.count;
    }
    return take_parse(&o.take, cfg->take, e) || half_parse(&o.half, cfg->half, e)
        || t_range_parse(&o.when, "--at", cfg->at, e) || capture_create(&r->capture, r->s.sampler, &o, e);
}

static int open_outputs(Run *r, Err *e)
{
    const StreamOptions o = cli_stream_options(&r->cfg->s.c);
    const Sampler *s = r->s.sampler;
    Record header;
    int failed = 0;
    if (r->capture) {
        sampling_header(&r->s, &cli, &header, "activations");
        capture_describe(r->capture, &header);
        failed = stream_create(&r->activations, r->cfg->s.c.output, &header, &o, e);
        record_clear(&header);
    }
    if (r->cfg->latents && !failed) {
        sampling_header(&r->s, &cli, &header, "latents");
        failed = stream_create(&r->latents, r->cfg->latents, &header, &o, e);
        record_clear(&header);
    }
    if (r->cfg->images && !failed) {
        sampling_header(&r->s, &cli, &header, "images");
        failed = sampling_vae(&r->s, e)
              || pictures_open(&r->pictures, r->cfg->images, r->s.vae, r->s.in, &header, &o, e);
        record_clear(&header);
    }
    r->final = malloc(sizeof(float) * s->options.batch * s->C * s->H * s->W);
    return failed ? -1 : r->final ? 0 : err_set(e, "out of memory for %d latents", s->options.batch);
}

static int write_batch(Run *r, Err *e)
{
    const Sampler *s = r->s.sampler;
    const CondBatch *batch = r->s.batch;
    const size_t picture = (size_t)s->C * s->H * s->W;
    for (int i = 0; i < batch->count; i++) {
        Record rec = batch->item[i].record;
        if (r->pictures && pictures_write(r->pictures, &rec, r->final + picture*i, s->C, s->H, s->W, e))
            return -1;
        rec.tensors = 0;
        record_add_tensor(&rec, "latent", F32, 3, (int64_t[]){s->C, s->H, s->W}, r->final + picture*i);
        if (r->latents && stream_write(r->latents, &rec, e))
            return -1;
    }
    /* Last, so that the VAE has the room that it needs before activations take a second one where there is room. */
    return r->capture ? capture_write(r->capture, batch, r->activations, e) : 0;
}

static int draw_all(Run *r, Err *e)
{
    long long done = 0;
    int got;
    r->progress = progress_start(&cli, "pictures", 0);
    while ((got = sampling_next(&r->s, e)) > 0) {
        if (sampler_run_plain(r->s.sampler, r->s.batch, r->final, r->capture ? capture_step : NULL, r->capture, e)
            || write_batch(r, e))
            return -1;
        progress_set(r->progress, done += r->s.batch->count);
    }
    return got < 0 || (r->capture && capture_finish(r->capture, e)) ? -1 : 0;
}

/* One step of the first picture tells the modules' shapes; the others are counted. */
static int print_sizes(Run *r, Err *e)
{
    Sampler *s = r->s.sampler;
    TextOut out = {0};
    long long pictures = 0;
    int got, failed = !(r->final = malloc(sizeof(float) * s->C * s->H * s->W)) ? err_set(e, "out of memory") : 0;
    s->scheduler->steps = 1;
    while (!failed && (got = cond_batch_next(r->s.batch, e)) != 0)
        failed = got < 0 || (pictures++ == 0 && sampler_run(s, r->s.batch, r->final, NULL, NULL, e));
    if (!failed && !pictures)
        failed = err_set(e, "%s: no records: no picture to draw", stream_name(r->s.in));
    if (failed || text_open(&out, "-", e))
        return -1;
    capture_print_sizes(r->capture, pictures, out.file);
    return text_finish(&out, e);
}

static int finish(Run *r, Err *e)
{
    return (r->activations && stream_finish(r->activations, e)) || (r->latents && stream_finish(r->latents, e))
        || (r->pictures && pictures_finish(r->pictures, e));
}

static void release(Run *r)
{
    progress_end(r->progress);
    stream_abandon(r->activations);
    stream_abandon(r->latents);
    pictures_abandon(r->pictures);
    capture_free(r->capture);
    sampling_close(&r->s);
    image_free(&r->mask);
    free(r->final);
}

static int is_stdout(const char *output)
{
    return output && strcmp(output, "-") == 0;
}

static void check_usage(const Config *cfg)
{
    sampling_check(&cli, &cfg->s);
    sampling_check_latents(&cli, &cfg->s, cfg->latents, cfg->where, NULL);
    if (cfg->no_activations && !cfg->images && !cfg->latents)
        cli_misuse(&cli, "--no-activations without --images or --latents would write nothing");
    if ((!cfg->no_activations && is_stdout(cfg->s.c.output)) + is_stdout(cfg->latents) + is_stdout(cfg->images) > 1)
        cli_misuse(&cli, "of activations, --latents and --images only one can go to standard output: give -o FILE");
    if (cfg->every < 1 || cfg->every > INT32_MAX || cfg->tokens < 0 || cfg->tokens > INT32_MAX)
        cli_misuse(&cli, "--every must be 1 or more, --tokens 0 or more, both below 2^31");
    if (cfg->dry_run && (cfg->no_activations || cfg->s.init))
        cli_misuse(&cli, "--dry-run is of activations, and needs no --init");
    if (cfg->where && strcmp(cfg->s.inversion, "none") == 0)
        cli_misuse(&cli, "--where is of pictures to begin with: give --init and --inversion ddpm");
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    check_usage(&cfg);
    if (cfg.list_hooks)
        return print_hooks(&cfg, &e) ? cli_report(&cli, &e) : 0;

    if (cfg.dry_run)
        cfg.s.batch = 1;
    int failed = sampling_check_pictures(&cfg.s, cfg.images, &e)
              || (cfg.where && image_read_grey(&r.mask, cfg.where, &e))
              || sampling_open(&r.s, &cli, &cfg.s, &e)
              || (cfg.where && sampler_mask(r.s.sampler, &r.mask, &e))
              || open_capture(&r, &e);
    if (!failed)
        failed = cfg.dry_run ? print_sizes(&r, &e) : open_outputs(&r, &e) || draw_all(&r, &e) || finish(&r, &e);

    release(&r);
    return failed ? cli_report(&cli, &e) : 0;
}
