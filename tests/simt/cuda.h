/* SPDX-License-Identifier: MIT */
/* cuda.h -- what kernels/cuda uses of the driver's tensor maps, for the host (hopper.cc). Names are NVIDIA's; values
 * and structures are ours. */
#ifndef TESTS_SIMT_CUDA_H
#define TESTS_SIMT_CUDA_H

#include "tests/simt/simt.h"

typedef uint64_t cuuint64_t;
typedef uint32_t cuuint32_t;
enum CUresult { CUDA_SUCCESS, CUDA_ERROR_INVALID_VALUE };
enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_128B = 3 };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3 };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE };

/* Of a matrix of 16-bit values: size, box {columns, rows}. */
typedef struct alignas(64) CUtensorMap {
    const unsigned char *p;
    uint64_t size[2], pitch;
    uint32_t box[2];
} CUtensorMap;

/* CUDA_ERROR_INVALID_VALUE for what is documented as refused. */
CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *p,
                                const cuuint64_t *size, const cuuint64_t *pitch, const cuuint32_t *box,
                                const cuuint32_t *every, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill);

enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess, cudaDriverEntryPointSymbolNotFound };
enum { cudaEnableDefault };
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                             unsigned long long flags, cudaDriverEntryPointQueryResult *found);

/* The box from (row, column) on, turned by CU_TENSOR_MAP_SWIZZLE_128B; arrives at `barrier` at once or as late as it
 * may. */
void simt_copy_box(void *to, const CUtensorMap *map, int row, int column, uint64_t *barrier);

/* To every block of the cluster whose rank's bit is set, at the same places; to one sooner, to another later. */
void simt_multicast_box(void *to, const CUtensorMap *map, int row, int column, uint64_t *barrier, unsigned ranks);

#endif
