/* SPDX-License-Identifier: MIT */
/* op_product_simt.c -- the product of compute capability 9.0a, built for the host and played there (tests/simt), against
 * the CPU's and by all of its tiles (op_product_device.h): a wrong index, a missing barrier or a write out of bounds is
 * found on a machine without a GPU. */
#include "tests/unit/op_product_device.h"

const Ops *sdsteer_backend(int device, Err *e);

int main(void)
{
    Err e = {0};
    const Ops *played = sdsteer_backend(0, &e);
    if (!played)
        return test_ok(e.text, 0);
    unsetenv("SDSTEER_CUDA_KERNELS");
    return products_by_tiles(played) != 0;
}
