/* SPDX-License-Identifier: MIT */
/* sampler_parts.h -- what sampler.c asks of sampler_text.c, its texts, and of sampler_own.c, pictures that are there
 * before they are drawn, and of sampler_waypoints.c. */
#ifndef SRC_MODELS_SAMPLER_PARTS_H
#define SRC_MODELS_SAMPLER_PARTS_H

#include "src/models/sampler.h"

/* Gives the network the texts of the run's pictures, of S tokens. */
int sampler_set_text(Sampler *s, const CondBatch *b, int S, Err *e);
/* The first picture of the batch that is drawn of the same as picture i: i itself, where none before it is. */
int sampler_twin(const Sampler *s, const CondBatch *b, int i);

/* s->planes (n,C,H,W) = the next noise of each picture's seed. */
void sampler_draw_noise(Sampler *s);
/* x (n,H,W,C) device = s->planes. */
void sampler_put(Sampler *s, float *x);
/* x (n,H,W,C) device = the run's pictures to begin with, with the next noise of each one's seed, as before the current
 * step. */
void sampler_put_noised(Sampler *s, const CondBatch *b, float *x);

/* An inversion: its memory; then of each run the beginning, x before the evaluation of a step, what follows from the
 * evaluation, and x at the end. */
int sampler_own_create(Sampler *s, Err *e);
void sampler_own_free(Sampler *s);
void sampler_own_begin(Sampler *s);
void sampler_own_before(Sampler *s, const CondBatch *b);
void sampler_own_after(Sampler *s, const CondBatch *b);
void sampler_own_end(Sampler *s, const CondBatch *b);

void sampler_waypoints_free(Sampler *s);
/* Before a step: keeps what the run has, where the step is a waypoint up to s->leave. */
void sampler_leave(Sampler *s, const CondBatch *b);
/* From the beginning of a run to waypoint s->from, which an earlier one has left. */
void sampler_resume(Sampler *s, const CondBatch *b);

#endif
