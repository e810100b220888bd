/* SPDX-License-Identifier: MIT */
/* unet_simt.c -- one UNet evaluation of minisd against diffusers, in bf16, on the CUDA backend's kernels played on the
 * host (tests/simt): what the ops' own tests cannot see, that they are called and joined as the models call them.
 *
 * Tolerance: as golden_unet.c has it for bf16. */
#include "kernels/op.h"
#include "src/models/unet.h"
#include "tests/unit/golden.h"

const Ops *sdsteer_backend(int device, Err *e);

int main(void)
{
    enum { C = 4, HW = 256, N = C*HW };
    Weights *w = NULL;
    UNet *u = NULL;
    op = sdsteer_backend(0, &err);
    die_if(!op || weights_open(&w, test_path("golden/model.safetensors"), &err)
           || unet_load(&u, test_path("../data/minisd/model"), BF16, &err)
           || unet_set_text(u, tensor(w, "state")->data, 1, 77, (int32_t[]){0}, 1, &err));

    /* the first of the recorded pair; the other half is another text */
    float *rows = rows_of(tensor(w, "x")->data, 1, C, HW), eps[N];
    float *dx = op->alloc(sizeof eps, &err), *dy = op->alloc(sizeof eps, &err);
    die_if(!dx || !dy);
    op->upload(dx, rows, sizeof eps);
    die_if(unet_eval(u, dy, dx, 1, 16, 16, 500, &err));
    op->download(rows, dy, sizeof eps);
    to_planes(eps, rows, 1, C, HW);
    const int failed = test_below("unet.t500: largest error, of the range",
                                  range_error(eps, tensor(w, "unet.t500")->data, N), 0.01);
    op->free(dx);
    op->free(dy);
    free(rows);
    unet_free(u);
    weights_close(w);
    return failed;
}
