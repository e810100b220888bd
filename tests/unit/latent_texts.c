/* SPDX-License-Identifier: MIT */
/* latent_texts.c -- a batch in which each latent has two texts, given as the latents alone: the bytes are those of the
 * latents given twice, in what is predicted and in what a hook sees, wherever the hook is: that is where the halves
 * part. By the models recorded in tests/golden and tests/golden-more: of one to three levels, with attention from the
 * first or the second on, an odd latent, SDXL's text in the time embedding, Stable Diffusion 3's transformer. */
#include <string.h>
#include "src/models/denoiser.h"
#include "tests/unit/golden.h"
#include "tests/unit/network.h"

enum { LATENTS = 3, BATCH = 2*LATENTS, S = 16, EVALUATIONS = 3 };       /* run, taken down, played */

typedef struct Model { Denoiser *d; int C, H, W; float *latents; } Model;

static float *filled(size_t n, unsigned seed)
{
    float *x = malloc(n*sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = 2*noise(&seed);
    return x;
}

static void set_texts(const Model *m)
{
    static const int32_t index[BATCH] = {0, 1, 2, 3, 3, 3};
    const size_t E = (size_t)denoiser_text_width(m->d), P = (size_t)denoiser_pooled_width(m->d);
    float *states = filled(4*S*E, 2), *pooled = filled(4*P + 1, 3);
    die_if(denoiser_set_text(m->d, states, 4, S, index, BATCH, &err)
           || (P && denoiser_set_added(m->d, pooled, 8*m->H, 8*m->W, &err)));
    free(states);
    free(pooled);
}

/* eps (BATCH,H,W,C) host, of the first B of the latents. */
static void evaluate(const Model *m, float *eps, int B)
{
    const size_t one = sizeof(float)*(size_t)(m->C*m->H*m->W);
    float *dx = op->alloc(one*(size_t)B, &err), *dy = op->alloc(one*BATCH, &err);
    die_if(!dx || !dy);
    op->upload(dx, m->latents, one*(size_t)B);
    for (int i = 0; i < EVALUATIONS; i++)
        die_if(denoiser_eval(m->d, dy, dx, B, m->H, m->W, 500, &err));
    op->download(eps, dy, one*BATCH);
    op->free(dx);
    op->free(dy);
}

/* hook: a module, NULL: none. */
static int test_hook(const char *folder, DType type, const char *hook, int H, int W)
{
    enum { SEEN = BATCH*64*1024 };
    Model m = {.H = H, .W = W};
    char name[256];
    snprintf(name, sizeof name, "%s/%s, %s", dtype_name(type), folder, hook ? hook : "no hook");
    die_if(denoiser_load(&m.d, test_path(folder), type, op->residual, &err));
    m.C = denoiser_channels(m.d);
    const size_t half = (size_t)(LATENTS*m.C*H*W), bytes = 2*half*sizeof(float);
    m.latents = filled(2*half, 1);
    memcpy(m.latents + half, m.latents, bytes/2);
    set_texts(&m);
    float *apart = malloc(bytes), *once = malloc(bytes);
    Seen seen[2];
    for (int i = 0; i < 2; i++)
        seen[i] = (Seen){calloc(SEEN, sizeof(float)), calloc(SEEN, sizeof(float))};
    Seen to = seen[0];
    die_if(hook && hooks_add(denoiser_hooks(m.d), hook, true, see, &to, &err) != 1);
    evaluate(&m, apart, BATCH);
    to = seen[1];
    evaluate(&m, once, LATENTS);
    int failed = test_same(name, once, apart, bytes);
    if (hook)
        failed += test_same(name, seen[1].output, seen[0].output, SEEN*sizeof(float))
                + test_same(name, seen[1].input, seen[0].input, SEEN*sizeof(float));
    Err e = {0};
    failed += !hook && test_ok("two latents of three texts each, and three of two; not four",
                               denoiser_eval(m.d, NULL, NULL, 4, H, W, 500, &e) == -1 && strstr(e.text, "text for 6"));
    for (int i = 0; i < 2; i++) {
        free(seen[i].output);
        free(seen[i].input);
    }
    free(apart);
    free(once);
    free(m.latents);
    denoiser_free(m.d);
    return failed;
}

/* Without a hook, and with each module hooked in turn, of UNets those of the way down. */
static int test_model(const char *folder, DType type, int H, int W)
{
    Denoiser *d = NULL;
    int failed = test_hook(folder, type, NULL, H, W), modules = 0;
    die_if(denoiser_load(&d, test_path(folder), type, op->residual, &err));
    const Hooks *hooks = denoiser_hooks(d);
    for (int i = 0; i < hooks->modules; i++)
        if (strncmp(hooks->module[i], "up_blocks", 9) != 0) {
            failed += test_hook(folder, type, hooks->module[i], H, W);
            modules++;
        }
    denoiser_free(d);
    return failed + test_ok("modules were hooked", modules > 2);
}

int main(void)
{
    int failed = 0;
    DType types[3];
    die_if(backend_pick(test_backend(), 0, &err));
    const int count = product_types(types);
    for (int t = 0; t < count; t++) {
        failed += test_hook("../data/minisd/model", types[t], NULL, 16, 16)
                + test_hook("../data/minisd/model", types[t], "down_blocks.0.downsamplers.0", 16, 16);
        failed += test_model("golden/variants/linear", types[t], 9, 7);
        failed += test_model("golden/variants/narrow", types[t], 6, 4);
        failed += test_model("golden/variants/one", types[t], 5, 7);
        failed += test_model("golden-more/sdxl", types[t], 8, 8);
        failed += test_model("golden-more/sd3", types[t], 8, 6);
    }
    return failed != 0;
}
