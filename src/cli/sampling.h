/* SPDX-License-Identifier: MIT */
/* sampling.h -- what sd-sample-hooked and sd-steer have in common: the options of sampling,
 * and what they open for it. */
#ifndef SRC_CLI_SAMPLING_H
#define SRC_CLI_SAMPLING_H

#include "src/cli/compute.h"
#include "src/models/sampler.h"
#include "src/models/starts.h"

typedef struct SamplingConfig {     /* first member of such a program's Config */
    Common c;
    const char *sampler, *init, *inversion, *residual;
    int64_t steps, batch, height, width;
    double guidance, strength;
} SamplingConfig;

#define SAMPLING_OPTIONS \
    {0, "steps", OPT_INT, offsetof(SamplingConfig, steps), "25", "N  sampling steps", 0}, \
    {0, "guidance", OPT_NUMBER, offsetof(SamplingConfig, guidance), "4", \
     "G  classifier-free guidance; 1: none; 0: the negative prompt alone", 0}, \
    {0, "sampler", OPT_STR, offsetof(SamplingConfig, sampler), "auto", \
     "auto|ddim|pndm|dpm++2m|dpm++2m-karras|unipc|unipc-karras|euler|euler-a|lcm  sampling method; auto: ddim, and " \
     "euler where the model matches flows (Stable Diffusion 3); dpm++2m-karras, unipc-karras: 15 steps for 50", 0}, \
    {0, "init", OPT_STR, offsetof(SamplingConfig, init), NULL, \
     "DIR  begin with pictures: record ID with DIR/ID.png (or .jpg); or all with one FILE.png", 0}, \
    {0, "strength", OPT_NUMBER, offsetof(SamplingConfig, strength), "0", \
     "S  with --init: share of the steps that are taken; 0: 0.8, with an inversion 1", 0}, \
    {0, "inversion", OPT_STR, offsetof(SamplingConfig, inversion), "none", \
     "none|ddpm  with --init: ddpm: the pictures stay what they are, but for what is steered", 0}, \
    {0, "height", OPT_INT, offsetof(SamplingConfig, height), "0", \
     "PIXELS  of the picture; 0: what the model was made for", 0}, \
    {0, "width", OPT_INT, offsetof(SamplingConfig, width), "0", \
     "PIXELS  of the picture; 0: what the model was made for", 0}, \
    {0, "residual", OPT_STR, offsetof(SamplingConfig, residual), "auto", \
     "auto|f32  type of a UNet's residual stream beside --dtype bf16 and f16; auto: f16 where the GPU is faster with " \
     "it, for values under 65504", 0}, \
    {0, "batch", OPT_INT, offsetof(SamplingConfig, batch), "16", \
     "N  pictures at once; the result does not depend on it", OPT_NEUTRAL}

typedef struct Sampling {
    const SamplingConfig *cfg;
    Compute compute;
    StreamIn *in;                   /* conditioning */
    CondBatch *batch;
    Sampler *sampler;
    Vae *vae;                       /* sampling_vae's */
    Starts *starts;                 /* of --init, or NULL */
    const Cli *cli;
    bool retold;                    /* that a text of a picture to begin with plays no part has been said */
} Sampling;

/* Misuse: values out of their range. */
void sampling_check(const Cli *cli, const SamplingConfig *cfg);
/* Misuse: --latents over a file that is read: an input, the picture of --init, the mask of --where, or one of more.
 * Each may be NULL. */
void sampling_check_latents(const Cli *cli, const SamplingConfig *cfg, const char *latents, const char *where,
                            const List *more);
/* Before anything is loaded: that pictures may go to a path (pictures_check; NULL: none do), which is no folder of
 * pictures to begin with. */
int sampling_check_pictures(const SamplingConfig *cfg, const char *pictures, Err *e);
/* Opens backend, input, model and sampler, checked against each other. */
int sampling_open(Sampling *s, const Cli *cli, const SamplingConfig *cfg, Err *e);
void sampling_close(Sampling *s);
/* Loads s->vae, where that is not done yet, and checks it against the network's latents. */
int sampling_vae(Sampling *s, Err *e);
/* The next batch, with the pictures that it begins with. Returns as cond_batch_next. */
int sampling_next(Sampling *s, Err *e);
/* Adds to fields what pictures the run begins with, and how: init, strength, inversion; nothing without --init. */
void sampling_describe_init(const Sampling *s, json_t *fields);
/* A header of the given kind for what this run writes: model, sampler, steps, guidance, those, provenance. */
void sampling_header(const Sampling *s, const Cli *cli, Record *header, const char *kind);

#endif
