/* SPDX-License-Identifier: MIT */
/* comm.c -- ranks that are processes on the same processors: a SLOT for each in shared memory, through which values
 * pass piece by piece. The slots are there twice and taken in turns, as team.c's boards are: one barrier a piece. */
#include <string.h>
#include "kernels/cpu/cpu.h"

enum { SLOT = 1 << 20 };

static struct { Team *team; char *slots; int turn; } comm;

static int join(Team *team, Err *e)
{
    comm.team = team;
    comm.slots = team_share(team, 2*(size_t)SLOT*(size_t)team_ranks(team), e);
    return comm.slots ? 0 : -1;
}

/* The ranks' next n <= SLOT bytes, SLOT apart: good until the next call but one. */
static const char *exchange(const void *from, size_t n)
{
    char *slots = comm.slots + (size_t)comm.turn*SLOT*(size_t)team_ranks(comm.team);
    memcpy(slots + (size_t)team_rank(comm.team)*SLOT, from, n);
    team_barrier(comm.team);
    comm.turn ^= 1;
    return slots;
}

static void all_gather(void *to, const void *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += SLOT) {
        const size_t n = bytes - at < SLOT ? bytes - at : SLOT;
        const char *slots = exchange((const char *)from + at, n);
        for (size_t r = 0; r < (size_t)team_ranks(comm.team); r++)
            memcpy((char *)to + r*bytes + at, slots + r*SLOT, n);
    }
}

#define SUM(name, type)                                                                                                \
    static void name(type *x, int64_t n)                                                                               \
    {                                                                                                                  \
        const int64_t most = SLOT/(int64_t)sizeof *x;                                                                  \
        for (int64_t at = 0; at < n; at += most) {                                                                     \
            const int64_t part = n - at < most ? n - at : most;                                                        \
            const char *slots = exchange(x + at, sizeof *x*(size_t)part);                                              \
            memcpy(x + at, slots, sizeof *x*(size_t)part);                                                             \
            for (int r = 1; r < team_ranks(comm.team); r++) {                                                          \
                const type *other = (const type *)(slots + (size_t)r*SLOT);                                            \
                for (int64_t j = 0; j < part; j++)                                                                     \
                    x[at + j] += other[j];                                                                             \
            }                                                                                                          \
        }                                                                                                              \
    }
SUM(sum_floats, float)
SUM(sum_doubles, double)

static void *share_host(size_t bytes, Err *e)
{
    return team_share(comm.team, bytes, e);
}

void cpu_comm_ops(CommOps *ops)
{
    ops->join = join;
    ops->all_gather = all_gather;
    ops->sum_floats = sum_floats;
    ops->sum_doubles = sum_doubles;
    ops->share_host = share_host;
}
