/* SPDX-License-Identifier: MIT */
/* steer.h -- steering activations through an autoencoder: which features change at a timestep, and to what.
 *
 *   x' = x + sum_j (new_j - a_j) W_dec[i_j]
 *
 * over the kept features j of each token; for add and set over all chosen ones. With a mask, a token of mask value m in
 * [0, 1] gets m times its change.
 *
 * Modes, for a chosen feature of value a whose means at the timestep are m (of the label), mean_all, mean_rest and
 * mean_none as ranks.h has them, M = multiplier; where the condition does not hold, a stays:
 *   multiply    a > mean_all:   a -> M * m * a     (SAeUron's: M is negative to remove)
 *   replace     a > mean_all:   a -> M * m
 *   scale       a > 0:          a -> M * a
 *   ablate      a > 0:          a -> 0
 *   clamp       a > max(M * m, 0):  a -> M * m
 *   others      a > mean_rest:  a -> mean_rest     what pictures of the other labels have
 *   unlabelled  a > mean_none:  a -> mean_none     what pictures without a label have
 *   set         always:         a -> M * m         also where the token does not keep the feature (a = 0), as does
 *   add         always:         a -> a + M * m
 *   only        always:         a -> M * m         and nothing else is left: x' = b_dec + sum M * m W_dec, what the
 *                                                  features are by themselves; not with a mask
 * A feature given by hand has M = its value, m = 1 and the other means 0. A feature that several labels choose is
 * steered once, by the means of the label with the highest score (on a tie the one named first); with compat_saeuron by
 * those of the one named last, as there.
 *
 * With a gate G, a picture is steered for a label only once its conditional half shows the label: once, at some step so
 * far, the mean over its tokens of the label's chosen features has summed to more than
 *     sum_f mean_rest(f) + G (mean(f) - mean_rest(f))
 * so that what single tokens of other pictures have in common with the label is left alone. 0: no gate. Features given
 * by hand are steered in every picture.
 *
 * Only the change is added, so a steering that changes nothing gives x back bit for bit. compat_saeuron is SAeUron's
 * published hook instead, y = recon' + (recon - x), whose error term has the wrong sign: doing nothing gives
 * 2 recon - x. */
#ifndef SRC_MODELS_STEER_H
#define SRC_MODELS_STEER_H

#include <stdbool.h>
#include "src/models/ranks.h"
#include "src/models/sae.h"
#include "src/models/t_range.h"

typedef enum {
    STEER_MULTIPLY, STEER_SCALE, STEER_ABLATE, STEER_CLAMP, STEER_SET, STEER_ADD, STEER_REPLACE, STEER_OTHERS,
    STEER_UNLABELLED, STEER_ONLY, STEER_MODES
} SteerMode;

typedef struct SteerSpec {
    SteerMode mode;
    double multiplier;
    int top;                        /* features taken a label and timestep; 0: by percentile */
    double percentile;              /* of all F scores: score > quantile is taken, as torch.quantile (linear) has it */
    const char *kind;               /* "concept", "theme" */
    const char *const *labels;      /* steered at once */
    int label_count;
    const int32_t *feature;         /* given by hand, with values, at every timestep (--feature I=VALUE) */
    const float *value;
    int feature_count;
    TRange when;                    /* --when: timesteps steered */
    double gate;                    /* 0: none */
    bool compat_saeuron;
} SteerSpec;

enum { STEER_LABELS = 63 };         /* labels of one steering, at most: a bit each */

typedef struct Steering Steering;

int steer_mode(SteerMode *mode, const char *name, Err *e);      /* "multiply", ... */
const char *steer_mode_name(SteerMode mode);
/* Plans the steering of one autoencoder: sae and ranks stay the caller's (ranks NULL when only features are given).
 * Checks that ranks were made with this SAE. spec is copied, its labels and features too. */
int steering_create(Steering **s, const SteerSpec *spec, Sae *sae, const Ranks *ranks, Err *e);
void steering_free(Steering *s);
/* Timestep of the steps that follow; builds the table of changed features. Returns 1 when something is steered there, 0
 * when not, -1 on error. With compat_saeuron something always is, inside --when. */
int steering_set_step(Steering *s, int t, Err *e);
/* From now on row n of x is token n % tokens, whose change is multiplied by mask[n % tokens], 0 to 1: bit for bit no
 * change at 0, all of it at 1. mask (tokens) stays the caller's; NULL: none. Not with compat_saeuron or STEER_ONLY. */
void steering_mask(Steering *s, const float *mask, int64_t tokens);
/* x (N,D) device rows, in place. A row's result depends on that row and its mask alone. */
int steering_apply(Steering *s, float *x, int64_t N, Err *e);
/* The same for some of the labels: bit l stands for spec's label l. */
int steering_apply_labels(Steering *s, uint64_t labels, float *x, int64_t N, Err *e);
/* Whether a gate stands before the labels' steering. */
bool steering_gated(const Steering *s);
/* Whether every picture may be steered, whatever shows: without a gate, and with features given by hand, before which
 * none stands. */
bool steering_always(const Steering *s);
/* Sets bit l of shown[p] where picture p of x (pictures*tokens, D) shows label l at this step; sets no bit back. Waits
 * for the device, unless all bits are set already. */
int steering_gate(Steering *s, const float *x, int64_t pictures, int64_t tokens, uint64_t *shown, Err *e);
/* The same from codes made by sae_encode: a, i (pictures*tokens, K) in host memory. */
void steering_gate_codes(Steering *s, const float *a, const int32_t *i, int64_t pictures, int64_t tokens,
                         uint64_t *shown);
/* The features chosen at the current step in rising order, for records and reports: up to max, returns the count. */
int steering_features(const Steering *s, int32_t *feature, int max);

#endif
