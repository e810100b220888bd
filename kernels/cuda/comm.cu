/* SPDX-License-Identifier: MIT */
/* comm.cu -- devices of one machine: NCCL carries the bytes, the sums are made here.
 *
 *     x = x_0 + x_1 + ... by rank      few values: every rank gathers all of them, and sums
 *                                      many: rank r gets piece r of each rank's, sums it, and all gather the sums
 *
 * The second way is what an all-reduce by rings moves too, 2 n (R-1)/R values a rank, and two more passes over n values
 * in memory. NCCL's own sum would save those; but its order depends on the algorithm that NCCL chooses for a size and a
 * machine, and that every rank gets the same bytes is nowhere promised. On these bytes the ranks decide alike.
 *
 * NCCL is opened when a team is joined. One communicator a process, on gpu_stream; it ends with the process. A peer
 * that dies is not waited for here: team.h ends all ranks. NCCL user guide, 2.x; built without nccl.h there is no
 * NCCL. */
#include "kernels/cuda/library.h"

#if __has_include(<nccl.h>)
#include <nccl.h>

enum { FEW = 1 << 20, EACH = 256, ALIGNED = 64 };   /* FEW: bytes of all ranks' values together */

#define EACH_FUNCTION(f)                                                                                               \
    f(ncclGetUniqueId) f(ncclCommInitRank) f(ncclAllGather) f(ncclSend) f(ncclRecv) f(ncclGroupStart) f(ncclGroupEnd)  \
    f(ncclGetErrorString)

/* NCCL's functions, under their own names. */
static struct Nccl {
#define MEMBER(name) decltype(&::name) name;
    EACH_FUNCTION(MEMBER)
    ncclComm_t comm;
} nccl;

static Team *team;

#define nccl_check(call)                                                                                               \
    do {                                                                                                               \
        const ncclResult_t status_ = (call);                                                                           \
        if (status_ != ncclSuccess)                                                                                    \
            gpu_fail(__FILE__, __LINE__, #call, nccl.ncclGetErrorString(status_));                                     \
    } while (0)

static int join(Team *joined, Err *e)
{
    void *library = library_wanted() ? library_open("libnccl.so.2") : NULL;
    if (!library)
        return err_set(e, "several GPUs need NCCL, and libnccl.so.2 is not installed, or not wanted");
#define FIND(name)                                                                                                     \
    if (!library_find(library, #name, (void **)&nccl.name))                                                            \
        return err_set(e, "libnccl.so.2 has no " #name);
    EACH_FUNCTION(FIND)
    ncclUniqueId id = {};
    team = joined;
    if (team_rank(team) == 0)
        nccl_check(nccl.ncclGetUniqueId(&id));
    team_broadcast(team, &id, sizeof id);
    nccl_check(nccl.ncclCommInitRank(&nccl.comm, team_ranks(team), id, team_rank(team)));
    return 0;
}

static void all_gather(void *to, const void *from, size_t bytes)
{
    nccl_check(nccl.ncclAllGather(from, to, bytes, ncclUint8, nccl.comm, gpu_stream));
}

/* A thread a value: y[j] = sum over ranks of x (R,stride), by rank */
template <typename T> static __global__ void sum_ranks(T *y, const T *x, int64_t n, int64_t stride, int ranks)
{
    const int64_t j = thread_number();
    if (j >= n)
        return;
    T sum = x[j];
    for (int r = 1; r < ranks; r++)
        sum += x[r*stride + j];
    y[j] = sum;
}

/* Of n values cut into pieces: how many piece p has. */
static int64_t piece_length(int64_t n, int64_t piece, int p)
{
    const int64_t left = n - p*piece;
    return left < 0 ? 0 : left < piece ? left : piece;
}

/* parts (R,piece) = this rank's piece of every rank's x */
template <typename T> static void exchange_pieces(T *parts, const T *x, int64_t n, int64_t piece)
{
    const int rank = team_rank(team), ranks = team_ranks(team);
    const int64_t mine = piece_length(n, piece, rank);
    nccl_check(nccl.ncclGroupStart());
    for (int r = 0; r < ranks; r++) {
        const int64_t theirs = piece_length(n, piece, r);
        if (theirs && r != rank)
            nccl_check(nccl.ncclSend(x + r*piece, sizeof *x*(size_t)theirs, ncclUint8, r, nccl.comm, gpu_stream));
        if (mine && r != rank)
            nccl_check(nccl.ncclRecv(parts + r*piece, sizeof *x*(size_t)mine, ncclUint8, r, nccl.comm, gpu_stream));
    }
    nccl_check(nccl.ncclGroupEnd());
    if (mine)
        gpu_check(cudaMemcpyAsync(parts + rank*piece, x + rank*piece, sizeof *x*(size_t)mine, cudaMemcpyDeviceToDevice,
                                  gpu_stream));
}

template <typename T> static void sum(T *x, int64_t n)
{
    const int rank = team_rank(team), ranks = team_ranks(team);
    const bool few = ranks*n*(int64_t)sizeof *x <= FEW;
    const int64_t piece = few ? n : ((n + ranks - 1)/ranks + ALIGNED - 1)/ALIGNED*ALIGNED;
    const int64_t mine = few ? n : piece_length(n, piece, rank);
    T *parts = (T *)gpu_scratch(SCRATCH_OP, 2*sizeof *x*(size_t)(piece*ranks)), *sums = parts + piece*ranks;
    if (few) {
        all_gather(parts, x, sizeof *x*(size_t)n);
        LAUNCH(sum_ranks<T>, gpu_blocks(n, EACH), EACH, 0, x, parts, n, n, ranks);
        return;
    }
    exchange_pieces(parts, x, n, piece);
    LAUNCH(sum_ranks<T>, gpu_blocks(mine, EACH), EACH, 0, sums + rank*piece, parts, mine, piece, ranks);
    all_gather(sums, sums + rank*piece, sizeof *x*(size_t)piece);       /* in place, as NCCL takes it */
    gpu_check(cudaMemcpyAsync(x, sums, sizeof *x*(size_t)n, cudaMemcpyDeviceToDevice, gpu_stream));
}

static void sum_floats(float *x, int64_t n)
{
    sum(x, n);
}

static void sum_doubles(double *x, int64_t n)
{
    sum(x, n);
}

/* Pinned by each process, so that a device copies from it by itself. */
static void *share_host(size_t bytes, Err *e)
{
    void *p = team_share(team, bytes, e);
    if (p)
        gpu_check(cudaHostRegister(p, bytes, cudaHostRegisterDefault));
    return p;
}

void cuda_comm_ops(CommOps *ops)
{
    ops->join = join;
    ops->all_gather = all_gather;
    ops->sum_floats = sum_floats;
    ops->sum_doubles = sum_doubles;
    ops->share_host = share_host;
}

#else

static int join(Team *, Err *e)
{
    return err_set(e, "several GPUs need NCCL, without whose nccl.h the backend was built");
}

void cuda_comm_ops(CommOps *ops)
{
    ops->join = join;
}

#endif
