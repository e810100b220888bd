/* SPDX-License-Identifier: MIT */
/* sampling.c -- opening what a sampling program needs. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "formats/lines.h"
#include "src/cli/sampling.h"
#include "src/models/pictures.h"
#include "src/models/vae.h"

enum { SIDE_STEP = 8, SIDE_MAX = 8192 };            /* of pictures, as diffusers' pipeline wants them */
static const double USUAL_STRENGTH = 0.8;           /* diffusers' too */

static bool is_inverted(const SamplingConfig *cfg)
{
    return strcmp(cfg->inversion, "none") != 0;
}

static double strength_of(const SamplingConfig *cfg)
{
    return !cfg->init ? 0 : cfg->strength ? cfg->strength : is_inverted(cfg) ? 1 : USUAL_STRENGTH;
}

static void check_init(const Cli *cli, const SamplingConfig *cfg)
{
    const double strength = strength_of(cfg);
    if (!cfg->init && (is_inverted(cfg) || cfg->strength))
        cli_misuse(cli, "--strength and --inversion are of pictures to begin with: give --init");
    if (!cfg->init)
        return;
    if (!(strength > 0 && strength <= 1))
        cli_misuse(cli, "--strength %.12g: expected more than 0, and 1 at most", strength);
    if (is_inverted(cfg) && strcmp(cfg->sampler, "ddim") != 0 && strcmp(cfg->sampler, "auto") != 0)
        cli_misuse(cli, "--inversion ddpm goes by --sampler ddim's timesteps, not %s's", cfg->sampler);
}

/* The folder that path is, or a file's. false: there is none. */
static bool stat_folder(const char *path, struct stat *st)
{
    char above[4096];
    if (stat(path, st) == 0 && S_ISDIR(st->st_mode))
        return true;
    const char *end = strrchr(path, '/');
    snprintf(above, sizeof above, "%.*s", end ? (int)(end - path) + 1 : 1, end ? path : ".");
    return stat(above, st) == 0;
}

int sampling_check_pictures(const SamplingConfig *cfg, const char *pictures, Err *e)
{
    struct stat from, to;
    if (!pictures)
        return 0;
    if (pictures_check(pictures, e))
        return -1;
    if (!cfg->init || stat(pictures, &to) || !S_ISDIR(to.st_mode) || !stat_folder(cfg->init, &from)
        || from.st_dev != to.st_dev || from.st_ino != to.st_ino)
        return 0;
    return err_misuse(e, "%s: pictures would be written over those that --init %s begins with", pictures, cfg->init);
}

void sampling_check(const Cli *cli, const SamplingConfig *cfg)
{
    const int64_t H = cfg->height, W = cfg->width;
    if (cfg->batch < 1 || cfg->batch > 4096)
        cli_misuse(cli, "--batch %lld is not between 1 and 4096", (long long)cfg->batch);
    if (cfg->steps < 1 || cfg->steps > 1000)
        cli_misuse(cli, "--steps %lld is not between 1 and 1000", (long long)cfg->steps);
    if (H % SIDE_STEP || W % SIDE_STEP || H < 0 || W < 0 || H > SIDE_MAX || W > SIDE_MAX)
        cli_misuse(cli, "--height and --width are multiples of %d, to %d", SIDE_STEP, SIDE_MAX);
    check_init(cli, cfg);
}

void sampling_check_latents(const Cli *cli, const SamplingConfig *cfg, const char *latents, const char *where,
                            const List *more)
{
    if (latents && strcmp(latents, "-") != 0
        && (cli_listed(&cfg->c.inputs, latents) || (more && cli_listed(more, latents))
            || (cfg->init && cli_same_file(cfg->init, latents)) || (where && cli_same_file(where, latents))))
        cli_misuse(cli, "--latents %s: that is a file that is read", latents);
}

/* A side of the latent from one of the picture. */
static int latent_side(const char *option, int64_t pixels, int cell, int *side, Err *e)
{
    *side = (int)(pixels / cell);
    return pixels % cell == 0 ? 0
        : err_set(e, "%s %lld: the model's VAE makes pictures in steps of %d pixels", option, (long long)pixels, cell);
}

static int open_starts(Sampling *s, Err *e)
{
    const Sampler *x = s->sampler;
    return sampling_vae(s, e)
        || starts_open(&s->starts, s->cfg->init, s->vae, x->C, x->H, x->W, !is_inverted(s->cfg), e) ? -1 : 0;
}

int sampling_open(Sampling *s, const Cli *cli, const SamplingConfig *cfg, Err *e)
{
    int cell, height, width;
    s->cfg = cfg;
    s->cli = cli;
    if (compute_start(&s->compute, &cfg->c, e) || vae_cell(&cell, s->compute.model, e)
        || latent_side("--height", cfg->height, cell, &height, e)
        || latent_side("--width", cfg->width, cell, &width, e)
        || stream_open_kind(&s->in, compute_input(cli, &cfg->c), "conditioning", e))
        return -1;
    SamplerOptions o = {.model = s->compute.model, .type = s->compute.type,
                        .wide = strcmp(cfg->residual, "f32") == 0, .method = cfg->sampler,
                        .steps = (int)cfg->steps, .guidance = cfg->guidance, .batch = (int)cfg->batch,
                        .height = height, .width = width, .strength = strength_of(cfg),
                        .inversion = is_inverted(cfg) ? INVERSION_DDPM : INVERSION_NONE};
    if (sampler_create(&s->sampler, &o, e))
        return -1;
    const Denoiser *denoiser = s->sampler->denoiser;
    const int E = denoiser_text_width(denoiser), P = denoiser_pooled_width(denoiser);
    if (cfg->guidance == 0 && s->sampler->halves == 2)                  /* as of SDXL-Turbo in Python */
        cli_note(cli, "--guidance 0 draws the negative prompt alone; without guidance is --guidance 1");
    return cond_batch_create(&s->batch, s->in, o.batch, E, P, s->compute.id, e)
        || (cfg->init && open_starts(s, e)) ? -1 : 0;
}

int sampling_vae(Sampling *s, Err *e)
{
    return s->vae ? 0 : vae_load(&s->vae, s->compute.model, s->compute.type, e)
                     || vae_takes(s->vae, s->sampler->C, e) ? -1 : 0;
}

int sampling_next(Sampling *s, Err *e)
{
    const int got = cond_batch_next(s->batch, e);
    if (got > 0 && !s->retold && !is_inverted(s->cfg) && cond_batch_retold(s->batch)) {
        cli_note(s->cli, "an init_prompt plays no part without --init and --inversion");
        s->retold = true;
    }
    return got > 0 && s->starts && starts_fill(s->starts, s->batch, e) ? -1 : got;
}

void sampling_close(Sampling *s)
{
    cond_batch_free(s->batch);
    starts_free(s->starts);
    vae_free(s->vae);
    sampler_free(s->sampler);
    stream_close(s->in);
}

void sampling_describe_init(const Sampling *s, json_t *fields)
{
    char init[4096];
    if (!s->cfg->init)
        return;
    snprintf(init, sizeof init, "%s", s->cfg->init);
    utf8_mend(init);
    json_object_set_new(fields, "init", json_string(init));
    json_object_set_new(fields, "strength", json_real(strength_of(s->cfg)));
    json_object_set_new(fields, "inversion", json_string(s->cfg->inversion));
}

void sampling_header(const Sampling *s, const Cli *cli, Record *header, const char *kind)
{
    record_init(header, kind);
    record_set_text(header, "model", s->compute.id);
    record_set_text(header, "sampler", s->sampler->scheduler->method);
    record_set_int(header, "steps", s->cfg->steps);
    record_set_number(header, "guidance", s->cfg->guidance);
    sampling_describe_init(s, header->fields);
    record_provenance(header, s->in, cli_provenance(cli));
}
