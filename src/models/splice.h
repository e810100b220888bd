/* SPDX-License-Identifier: MIT */
/* splice.h -- a module's output replaced while pictures are drawn: by an autoencoder's reconstruction, 0, or its mean.
 *
 *     plain     x stays
 *     spliced   x -> x' = decode(encode(x))     nothing of what the autoencoder missed is added back
 *     zero      x -> 0                          zero ablation: the module says nothing
 *     mean      x -> mean of x over the picture's own tokens, at this step and in this half
 *
 *   x (H*W, D) the module's output for one picture, at every step whose timestep lies in options.when
 *
 * Where the autoencoder was trained on output - input, d = output - input stands for x: spliced is input + d', and zero
 * is the input, as if the module were skipped. Each picture's noise is that of its seed in every kind, and a picture
 * depends on its own record only: that is why the mean is not taken over the batch. It keeps what all tokens of the
 * picture share, so it is a milder ablation than the mean over a data set.
 *
 * How far the pictures move under the splice, against zero ablation, is the downstream measure of an autoencoder: see
 * distance.h. In language models it is the cross-entropy recovered (Bricken et al. 2023, Towards Monosemanticity). */
#ifndef SRC_MODELS_SPLICE_H
#define SRC_MODELS_SPLICE_H

#include "src/models/sae.h"
#include "src/models/sampler.h"

typedef enum { SPLICE_PLAIN, SPLICE_SPLICED, SPLICE_ZERO, SPLICE_MEAN, SPLICES } SpliceKind;
extern const char *const splice_names[SPLICES];

typedef struct SpliceOptions {
    const char *sae;                /* folder */
    const char *hook;               /* its module; NULL: as its cfg.json says */
    Half half;                      /* of guidance in which outputs are replaced */
    TRange when;                    /* timesteps at which they are */
    DType type;                     /* of the encoder's product */
} SpliceOptions;

typedef struct Splice Splice;

/* Hooks the sampler's network. Options that would replace nothing are refused. */
int splice_create(Splice **s, Sampler *sampler, const SpliceOptions *options, Err *e);
void splice_free(Splice *s);
const Sae *splice_sae(const Splice *s);
const char *splice_module(const Splice *s);
/* Draws a batch's pictures: latents (batch->count,C,H,W), as sampler_run. SPLICE_PLAIN comes first. */
int splice_draw(Splice *s, SpliceKind kind, const CondBatch *batch, float *latents, Err *e);

#endif
