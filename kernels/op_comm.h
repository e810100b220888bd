/* SPDX-License-Identifier: MIT */
/* op_comm.h -- what devices do together, in a backend's table: each is a rank of a team (team.h), a process of its own.
 *
 * Every rank calls the same ones in the same order, with the same sizes. They run on device memory, in order with the
 * other ops, and nobody waits for them before op->download. A sum is ((x_0 + x_1) + x_2) + ... by rank in the type of
 * its values, whatever carries them between the devices: all ranks get the same bytes, every time. */
#ifndef KERNELS_OP_COMM_H
#define KERNELS_OP_COMM_H

#include <stddef.h>
#include <stdint.h>
#include "formats/err.h"
#include "kernels/team.h"

typedef struct CommOps {
    /* Once, before the others, in every rank: the device is its rank's of the team. */
    int (*join)(Team *team, Err *e);
    /* to (R,bytes) = the ranks' from (bytes), one after another */
    void (*all_gather)(void *to, const void *from, size_t bytes);
    void (*sum_floats)(float *x, int64_t n);            /* x[j] = the sum of the ranks' x[j] */
    void (*sum_doubles)(double *x, int64_t n);
    /* Memory of the host that all ranks see, as from alloc_host else, until the process ends. NULL: there is none */
    void *(*share_host)(size_t bytes, Err *e);
} CommOps;

#endif
