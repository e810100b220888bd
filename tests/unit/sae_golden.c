/* SPDX-License-Identifier: MIT */
/* sae_golden.c -- encoding against SAeUron's own code, on the autoencoder and activations of tests/golden (its README
 * says how they were made); saving and loading give the same bytes back. */
#include <unistd.h>
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/sae.h"
#include "tests/unit/test.h"

static int encode(Sae *s, const Weights *w)
{
    Err e = {0};
    const int N = 256;
    const int64_t NK[] = {N, s->K}, BHWC[] = {4, 8, 8, 128};
    float *x = weights_floats(w, "act", 4, BHWC, &e), *want = weights_floats(w, "encode.value", 2, NK, &e);
    const Weight *index = weights_find(w, "encode.index");
    if (!x || !want || !index)
        return test_ok(e.text, 0);
    float *a = malloc(sizeof(float)*N*s->K), *y = malloc(sizeof(float)*N*s->D);
    int32_t *i = malloc(sizeof(int32_t)*N*s->K);
    int other = 0;
    sae_encode(s, a, i, x, N);
    for (int j = 0; j < N*s->K; j++) {
        const int64_t f = index->type == I64 ? ((const int64_t *)index->data)[j] : ((const int32_t *)index->data)[j];
        other += f != i[j];
    }
    int failed = test_close("sae/values", a, want, (size_t)(N*s->K), 2e-4f, 1e-5f);
    printf("     features that differ: %d of %d\n", other, N*s->K);
    failed += test_ok("sae/features", other == 0);
    sae_decode(s, y, a, i, N);
    double error = 0, spread = 0;
    for (int d = 0; d < s->D; d++) {
        double mean = 0;
        for (int n = 0; n < N; n++)
            mean += (double)x[n*s->D + d]/N;
        for (int n = 0; n < N; n++) {
            error += pow((double)x[n*s->D + d] - y[n*s->D + d], 2);
            spread += pow(x[n*s->D + d] - mean, 2);
        }
    }
    printf("     FVU %.4f\n", error/spread);
    failed += test_ok("sae/decoded is near", error/spread < 0.3);
    free(x); free(want); free(a); free(y); free(i);
    return failed;
}

int main(void)
{
    Err e = {0};
    Sae *s = NULL, *again = NULL, *below = NULL;
    Weights *w = NULL;
    char dir[4096], copy[4200];
    const char *tests = getenv("SDSTEER_TESTS"), *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/golden/saeuron/sae", tests ? tests : "tests");
    if (backend_pick(test_backend(), 2, &e) || sae_load(&s, dir, &e) || sae_prepare(s, F32, &e))
        return test_ok(e.text, 0);
    strcpy(strrchr(dir, '/'), "/saeuron.safetensors");
    if (weights_open(&w, dir, &e))
        return test_ok(e.text, 0);
    int failed = test_ok("sae/sizes", s->D == 128 && s->F == 2048 && s->K == 16) + encode(s, w);
    snprintf(copy, sizeof copy, "%s/sae_golden-%ld/deep/one", tmp ? tmp : "/tmp", (long)getpid());
    if (sae_save(s, copy, &e) || sae_load(&again, copy, &e) || sae_save(s, copy, &e))
        return test_ok(e.text, 0);
    failed += test_same("sae/W_enc saved", again->W_enc, s->W_enc, sizeof(float)*(size_t)(s->F*s->D));
    failed += test_same("sae/b_dec saved", again->b_dec, s->b_dec, sizeof(float)*(size_t)s->D);
    failed += test_ok("sae/id has the weights' hash", strcmp(strrchr(s->id, '-'), strrchr(again->id, '-')) == 0);
    *strrchr(copy, '/') = 0;
    if (sae_load(&below, copy, &e))
        return test_ok(e.text, 0);
    failed += test_ok("sae/found one folder down", below->F == s->F);
    weights_close(w);
    sae_free(s); sae_free(again); sae_free(below);
    return failed != 0;
}
