/* SPDX-License-Identifier: MIT */
/* golden_sd14.c -- text encoder, UNet and VAE of Stable Diffusion 1.4's full shape against diffusers, with times.
 *
 *     SDSTEER_SD14=DIR golden_sd14 [f32|f16]        precision of the weight files (default f16)
 *
 * DIR is made by tests/reference/make_sd14.py; run by tests/sd14.sh. Sums are up to 11520 long (1280 channels, 3x3) and
 * a hundred layers follow one another: f32 to 1e-4 of the range, bf16 to 3 % (0.2 % a product, more of them than in
 * minisd), f16 to an eighth of it. */
#include <string.h>
#include <time.h>
#include "kernels/op.h"
#include "src/models/text_encoder.h"
#include "src/models/unet.h"
#include "src/models/vae.h"
#include "tests/unit/golden.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9*(double)t.tv_nsec;
}

static int test_text_states(const char *model, const Weights *w, DType type, double limit)
{
    TextEncoder *t = NULL;
    const Weight *want = tensor(w, "state");
    float *state = malloc(weight_count(want)*sizeof *state);
    die_if(text_encoder_load(&t, model, 0, type, &err));
    die_if(text_encode(t, tensor(w, "ids")->data, 2, state, &err));
    const double start = now();
    die_if(text_encode(t, tensor(w, "ids")->data, 2, state, &err));
    test_note("%s: %.3f s for two prompts", dtype_name(type), now() - start);
    const int failed = test_below("text states: largest error, of the range",
                                  range_error(state, want->data, weight_count(want)), limit);
    text_encoder_free(t);
    free(state);
    return failed;
}

static int test_unet(const char *model, const Weights *w, DType type, double limit)
{
    enum { C = 4, SIDE = 64, ONE = C*SIDE*SIDE };
    UNet *u = NULL;
    int failed = 0;
    double start = now();
    die_if(unet_load(&u, model, type, op->residual, &err));
    test_note("%s: %.2f s to load the UNet", dtype_name(type), now() - start);
    float *rows = rows_of(tensor(w, "x")->data, 2, C, SIDE*SIDE), *eps = malloc(2*ONE*sizeof *eps);
    float *x = op->alloc(2*ONE*sizeof *x, &err), *y = op->alloc(2*ONE*sizeof *y, &err);
    op->upload(x, rows, 2*ONE*sizeof *x);
    for (int B = 1; B <= 2; B++) {
        double best = 1e30;
        die_if(unet_set_text(u, tensor(w, "state")->data, 2, 77, (int32_t[]){0, 1}, B, &err));
        for (int i = 0; i < 3; i++) {
            start = now();
            die_if(unet_eval(u, y, x, B, SIDE, SIDE, 500, &err));
            op->download(rows, y, (size_t)B*ONE*sizeof *rows);
            const double took = now() - start;
            best = i > 0 && took < best ? took : best;
        }
        test_note("%s: %.3f s %s", dtype_name(type), best,
                  B == 1 ? "an evaluation at 512x512" : "a guided step at 512x512");
        to_planes(eps, rows, B, C, SIDE*SIDE);
        char name[64];
        snprintf(name, sizeof name, "eps, batch %d: largest error, of the range", B);
        failed += test_below(name, range_error(eps, tensor(w, "eps")->data, (size_t)B*ONE), limit);
    }
    op->free(x);
    op->free(y);
    free(rows);
    free(eps);
    unet_free(u);
    return failed;
}

static int test_vae(const char *model, const Weights *w, DType type, double limit)
{
    Vae *v = NULL;
    die_if(vae_load(&v, model, type, &err));
    const Weight *want = tensor(w, "decoded");
    float *latent = rows_of(tensor(w, "latent")->data, 1, 4, 64*64), *decoded = rows_of(want->data, 1, 3, 512*512);
    float *pixels = malloc(weight_count(want)*sizeof *pixels);
    die_if(vae_decode(v, latent, 1, 64, 64, pixels, &err));
    const double start = now();
    die_if(vae_decode(v, latent, 1, 64, 64, pixels, &err));
    test_note("%s: %.3f s to decode 512x512", dtype_name(type), now() - start);
    const int failed = test_below("decoded: largest error, of the range",
                                  range_error(pixels, decoded, weight_count(want)), limit);
    free(latent);
    free(decoded);
    free(pixels);
    vae_free(v);
    return failed;
}

int main(int argc, char **argv)
{
    const char *dir = getenv("SDSTEER_SD14"), *backend = getenv("SDSTEER_BACKEND");
    char path[4096];
    Weights *w = NULL;
    if (!dir) {
        printf("SDSTEER_SD14 does not name the folder that tests/reference/make_sd14.py made\n");
        return TEST_SKIPPED;
    }
    snprintf(path, sizeof path, "%s/reference.safetensors", dir);
    die_if(backend_pick(backend ? backend : "cpu", 0, &err) || weights_open(&w, path, &err));
    snprintf(path, sizeof path, "%s/%s", dir, argc > 1 ? argv[1] : "f16");
    int failed = 0;
    DType types[3];
    const int count = product_types(types);
    for (int t = 0; t < count; t++) {
        const DType type = types[t];
        const double limit = limit_of(type, 1e-4, 0.03);
        failed += test_text_states(path, w, type, limit) + test_unet(path, w, type, limit);
        failed += test_vae(path, w, type, limit);
    }
    weights_close(w);
    return failed != 0;
}
