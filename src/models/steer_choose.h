/* SPDX-License-Identifier: MIT */
/* steer_choose.h -- the features that a steering changes at one timestep, chosen by labels' ranks or by hand.
 * Private to steer*.c. */
#ifndef SRC_MODELS_STEER_CHOOSE_H
#define SRC_MODELS_STEER_CHOOSE_H

#include "kernels/op_sae.h"
#include "src/models/steer.h"

typedef struct Chosen {
    int32_t feature;
    int label;                      /* place among spec's labels; STEER_LABELS: given by hand */
    float score, multiplier, mean, mean_all, mean_rest, mean_none;
} Chosen;

typedef struct Choice {
    int F;
    Chosen *item;                   /* rising by feature */
    int count;
    int32_t *slot;                  /* [F] place in item, -1: not chosen */
} Choice;

int choice_create(Choice *c, int F, Err *e);
void choice_free(Choice *c);
/* What spec chooses at t. */
int choice_make(Choice *c, const SteerSpec *spec, const Ranks *ranks, int t, Err *e);
/* What becomes of a chosen feature's value (0 where the token does not keep it); set: its label. */
SaeTurn steer_turn(SteerMode mode, const Chosen *x);

#endif
