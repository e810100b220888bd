/* SPDX-License-Identifier: MIT */
/* op_simt.c -- the CUDA backend's ops, built for the host and played there (tests/simt), against the CPU's
 * (op_device.h): a wrong index, a missing barrier or a write out of bounds is found on a machine without a GPU. */
#include "tests/unit/op_device.h"

const Ops *sdsteer_backend(int device, Err *e);
extern int simt_shared, simt_blas_calls, simt_blas_others;
extern int simt_dnn_calls, simt_dnn_added, simt_dnn_attentions, simt_dnn_alive;

int main(void)
{
    Err e = {0};
    const Ops *played = sdsteer_backend(0, &e);
    if (!played)
        return test_ok(e.text, 0);
    setenv("SDSTEER_CUDA_KERNELS", "portable", 1);
    int failed = ops_against_cpu(played, false);
    failed += test_ok("cuBLASLt was asked", simt_blas_calls > 0);
    failed += test_ok("fewer rows went to another algorithm of the same bytes", simt_blas_others > 0);
    failed += test_ok("cuDNN was asked", simt_dnn_calls > 0);
    failed += test_ok("cuDNN was asked to add", simt_dnn_added > 0);
    failed += test_ok("cuDNN was asked for attention", simt_dnn_attentions > 0);

    const ConvCase wide = {64, 128, 1, 1, 0, 0, 3, 77, 1};
    const int calls = simt_blas_calls;
    failed += conv(&wide, BF16, BF16, ACT_GELU_TANH, true);
    failed += test_ok("cuBLASLt was asked for what is activated after it", simt_blas_calls > calls);

    /* plans stay for the next of their kind, all else is given back */
    const ConvCase layer = {256, 16, 3, 1, 1, 1, 2, 4, 3};
    const AttentionCase known = {2, 40, 8, 19, 300, false, false, 1};
    failed += conv(&layer, BF16, F32, ACT_NONE, true);
    const int kept = simt_dnn_alive, before = simt_dnn_attentions;
    failed += conv(&layer, BF16, F32, ACT_NONE, true) + attention(&known, BF16);
    failed += test_ok("cuDNN's descriptors are given back", simt_dnn_alive == kept && simt_dnn_attentions > before);

    /* a device of compute capability 8.6 */
    const AttentionCase wide_head = {1, 512, 0, 66, 67, false, false, 1};
    simt_shared = 99*1024;
    sdsteer_backend(0, &e);
    failed += attention(&wide_head, BF16) + attention(&wide_head, F16) + attention(&wide_head, F32);
    return failed != 0;
}
