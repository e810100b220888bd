/* SPDX-License-Identifier: MIT */
/* op_sae_simt.c -- the CUDA backend's autoencoder ops, built for the host and played there (tests/simt), against the
 * CPU's (op_sae_device.h): a wrong index, a missing barrier or a write out of bounds is found on a machine without a
 * GPU. */
#include "tests/unit/op_sae_device.h"

const Ops *sdsteer_backend(int device, Err *e);
extern int simt_shared;

int main(void)
{
    Err e = {0};
    const Ops *played = sdsteer_backend(0, &e);
    if (!played)
        return test_ok(e.text, 0);
    int failed = sae_against_cpu(played, false);
    simt_shared = 99*1024;              /* compute capability 8.6 */
    sdsteer_backend(0, &e);
    failed += updates(20, 2304, 40, 3, F32, false) + reconstructions(9, 2048, 30, 9);
    return failed != 0;
}
