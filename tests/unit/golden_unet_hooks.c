/* SPDX-License-Identifier: MIT */
/* golden_unet_hooks.c -- every kind of hooked module against diffusers, and configurations that minisd does not have.
 *
 * tests/golden/unet_hooks.safetensors (tests/reference/make_unet.py): what a forward hook sees of a module, and eps
 * when the hook multiplies its output by 1.5 in place. variants/NAME: small models of random weights: "linear" (linear
 * projections, heads and layers by level, two transformer blocks in a row, an odd latent), "padding" (asymmetric
 * downsampling, three channels, a larger first kernel), "one" (a single level), "narrow" (latents as wide as the first
 * level, so that conv_in and conv_out have an input of their output's shape). All in f32, to 1e-4 of the range. */
#include <string.h>
#include "kernels/op.h"
#include "src/models/unet.h"
#include "tests/unit/golden.h"

typedef struct Seen {
    float *output, *input;          /* host; input NULL: the hook got none */
    size_t size;
    float factor;
} Seen;

static int see(void *context, const HookCall *call, Err *e)
{
    Seen *s = context;
    s->size = (size_t)(call->B*call->H*call->W*call->C);
    s->output = malloc(s->size*sizeof(float));
    op->download(s->output, call->act, s->size*sizeof(float));
    if (call->input) {
        s->input = malloc(s->size*sizeof(float));
        op->download(s->input, call->input, s->size*sizeof(float));
    }
    float *changed = malloc(s->size*sizeof(float));
    for (size_t i = 0; i < s->size; i++)
        changed[i] = s->factor*s->output[i];
    op->upload(call->act, changed, s->size*sizeof(float));
    free(changed);
    (void)e;
    return 0;
}

/* eps (B,C,H,W) host */
static void evaluate(UNet *u, float *eps, const float *x, int B, int H, int W, int t)
{
    const int C = unet_channels(u);
    const size_t bytes = (size_t)B*C*H*W*sizeof(float);
    float *rows = rows_of(x, B, C, H*W), *dx = op->alloc(bytes, &err), *dy = op->alloc(bytes, &err);
    op->upload(dx, rows, bytes);
    die_if(unet_eval(u, dy, dx, B, H, W, t, &err));
    op->download(rows, dy, bytes);
    to_planes(eps, rows, B, C, H*W);
    op->free(dx);
    op->free(dy);
    free(rows);
}

static int test_module(const Weights *w, const char *name)
{
    UNet *u = NULL;
    Seen seen = {.factor = 1.5f};
    char text[160];
    float eps[4*256];
    die_if(unet_load(&u, test_path("../data/minisd/model"), F32, op->residual, &err)
           || unet_set_text(u, tensor(w, "state")->data, 1, 77, (int32_t[]){0}, 1, &err));
    int failed = test_ok(name, hooks_add(unet_hooks(u), name, true, see, &seen, &err) == 1);
    evaluate(u, eps, tensor(w, "x")->data, 1, 16, 16, 500);
    snprintf(text, sizeof text, "%s/size", name);
    failed += test_ok(text, seen.size == weight_count(tensor(w, name)));
    snprintf(text, sizeof text, "%s/output", name);
    failed += test_below(text, range_error(seen.output, tensor(w, name)->data, seen.size), 1e-4);
    snprintf(text, sizeof text, "%s.input", name);
    const Weight *input = weights_find(w, text);
    snprintf(text, sizeof text, "%s/input", name);
    failed += input && seen.input ? test_below(text, range_error(seen.input, input->data, seen.size), 1e-4)
                                  : test_ok(text, !input && !seen.input);
    snprintf(text, sizeof text, "%s.eps", name);
    const float *want = tensor(w, text)->data;
    snprintf(text, sizeof text, "%s/output times 1.5", name);
    failed += test_below(text, range_error(eps, want, 4*256), 1e-4);
    free(seen.output);
    free(seen.input);
    unet_free(u);
    return failed;
}

static int test_modules(void)
{
    Weights *w = NULL;
    int failed = 0, modules = 0;
    die_if(weights_open(&w, test_path("golden/unet_hooks.safetensors"), &err));
    for (size_t i = 0; i < weights_count(w); i++) {
        char name[160];
        snprintf(name, sizeof name, "%s", weights_at(w, i)->name);
        const size_t length = strlen(name);
        if (length < 4 || strcmp(name + length - 4, ".eps") != 0)
            continue;
        name[length - 4] = 0;
        failed += test_module(w, name);
        modules++;
    }
    weights_close(w);
    return failed + test_ok("modules were tested", modules >= 20);
}

static int test_variant(const char *name)
{
    Weights *w = NULL;
    UNet *u = NULL;
    char text[96];
    snprintf(text, sizeof text, "golden/variants/%s.safetensors", name);
    die_if(weights_open(&w, test_path(text), &err));
    snprintf(text, sizeof text, "golden/variants/%s", name);
    die_if(unet_load(&u, test_path(text), F32, op->residual, &err));
    const Weight *x = tensor(w, "x"), *state = tensor(w, "state");
    const int H = (int)x->dim[2], W = (int)x->dim[3];
    float *eps = malloc(weight_count(x)*sizeof *eps);
    die_if(unet_set_text(u, state->data, 2, state->dim[1], (int32_t[]){0, 1}, 2, &err));
    evaluate(u, eps, x->data, 2, H, W, 731);
    const int failed = test_below(name, range_error(eps, tensor(w, "eps")->data, weight_count(x)), 1e-4);
    free(eps);
    unet_free(u);
    weights_close(w);
    return failed;
}

static int test_end(const char *name)
{
    Weights *w = NULL;
    UNet *u = NULL;
    Seen seen = {.factor = 1};
    char text[64];
    die_if(weights_open(&w, test_path("golden/variants/narrow.safetensors"), &err)
           || unet_load(&u, test_path("golden/variants/narrow"), F32, op->residual, &err)
           || unet_set_text(u, tensor(w, "state")->data, 2, 9, (int32_t[]){0, 1}, 2, &err));
    int failed = test_ok(name, hooks_add(unet_hooks(u), name, true, see, &seen, &err) == 1);
    const Weight *x = tensor(w, "x");
    float *eps = malloc(weight_count(x)*sizeof *eps);
    evaluate(u, eps, x->data, 2, 6, 4, 731);
    snprintf(text, sizeof text, "narrow/%s/output", name);
    failed += test_below(text, range_error(seen.output, tensor(w, name)->data, seen.size), 1e-4);
    snprintf(text, sizeof text, "%s.input", name);
    const float *want = tensor(w, text)->data;
    snprintf(text, sizeof text, "narrow/%s/input", name);
    failed += seen.input ? test_below(text, range_error(seen.input, want, seen.size), 1e-4) : test_ok(text, 0);
    free(eps);
    free(seen.output);
    free(seen.input);
    unet_free(u);
    weights_close(w);
    return failed;
}

int main(void)
{
    die_if(backend_pick(test_backend(), 0, &err));
    int failed = test_modules();
    failed += test_variant("linear") + test_variant("padding") + test_variant("one") + test_variant("narrow");
    failed += test_end("conv_in") + test_end("conv_out");
    return failed != 0;
}
