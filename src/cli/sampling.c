/* SPDX-License-Identifier: MIT */
/* sampling.c -- opening what a sampling program needs. */
#include <string.h>
#include "src/cli/sampling.h"
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
        cli_misuse(cli, "--strength %g does not lie between 0 and 1", strength);
    if ((int)((double)cfg->steps*strength) < 1)
        cli_misuse(cli, "--strength %g of %lld steps is none", strength, (long long)cfg->steps);
    if (is_inverted(cfg) && strcmp(cfg->sampler, "ddim") != 0)
        cli_misuse(cli, "--inversion ddpm goes by --sampler ddim's timesteps, not %s's", cfg->sampler);
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
    if (compute_start(&s->compute, &cfg->c, e) || vae_cell(&cell, s->compute.model, e)
        || latent_side("--height", cfg->height, cell, &height, e)
        || latent_side("--width", cfg->width, cell, &width, e)
        || stream_open_kind(&s->in, compute_input(cli, &cfg->c), "conditioning", e))
        return -1;
    SamplerOptions o = {.model = s->compute.model, .type = s->compute.type, .method = cfg->sampler,
                        .steps = (int)cfg->steps, .guidance = cfg->guidance, .batch = (int)cfg->batch,
                        .height = height, .width = width, .strength = strength_of(cfg),
                        .inversion = is_inverted(cfg) ? INVERSION_DDPM : INVERSION_NONE};
    if (sampler_create(&s->sampler, &o, e))
        return -1;
    if (unet_pooled_width(s->sampler->unet) && cfg->guidance == 0)      /* as diffusers' users write it of SDXL-Turbo */
        cli_note(cli, "--guidance 0 draws the negative prompt alone; without guidance is --guidance 1");
    return cond_batch_create(&s->batch, s->in, o.batch, unet_text_width(s->sampler->unet),
                             unet_pooled_width(s->sampler->unet), s->compute.id, e)
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

void sampling_header(const Sampling *s, const Cli *cli, Record *header, const char *kind)
{
    record_init(header, kind);
    record_set_text(header, "model", s->compute.id);
    record_set_text(header, "sampler", s->cfg->sampler);
    record_set_int(header, "steps", s->cfg->steps);
    record_set_number(header, "guidance", s->cfg->guidance);
    if (s->cfg->init) {
        record_set_text(header, "init", s->cfg->init);
        record_set_number(header, "strength", strength_of(s->cfg));
        record_set_text(header, "inversion", s->cfg->inversion);
    }
    record_provenance(header, s->in, cli_provenance(cli));
}
