/* SPDX-License-Identifier: MIT */
/* sae_shards.h -- one autoencoder in training by a team (team.h): rank r of R has the features [F r/R, F (r+1)/R).
 *
 *   a rank's own         its rows of W_enc, W_dec, b_enc, their moments, when its features last fired
 *   in all ranks alike   b_dec and its moments, the batch, all sums, and so every decision
 *
 * A step: each rank encodes the batch with its features; the ranks' K largest values are gathered, and each keeps of
 * its own what is among the K largest of all: the very choice of one device. It decodes those, the parts are summed
 * over the ranks (rank 0's has b_dec), and gradients and updates are its own again; summed too are b_dec's gradient,
 * which goes through W_enc, and the squares that decide on clipping. So a training differs from that of one device by
 * the order of sums of R parts, and by nothing else; twice the same ranks give the same bytes.
 *
 * Rank 0 calls the trainer as sae_train.h says, and each call orders the others to do the same to their part. */
#ifndef SRC_MODELS_SAE_SHARDS_H
#define SRC_MODELS_SAE_SHARDS_H

#include "kernels/team.h"
#include "src/models/sae_train.h"

/* What cannot be trained in shards, as text; NULL: nothing is in the way. Of the options as they are given. */
const char *shards_refuse(const TrainOptions *o);
/* In rank 0: memory of the host until the process ends, from which all ranks can take a batch (trainer_step's x; from
 * elsewhere it is copied). When a step returns all have read it. NULL: there is none */
void *shards_space(Team *team, size_t bytes, Err *e);
/* In a rank other than 0, whose backend has joined the team: does what rank 0's trainers order until shards_end. */
int shards_serve(Team *team, Err *e);
/* In rank 0: the others return from shards_serve. */
void shards_end(Team *team);

#endif
