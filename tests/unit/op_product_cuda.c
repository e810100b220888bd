/* SPDX-License-Identifier: MIT */
/* op_product_cuda.c -- the product of compute capability 9.0a on a GPU, against the CPU's and by all of its tiles
 * (op_product_device.h). Skipped where there is none. */
#include "tests/unit/op_product_device.h"

int main(void)
{
    Err e = {0};
    if (backend_pick("cuda", 0, &e)) {
        printf("skipped: %s\n", e.text);
        return TEST_SKIPPED;
    }
    setenv("SDSTEER_CUDA_LIBRARIES", "none", 1);
    const char *kernels = getenv("SDSTEER_CUDA_KERNELS");
    const bool hopper = !kernels || strstr(kernels, "hopper") || strstr(kernels, "product");
    int failed = products_by_tiles(op, hopper);
    if (hopper) {
        setenv("SDSTEER_CUDA_KERNELS", "product+slices", 1);
        failed += sliced_by_tiles(true);
        setenv("SDSTEER_CUDA_KERNELS", "product", 1);
    }
    unsetenv("SDSTEER_CUDA_LIBRARIES");
    return failed + rows_by_counts() != 0;
}
