/* SPDX-License-Identifier: MIT */
/* golden_noise.c -- noise against torch.randn: golden names are seedS, seedS.odd, seedS.small, seedS.nN. At most 1 ulp
 * is allowed, since
 * torch's log and cos depend on the processor it ran on; on x86 with AVX2 there is no difference at all. */
#include <stdint.h>
#include "formats/weights.h"
#include "src/models/noise.h"
#include "tests/unit/test.h"

/* Place of a float among all floats in order, so that neighbours differ by 1. */
static int64_t place(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits < 0 ? -(int64_t)(bits & INT32_MAX) : bits;
}

static int check_file(const char *path)
{
    Weights *w = NULL;
    Err e = {0};
    int failed = 0;
    if (weights_open(&w, path, &e)) {
        printf("FAIL noise: %s\n", e.text);
        return 1;
    }
    for (size_t i = 0; i < weights_count(w); i++) {
        const Weight *want = weights_at(w, i);
        const size_t n = weight_count(want);
        float *got = malloc(n * sizeof *got);
        int64_t most = 0;
        noise_torch(got, n, strtoull(want->name + strlen("seed"), NULL, 10));
        for (size_t k = 0; k < n; k++) {
            const int64_t ulps = llabs(place(got[k]) - place(((const float *)want->data)[k]));
            most = ulps > most ? ulps : most;
        }
        printf("%s noise/%s: %zu values, largest error %lld ulp\n", most <= 1 ? "ok  " : "FAIL", want->name, n,
               (long long)most);
        failed += most > 1;
        free(got);
    }
    failed += test_ok("noise/the file holds tensors", weights_count(w) > 0);
    weights_close(w);
    return failed;
}

int main(void)
{
    return check_file(test_path("golden/noise.safetensors")) + check_file(test_path("golden-more/noise.safetensors"))
        != 0;
}
