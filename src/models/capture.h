/* SPDX-License-Identifier: MIT */
/* capture.h -- keeps what hooked modules compute while a batch is drawn, and writes it picture by picture.
 *
 * A batch's activations stay on the device until its last step, in the type of the stream, so that the records come in
 * one order whatever the batch: picture, then step, then hook, then half (uncond, cond). Memory:
 * batch * steps * hooks * halves * H*W*C; twice that, where there is room, on a device that draws the next batch while
 * this one is written. */
#ifndef SRC_MODELS_CAPTURE_H
#define SRC_MODELS_CAPTURE_H

#include <stdio.h>
#include "src/models/sampler.h"

typedef enum { TAKE_OUTPUT, TAKE_INPUT, TAKE_DIFF } Take;
int take_parse(Take *take, const char *name, Err *e);
const char *take_name(Take take);

typedef struct CaptureOptions {
    const char *const *patterns;    /* module paths or globs */
    int pattern_count;
    Take take;
    Half half;
    DType type;                     /* of the stream: F32, F16, BF16; I8: with a scale a token (act_tensor.h) */
    int every;                      /* keep every n-th step, from the first */
    TRange when;                    /* keep these timesteps */
    int tokens;                     /* kept of each activation, 0: all */
} CaptureOptions;

typedef struct Capture Capture;

int capture_create(Capture **c, Sampler *s, const CaptureOptions *options, Err *e);
void capture_free(Capture *c);
/* Header fields: hooks [paths], take, half, and the like. */
void capture_describe(const Capture *c, Record *header);
/* After a picture's first step: what `pictures` of them would be written as, a table for f. Tab-separated: hook, shape
 * and type of an act, records, bytes of tensors before compression; last, all. */
void capture_print_sizes(const Capture *c, long long pictures, FILE *f);
/* Takes over the batch just drawn, whose records go to out: at once, or while the next one is drawn (capture_step). Its
 * activations must have been waited for, as sampler_run has. out stays open until capture_finish. */
int capture_write(Capture *c, const CondBatch *batch, StreamOut *out, Err *e);
/* StepFn of the next batch: writes some of the records of the one before. context: the Capture. */
int capture_step(void *context, Sampler *s, Err *e);
/* Writes what is left of them. */
int capture_finish(Capture *c, Err *e);

#endif
