/* SPDX-License-Identifier: MIT */
/* fake_nccl.cc -- NCCL as its manual describes it, between processes of the host, for kernels/cuda/comm.cu.
 *
 * Ranks are processes that know nothing of each other but the id: it names memory of the one that made it, which all
 * map, as NCCL's id names a socket. Each writes down what it asks for, all wait for each other, and then each compares
 * it with the others': NCCL would hang, or read what is not there, where the counts of a gather differ, where a send
 * has no receive of the same size, or where a rank that was never given the id joins. It refuses buffers that overlap,
 * but for the gather in place, and peers that are not there. */
#include <atomic>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tests/simt/nccl.h"

enum { RANKS = 8 };
static const size_t ROOM = 4 << 20;     /* bytes that a rank has under way */

typedef struct Ask { size_t bytes, at; } Ask;           /* at: in the rank's room */
typedef struct Meeting {
    std::atomic<int> here, turn, joined;
    ncclUniqueId id;
    size_t gather[RANKS];
    Ask send[RANKS][RANKS];             /* from, to */
    char room[RANKS][ROOM];
} Meeting;

struct FakeComm { int rank, ranks; };
typedef struct Pending { void *to; size_t bytes; } Pending;

static struct FakeComm one;
static Pending wanted[RANKS];           /* receives of the group, by peer */
static size_t used;
static bool in_group;
int simt_nccl_gathers, simt_nccl_groups;

static Meeting *meeting;

/* Of a file in memory, which the mapping keeps. */
static Meeting *map_meeting(int file)
{
    void *p = mmap(NULL, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (p == MAP_FAILED)
        simt_fail("no memory for NCCL's meeting");
    return (Meeting *)p;
}

static void meet()
{
    const int turn = meeting->turn;
    if (++meeting->here == one.ranks) {
        meeting->here = 0;
        meeting->turn++;
    } else
        while (meeting->turn == turn)
            sched_yield();
}

/* The file stays open until the process ends, for the others to find it. */
ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    const int file = memfd_create("nccl", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, sizeof(Meeting)) != 0)
        simt_fail("no memory for NCCL's meeting");
    *id = {};
    snprintf(id->internal, sizeof id->internal, "/proc/%d/fd/%d", (int)getpid(), file);
    map_meeting(file)->id = *id;
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank)
{
    id.internal[sizeof id.internal - 1] = 0;
    const int file = open(id.internal, O_RDWR | O_CLOEXEC);
    if (rank < 0 || rank >= ranks || ranks > RANKS || file < 0)
        return ncclInvalidArgument;
    meeting = map_meeting(file);
    close(file);
    if (memcmp(&id, &meeting->id, sizeof id) != 0)
        return ncclInvalidArgument;
    one = {rank, ranks};
    if (meeting->joined.fetch_or(1 << rank) & 1 << rank)
        return ncclInvalidUsage;
    meet();
    *comm = &one;
    return ncclSuccess;
}

static bool apart(const void *a, const void *b, size_t a_bytes, size_t b_bytes)
{
    return (const char *)a + a_bytes <= (const char *)b || (const char *)b + b_bytes <= (const char *)a;
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t)
{
    if (comm != &one || type != ncclUint8 || in_group)
        return ncclInvalidUsage;
    char *mine = (char *)to + one.rank*count;
    if (from != mine && !apart(from, to, count, count*one.ranks))
        return ncclInvalidArgument;
    simt_nccl_gathers += count > 0;
    meeting->gather[one.rank] = count;
    for (size_t at = 0; at < count || at == 0; at += ROOM) {
        const size_t n = count - at < ROOM ? count - at : ROOM;
        memcpy(meeting->room[one.rank], (const char *)from + at, n);
        meet();
        for (int r = 0; r < one.ranks; r++) {
            if (meeting->gather[r] != count)
                simt_fail("ncclAllGather of %zu bytes by rank %d, of %zu by rank %d", count, one.rank,
                          meeting->gather[r], r);
            memcpy((char *)to + r*count + at, meeting->room[r], n);
        }
        meet();
    }
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void)
{
    if (in_group)
        return ncclInvalidUsage;
    in_group = true;
    used = 0;
    for (int r = 0; r < one.ranks; r++) {
        meeting->send[one.rank][r] = {0, 0};
        wanted[r] = {NULL, 0};
    }
    return ncclSuccess;
}

/* Only in a group here: one by one, two ranks that both send first would wait for ever. */
ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t)
{
    if (comm != &one || type != ncclUint8 || !in_group)
        return ncclInvalidUsage;
    if (peer < 0 || peer >= one.ranks || peer == one.rank || count == 0 || meeting->send[one.rank][peer].bytes)
        return ncclInvalidArgument;
    if (used + count > ROOM)
        simt_fail("more than %d bytes are sent in a group", (int)ROOM);
    meeting->send[one.rank][peer] = {count, used};
    memcpy(meeting->room[one.rank] + used, from, count);
    used += count;
    return ncclSuccess;
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t)
{
    if (comm != &one || type != ncclUint8 || !in_group)
        return ncclInvalidUsage;
    if (peer < 0 || peer >= one.ranks || peer == one.rank || count == 0 || wanted[peer].bytes)
        return ncclInvalidArgument;
    wanted[peer] = {to, count};
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (!in_group)
        return ncclInvalidUsage;
    in_group = false;
    simt_nccl_groups += used > 0;
    meet();
    for (int r = 0; r < one.ranks; r++) {
        const Ask sent = meeting->send[r][one.rank];
        if (sent.bytes != wanted[r].bytes)
            simt_fail("rank %d sends %zu bytes to rank %d, which wants %zu", r, sent.bytes, one.rank, wanted[r].bytes);
        if (sent.bytes)
            memcpy(wanted[r].to, meeting->room[r] + sent.at, sent.bytes);
    }
    meet();
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t status)
{
    return status == ncclSuccess ? "no error" : status == ncclInvalidArgument ? "invalid argument" : "invalid usage";
}
