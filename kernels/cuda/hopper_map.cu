/* SPDX-License-Identifier: MIT */
/* hopper_map.cu -- the driver's function that makes tensor maps, which a program not linked with the driver asks the
 * runtime for. */
#include "kernels/cuda/hopper_map.h"

typedef decltype(&cuTensorMapEncodeTiled) Encode;

/* NULL where the driver has none. */
static Encode encoder(void)
{
    static void *function;
    static bool looked;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    if (!looked && (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault,
                                                     &found) != cudaSuccess
                    || found != cudaDriverEntryPointSuccess))
        function = NULL;
    looked = true;
    return (Encode)function;
}

bool hopper_wanted(const char *kind)
{
    static const char variable[] = "SDSTEER_CUDA_KERNELS";
    return gpu_capability == 9 && (!getenv(variable) || gpu_wished(variable, "hopper") || gpu_wished(variable, kind))
        && encoder();
}

/* All that the driver was given, so that what it does not like can be found elsewhere. */
[[noreturn]] static void refused(CUresult status, DType type, int rank, const void *p, const cuuint64_t *size,
                                 const cuuint64_t *pitch, const cuuint32_t *box)
{
    char why[512];
    int used = snprintf(why, sizeof why, "result %d for %s at %p, sizes x bytes apart / box:", (int)status,
                        dtype_name(type), p);
    for (int i = 0; i < rank; i++)
        used += snprintf(why + used, sizeof why - (size_t)used, " %llu x %llu / %u", (unsigned long long)size[i],
                         i ? (unsigned long long)pitch[i - 1] : (unsigned long long)dtype_size(type), box[i]);
    gpu_fail(__FILE__, __LINE__, "cuTensorMapEncodeTiled", why);
}

void tensor_map_spread(CUtensorMap *map, DType type, int rank, const void *p, const int64_t *size,
                       const int64_t *spread, const int *box)
{
    cuuint64_t sizes[MAP_DIMENSIONS], pitch[MAP_DIMENSIONS];
    cuuint32_t boxes[MAP_DIMENSIONS], every[MAP_DIMENSIONS];
    const size_t value = dtype_size(type), row = (size_t)box[0]*value;
    for (int i = 0; i < rank; i++) {
        sizes[i] = (cuuint64_t)size[i];
        boxes[i] = (cuuint32_t)box[i];
        every[i] = 1;
        pitch[i] = i + 1 < rank ? (cuuint64_t)spread[i]*value : 0;
    }
    const CUresult status = encoder()(
        map, type == F32 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
            : type == BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        (cuuint32_t)rank, (void *)p, sizes, pitch, boxes, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
        row == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : row == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
            : row == 32 ? CU_TENSOR_MAP_SWIZZLE_32B : CU_TENSOR_MAP_SWIZZLE_NONE,
        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (status != CUDA_SUCCESS)
        refused(status, type, rank, p, sizes, pitch, boxes);
}

void tensor_map(CUtensorMap *map, DType type, int rank, const void *p, const int64_t *size, const int *box)
{
    int64_t spread[MAP_DIMENSIONS];
    for (int i = 0; i < rank; i++)
        spread[i] = (i ? spread[i - 1] : 1)*size[i];
    tensor_map_spread(map, type, rank, p, size, spread, box);
}
