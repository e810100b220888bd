/* SPDX-License-Identifier: MIT */
/* sampling.h -- what sd-sample-hooked and sd-steer have in common: the options of sampling,
 * and what they open for it. */
#ifndef SRC_CLI_SAMPLING_H
#define SRC_CLI_SAMPLING_H

#include "src/cli/compute.h"
#include "src/models/sampler.h"

typedef struct SamplingConfig {     /* first member of such a program's Config */
    Common c;
    const char *sampler;
    int64_t steps, batch, height, width;
    double guidance;
} SamplingConfig;

#define SAMPLING_OPTIONS \
    {0, "steps", OPT_INT, offsetof(SamplingConfig, steps), "25", "N  sampling steps", 0}, \
    {0, "guidance", OPT_NUMBER, offsetof(SamplingConfig, guidance), "4", \
     "G  classifier-free guidance; 1: none; 0: the negative prompt alone", 0}, \
    {0, "sampler", OPT_STR, offsetof(SamplingConfig, sampler), "ddim", \
     "ddim|pndm|dpm++2m|dpm++2m-karras|euler|euler-a  sampling method; dpm++2m-karras: 15 steps for 50", 0}, \
    {0, "height", OPT_INT, offsetof(SamplingConfig, height), "0", \
     "PIXELS  of the picture; 0: what the model was made for", 0}, \
    {0, "width", OPT_INT, offsetof(SamplingConfig, width), "0", \
     "PIXELS  of the picture; 0: what the model was made for", 0}, \
    {0, "batch", OPT_INT, offsetof(SamplingConfig, batch), "16", \
     "N  pictures at once; the result does not depend on it", OPT_NEUTRAL}

typedef struct Sampling {
    const SamplingConfig *cfg;
    Compute compute;
    StreamIn *in;                   /* conditioning */
    CondBatch *batch;
    Sampler *sampler;
} Sampling;

/* Misuse: values out of their range. */
void sampling_check(const Cli *cli, const SamplingConfig *cfg);
/* Opens backend, input, model and sampler, checked against each other. */
int sampling_open(Sampling *s, const Cli *cli, const SamplingConfig *cfg, Err *e);
void sampling_close(Sampling *s);
/* A header of the given kind for what this run writes: model, sampler, steps, guidance, provenance. */
void sampling_header(const Sampling *s, const Cli *cli, Record *header, const char *kind);

#endif
