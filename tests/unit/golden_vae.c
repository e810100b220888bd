/* SPDX-License-Identifier: MIT */
/* golden_vae.c -- the VAE against diffusers on minisd: decoder, encoder, whole pictures from the last latents of runs.
 *
 * Tolerances: f32 sums in another order differ by some 1e-6 of a value; 1e-3 of the range is asked for. A picture's u8
 * may go to the neighbour where a value lies between two. bf16 inputs of products are off by 0.2 % at most, each of the
 * thirty layers adds its share: 3 % of the range, 90 % of u8 values within 4; f16 an eighth, 90 % within 1. Last,
 * tests/golden/variants/names: a VAE with the first files' names of layers, without quantisation layers, with a shift,
 * of odd sizes. */
#include "kernels/op.h"
#include "src/models/vae.h"
#include "tests/unit/golden.h"

static int test_range(const char *name, DType type, const float *got, const Weight *want, double limit)
{
    char text[96];
    float *rows = rows_of(want->data, 1, (int)want->dim[1], (int)(want->dim[2]*want->dim[3]));
    snprintf(text, sizeof text, "%s/%s: largest error, of the range", dtype_name(type), name);
    const int failed = test_below(text, range_error(got, rows, weight_count(want)), limit);
    free(rows);
    return failed;
}

static int test_picture(Vae *v, DType type, const char *run)
{
    Weights *w = NULL;
    char path[64];
    snprintf(path, sizeof path, "golden/%s.safetensors", run);
    die_if(weights_open(&w, test_path(path), &err));
    const Weight *latents = tensor(w, "latents"), *image = tensor(w, "image");
    const int n = (int)weight_count(image), near = type == BF16 ? 4 : 1;
    float *rows = rows_of((const float *)latents->data + (latents->dim[0] - 1)*4*256, 1, 4, 256);
    float *pixels = malloc((size_t)n*sizeof *pixels);
    uint8_t *u8 = malloc((size_t)n);
    die_if(vae_decode(v, rows, 1, 16, 16, pixels, &err));
    vae_to_u8(u8, pixels, n);
    int within = 0, equal = 0;
    for (int i = 0; i < n; i++) {
        const int difference = abs(u8[i] - ((const uint8_t *)image->data)[i]);
        within += difference <= near;
        equal += difference == 0;
    }
    const int good = within >= (type == F32 ? 0.999 : 0.9)*n;
    printf("%s %s/%s/picture: %.4f %% equal, %.4f %% within %d/255\n", good ? "ok  " : "FAIL", dtype_name(type), run,
           100.0*equal/n, 100.0*within/n, near);
    free(rows);
    free(pixels);
    free(u8);
    weights_close(w);
    return !good;
}

static int test_model(DType type, double limit)
{
    Weights *w = NULL;
    Vae *v = NULL;
    die_if(vae_load(&v, test_path("../data/minisd/model"), type, &err)
           || weights_open(&w, test_path("golden/model.safetensors"), &err));
    int failed = test_ok("scale", vae_scale(v) == 8);
    enum { PIXELS = 128*128*3, CELLS = 16*16*4 };
    float *pixels = malloc(3*PIXELS*sizeof *pixels), mean[2*CELLS];

    float *latent = rows_of(tensor(w, "vae.latent")->data, 1, 4, 256), three[3*CELLS] = {0};
    memcpy(three, latent, sizeof mean/2);
    memcpy(three + 2*CELLS, latent, sizeof mean/2);
    die_if(vae_decode(v, three, 3, 16, 16, pixels, &err));
    failed += test_range("vae.decoded", type, pixels, tensor(w, "vae.decoded"), limit);
    failed += test_same("first and last of three", pixels, pixels + 2*PIXELS, PIXELS*sizeof *pixels);

    float *image = rows_of(tensor(w, "vae.image")->data, 1, 3, 128*128);
    memcpy(pixels, image, PIXELS*sizeof *pixels);
    memcpy(pixels + PIXELS, image, PIXELS*sizeof *pixels);
    die_if(vae_encode(v, pixels, 2, 128, 128, mean, NULL, &err));
    failed += test_range("vae.mean", type, mean, tensor(w, "vae.mean"), limit);
    failed += test_same("first and last of two", mean, mean + CELLS, sizeof mean/2);

    failed += test_picture(v, type, "run0") + test_picture(v, type, "run1");
    free(latent);
    free(image);
    free(pixels);
    vae_free(v);
    weights_close(w);
    return failed;
}

static int test_names(void)
{
    Weights *w = NULL;
    Vae *v = NULL;
    die_if(vae_load(&v, test_path("golden/variants/names"), F32, &err)
           || weights_open(&w, test_path("golden/variants/names.safetensors"), &err));
    float pixels[14*18*3], mean[10*14*6];
    float *latent = rows_of(tensor(w, "latent")->data, 1, 6, 7*9);
    float *image = rows_of(tensor(w, "image")->data, 1, 3, 20*28);
    die_if(vae_decode(v, latent, 1, 7, 9, pixels, &err) || vae_encode(v, image, 1, 20, 28, mean, NULL, &err));
    int failed = test_range("names/decoded", F32, pixels, tensor(w, "decoded"), 1e-4);
    failed += test_range("names/mean", F32, mean, tensor(w, "mean"), 1e-4);
    free(latent);
    free(image);
    vae_free(v);
    weights_close(w);
    return failed;
}

int main(void)
{
    int failed = 0;
    uint8_t u8[6];
    vae_to_u8(u8, (float[]){-2, -1, 0, 1.0f/255, 1, NAN}, 6);           /* 127.5 goes to the even 128, 128 stays */
    failed += test_same("to u8", u8, (uint8_t[]){0, 0, 128, 128, 255, 0}, 6);
    die_if(backend_pick(test_backend(), 0, &err));
    failed += test_names();
    DType types[3];
    const int count = product_types(types);
    for (int t = 0; t < count; t++)
        failed += test_model(types[t], limit_of(types[t], 1e-3, 0.03));
    return failed != 0;
}
