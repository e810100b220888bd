/* SPDX-License-Identifier: MIT */
/* nccl.h -- what kernels/cuda/comm.cu uses of NCCL, for the host (fake_nccl.cc). Names are NVIDIA's; values and
 * structures are ours, but for the id, which is copied about as bytes. */
#ifndef TESTS_SIMT_NCCL_H
#define TESTS_SIMT_NCCL_H

#include <stddef.h>
#include <stdint.h>
#include "tests/simt/simt.h"

enum ncclResult_t { ncclSuccess, ncclInvalidArgument = 4, ncclInvalidUsage = 5 };
enum ncclDataType_t { ncclUint8 = 1 };
struct ncclUniqueId { char internal[128]; };
typedef struct FakeComm *ncclComm_t;

extern "C" {
ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank);
ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream);
ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream);
ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);
const char *ncclGetErrorString(ncclResult_t status);
}
extern int simt_nccl_gathers, simt_nccl_groups;         /* calls of this process that moved something */

#endif
