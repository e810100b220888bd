/* SPDX-License-Identifier: MIT */
/* op_product_simt.c -- the product of compute capability 9.0a, built for the host and played there (tests/simt),
 * against the CPU's and by all of its tiles (op_product_device.h): a wrong index, a missing barrier or a write out of
 * bounds is found on a machine without a GPU. */
#include "tests/unit/kernel_alone.h"

const Ops *sdsteer_backend(int device, Err *e);
extern int simt_blas_calls, simt_blas_others;
extern const char *simt_started;
extern unsigned simt_started_blocks;

/* Whether these kinds have a layer multiplied by product_hopper.cu. */
static bool by_hopper(const char *kinds)
{
    static const ConvCase layer = {64, 168, 1, 1, 0, 0, 1, 9, 1};
    setenv("SDSTEER_CUDA_KERNELS", kinds, 1);
    return conv(&layer, BF16, BF16, ACT_NONE, false) == 0 && strstr(simt_started, "multiply<Tile");
}

/* cuBLASLt's calls for a layer that is new but for its type. */
static int calls_of(DType type)
{
    const int before = simt_blas_calls;
    return by_rows(72, 336, type, F32, ACT_NONE) ? -1 : simt_blas_calls - before;
}

int main(void)
{
    Err e = {0};
    const Ops *played = sdsteer_backend(0, &e);
    if (!played)
        return test_ok(e.text, 0);
    setenv("SDSTEER_CUDA_KERNELS", "hopper", 1);
    setenv("SDSTEER_CUDA_LIBRARIES", "none", 1);
    int failed = products_by_tiles(played, false);
    failed += test_ok("kinds of kernels joined by +", by_hopper("norm+product") && !by_hopper("norm+attention")
                      && !by_hopper("products") && by_hopper("hopper"));
    setenv("SDSTEER_CUDA_KERNELS", "hopper+slices", 1);
    failed += sliced_by_tiles(false) + slices_alone("64x80x1x1x4", false);
    failed += test_ok("by a slice a block", strstr(simt_started, "multiply<Tile") && simt_started_blocks == 4);
    failed += slices_alone("128x160x1x1", false);
    failed += test_ok("by folding slices", strstr(simt_started, "multiply<Tile") && simt_started_blocks == 1);
    setenv("SDSTEER_CUDA_KERNELS", "hopper", 1);
    failed += product_alone("64x32x1x1", false) + product_alone("256x160x2x1+64x80x1x1", false);

    /* of cuBLASLt's algorithms for few rows one is faster than ours and gives other bytes, one gives the same */
    unsetenv("SDSTEER_CUDA_LIBRARIES");
    failed += rows_by_counts();
    failed += test_ok("few rows went to an algorithm of the same bytes", simt_blas_others > 0);
    const int before = simt_blas_calls;
    failed += by_rows(72, 328, BF16, F32, ACT_NONE);
    failed += test_ok("layers that are alike are looked at once, and many rows stay here",
                      simt_blas_calls == before + 5);
    const int bf16 = calls_of(BF16), f16 = calls_of(F16);
    failed += test_ok("layers that differ in x's type alone are looked at one by one", f16 == bf16 && f16 > 5);
    return failed != 0;
}
