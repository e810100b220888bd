/* SPDX-License-Identifier: MIT */
/* cuda.h -- what kernels/cuda uses of the driver's tensor maps, for the host (hopper.cc). Names are NVIDIA's; values
 * and structures are ours. */
#ifndef TESTS_SIMT_CUDA_H
#define TESTS_SIMT_CUDA_H

#include "tests/simt/simt.h"

typedef uint64_t cuuint64_t;
typedef uint32_t cuuint32_t;
enum CUresult { CUDA_SUCCESS, CUDA_ERROR_INVALID_VALUE };
enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_FLOAT16 = 6, CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
                           CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_SWIZZLE_64B,
                          CU_TENSOR_MAP_SWIZZLE_128B };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3 };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE };

enum { SIMT_DIMENSIONS = 4 };

/* pitch[i]: bytes from one to the next along dimension i. */
typedef struct alignas(64) CUtensorMap {
    unsigned char *p;
    uint32_t rank, value_bytes, turned_bytes;   /* the swizzle's width; 0: none */
    bool bf16;
    uint64_t size[SIMT_DIMENSIONS], pitch[SIMT_DIMENSIONS];
    uint32_t box[SIMT_DIMENSIONS];
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

/* The box from `at` on, of as many dimensions, turned by the swizzle of its rows' width, to every block of the cluster
 * whose rank's bit is set, at the same places; it arrives at each one's `barrier` at once or as late as it may, to one
 * sooner, to another later. */
void simt_copy_box(void *to, const CUtensorMap *map, const int *at, uint32_t dimensions, uint64_t *barrier,
                   unsigned ranks);

void simt_prefetch_box(const CUtensorMap *map, uint32_t dimensions);

/* The box at `from` to the tensor, or added to its values; read at once or as late as it may be. */
void simt_store_box(const CUtensorMap *map, const int *at, uint32_t dimensions, const void *from, bool add);

#endif
