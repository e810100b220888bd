/* SPDX-License-Identifier: MIT */
/* sampling.c -- opening what a sampling program needs. */
#include "src/cli/sampling.h"
#include "src/models/vae.h"

enum { SIDE_STEP = 8, SIDE_MAX = 8192 };            /* of pictures, as diffusers' pipeline wants them */

void sampling_check(const Cli *cli, const SamplingConfig *cfg)
{
    const int64_t H = cfg->height, W = cfg->width;
    if (cfg->batch < 1 || cfg->batch > 4096)
        cli_misuse(cli, "--batch %lld is not between 1 and 4096", (long long)cfg->batch);
    if (cfg->steps < 1 || cfg->steps > 1000)
        cli_misuse(cli, "--steps %lld is not between 1 and 1000", (long long)cfg->steps);
    if (H % SIDE_STEP || W % SIDE_STEP || H < 0 || W < 0 || H > SIDE_MAX || W > SIDE_MAX)
        cli_misuse(cli, "--height and --width are multiples of %d, to %d", SIDE_STEP, SIDE_MAX);
}

/* A side of the latent from one of the picture. */
static int latent_side(const char *option, int64_t pixels, int cell, int *side, Err *e)
{
    *side = (int)(pixels / cell);
    return pixels % cell == 0 ? 0
        : err_set(e, "%s %lld: the model's VAE makes pictures in steps of %d pixels", option, (long long)pixels, cell);
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
                        .height = height, .width = width};
    if (sampler_create(&s->sampler, &o, e))
        return -1;
    if (unet_pooled_width(s->sampler->unet) && cfg->guidance == 0)      /* as diffusers' users write it of SDXL-Turbo */
        cli_note(cli, "--guidance 0 draws the negative prompt alone; without guidance is --guidance 1");
    return cond_batch_create(&s->batch, s->in, o.batch, unet_text_width(s->sampler->unet),
                             unet_pooled_width(s->sampler->unet), s->compute.id, e);
}

void sampling_close(Sampling *s)
{
    cond_batch_free(s->batch);
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
    record_provenance(header, s->in, cli_provenance(cli));
}
