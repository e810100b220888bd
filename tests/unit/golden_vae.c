/* SPDX-License-Identifier: MIT */
/* golden_vae.c -- the VAE against diffusers on minisd: decoder, encoder, whole pictures from the last latents of runs.
 *
 * Tolerances: f32 sums in another order differ by some 1e-6 of a value; 1e-3 of the range is asked for. A picture's u8 may go to
 * the neighbour where a value lies between two. bf16 inputs of products are off by 0.2 % at most, each of the thirty layers adds its
 * share: 3 % of the range, 90 % of u8 values within 4. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/vae.h"
#include "tests/unit/test.h"

static Err err;

static void die_if(int failed)
{
    if (failed) {
        printf("FAIL %s\n", err.text);
        exit(1);
    }
}

static const Weight *tensor(const Weights *w, const char *name)
{
    const Weight *t = weights_find(w, name);
    if (!t)
        die_if(err_set(&err, "%s: no %s", weights_path(w), name));
    return t;
}

/* A fresh (H*W,C) of (C,H,W) */
static float *rows_of(const float *x, int C, int HW)
{
    float *y = malloc((size_t)C*HW*sizeof *y);
    for (int c = 0; c < C; c++)
        for (int i = 0; i < HW; i++)
            y[(size_t)i*C + c] = x[(size_t)c*HW + i];
    return y;
}

static int test_range(const char *name, DType type, const float *got, const Weight *want, double limit)
{
    const int C = (int)want->dim[1], HW = (int)(want->dim[2]*want->dim[3]);
    float *rows = rows_of(want->data, C, HW), range = 0, most = 0;
    for (int i = 0; i < C*HW; i++) {
        range = fmaxf(range, fabsf(rows[i]));
        most = fabsf(got[i] - rows[i]) > most || isnan(got[i]) ? fabsf(got[i] - rows[i]) : most;
    }
    free(rows);
    printf("%s %s/%s: largest error %.3g of the range %.3g, limit %g\n", most/range < limit ? "ok  " : "FAIL", dtype_name(type), name,
           (double)(most/range), (double)range, limit);
    return !(most/range < limit);
}

static int test_picture(Vae *v, DType type, const char *run)
{
    Weights *w = NULL;
    char path[64];
    snprintf(path, sizeof path, "golden/%s.safetensors", run);
    die_if(weights_open(&w, test_path(path), &err));
    const Weight *latents = tensor(w, "latents"), *image = tensor(w, "image");
    const int n = (int)weight_count(image), near = type == F32 ? 1 : 4;
    float *rows = rows_of((const float *)latents->data + (latents->dim[0] - 1)*4*256, 4, 256), *pixels = malloc((size_t)n*sizeof *pixels);
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
    printf("%s %s/%s/picture: %.4f %% equal, %.4f %% within %d/255\n", good ? "ok  " : "FAIL", dtype_name(type), run, 100.0*equal/n,
           100.0*within/n, near);
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
    die_if(vae_load(&v, test_path("../data/minisd/model"), type, &err) || weights_open(&w, test_path("golden/model.safetensors"), &err));
    int failed = test_ok("scale", vae_scale(v) == 8);
    enum { PIXELS = 128*128*3, CELLS = 16*16*4 };
    float *pixels = malloc(3*PIXELS*sizeof *pixels), mean[2*CELLS];

    float *latent = rows_of(tensor(w, "vae.latent")->data, 4, 256), three[3*CELLS] = {0};
    memcpy(three, latent, sizeof mean/2);
    memcpy(three + 2*CELLS, latent, sizeof mean/2);
    die_if(vae_decode(v, three, 3, 16, 16, pixels, &err));
    failed += test_range("vae.decoded", type, pixels, tensor(w, "vae.decoded"), limit);
    failed += test_same("first and last of three", pixels, pixels + 2*PIXELS, PIXELS*sizeof *pixels);

    float *image = rows_of(tensor(w, "vae.image")->data, 3, 128*128);
    memcpy(pixels, image, PIXELS*sizeof *pixels);
    memcpy(pixels + PIXELS, image, PIXELS*sizeof *pixels);
    die_if(vae_encode(v, pixels, 2, 128, 128, mean, &err));
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

int main(void)
{
    int failed = 0;
    uint8_t u8[6];
    vae_to_u8(u8, (float[]){-2, -1, 0, 1.0f/255, 1, NAN}, 6);           /* 127.5 goes to the even 128, 128 stays */
    failed += test_same("to u8", u8, (uint8_t[]){0, 0, 128, 128, 255, 0}, 6);
    die_if(backend_pick("cpu", 0, &err));
    failed += test_model(F32, 1e-3);
    if (op->best == BF16)
        failed += test_model(BF16, 0.03);
    else
        test_note("bf16 not tested: the processor does not multiply it");
    return failed != 0;
}
