/* SPDX-License-Identifier: MIT */
/* record_origin.h -- where the values of a record of activations, features or statistics come from: the module, the half
 * of guidance and the timestep. */
#ifndef SRC_MODELS_RECORD_ORIGIN_H
#define SRC_MODELS_RECORD_ORIGIN_H

#include "formats/stream.h"

/* Whether rec is of that half; half: "cond", "uncond" or "both". A record that names none is of cond. */
bool record_of_half(const Record *rec, const char *half);
/* And of that module, as hook_path has it. A record that names none is of the one asked for. */
bool record_of(const Record *rec, const char *hook, const char *half);
/* *t is 0 or more: 0, or -1. */
int record_timestep(const StreamIn *in, const Record *rec, int *t, Err *e);

#endif
