/* SPDX-License-Identifier: MIT */
/* golden_unet.c -- the UNet against diffusers on minisd: evaluations, hooks, and the promises about bytes and memory.
 *
 * tests/golden/model.safetensors: unet.tT (2,4,16,16) at timesteps 1, 500, 981. run0, run1: the hooked module at each
 * step of a DDIM run, here driven with the recorded latents, so that no error is carried from step to step. f32 sums in
 * another order than torch's differ by some 1e-6 of the range; 1e-4 leaves room for other machines and would catch any
 * wrong constant. bf16 keeps 8 bits, each product's inputs are off by 2^-9 = 0.2 % at most; rounding is as often up as
 * down, and over a hundred products 0.2 to 0.4 % come together: 1 % is asked for, an eighth of it of f16, which keeps
 * three bits more. */
#include <omp.h>
#include "kernels/op.h"
#include "src/models/unet.h"
#include "tests/unit/golden.h"
#include "tests/unit/network.h"

static char *model;

/* eps (B,4,16,16) host of x (B,4,16,16) host. */
static void evaluate(UNet *u, float *eps, const float *x, int B, int t)
{
    enum { C = 4, HW = 256 };
    const size_t n = (size_t)B*C*HW;
    float *rows = rows_of(x, B, C, HW), *dx = op->alloc(n*sizeof *dx, &err), *dy = op->alloc(n*sizeof *dy, &err);
    op->upload(dx, rows, n*sizeof *rows);
    die_if(unet_eval(u, dy, dx, B, 16, 16, t, &err));
    op->download(rows, dy, n*sizeof *rows);
    to_planes(eps, rows, B, C, HW);
    op->free(dx);
    op->free(dy);
    free(rows);
}

static int test_values(DType type, double limit)
{
    Weights *w = NULL;
    UNet *u = NULL;
    int failed = 0;
    die_if(weights_open(&w, test_path("golden/model.safetensors"), &err)
           || unet_load(&u, model, type, op->residual, &err));
    die_if(unet_set_text(u, tensor(w, "state")->data, 2, 77, (int32_t[]){0, 1}, 2, &err));
    static const int times[] = {1, 500, 981};
    for (int i = 0; i < 3; i++) {
        char name[64];
        float eps[2*4*256];
        snprintf(name, sizeof name, "unet.t%d", times[i]);
        const float *want = tensor(w, name)->data;
        evaluate(u, eps, tensor(w, "x")->data, 2, times[i]);
        snprintf(name, sizeof name, "%s/t%d: largest error, of the range", dtype_name(type), times[i]);
        failed += test_below(name, range_error(eps, want, 2*4*256), limit);
    }
    unet_free(u);
    weights_close(w);
    return failed;
}

static int test_run(const char *run, int text, DType type, double limit)
{
    Weights *w = NULL, *states = NULL;
    UNet *u = NULL;
    char path[64], name[96];
    snprintf(path, sizeof path, "golden/%s.safetensors", run);
    die_if(weights_open(&w, test_path(path), &err) || weights_open(&states, test_path("golden/text.safetensors"), &err)
           || unet_load(&u, model, type, op->residual, &err));
    const Weight *state = tensor(states, "state"), *want = tensor(w, "hook.output");
    const size_t one = (size_t)(state->dim[1]*state->dim[2]);
    const size_t act = (size_t)(want->dim[1]*want->dim[2]*want->dim[3]*want->dim[4]);
    float *pair = malloc(2*one*sizeof *pair), x[2*4*256], eps[2*4*256];
    memcpy(pair, state->data, one*sizeof *pair);
    memcpy(pair + one, (const float *)state->data + one*(size_t)text, one*sizeof *pair);
    die_if(unet_set_text(u, pair, 2, state->dim[1], (int32_t[]){0, 1}, 2, &err));

    Seen seen = {malloc(act*sizeof(float)), malloc(act*sizeof(float))};
    const char *hook = json_string_value(json_object_get(weights_metadata(w), "hook"));
    die_if(hooks_add(unet_hooks(u), hook, true, see, &seen, &err) != 1);
    double worst = 0, input = 0;
    for (int i = 0; i < (int)want->dim[0]; i++) {
        const float *latent = (const float *)tensor(w, "latents")->data + (size_t)i*4*256;
        memcpy(x, latent, sizeof x/2);
        memcpy(x + 4*256, latent, sizeof x/2);
        evaluate(u, eps, x, 2, ((const int32_t *)tensor(w, "timesteps")->data)[i]);
        const double error = relative_l2(seen.output, (const float *)want->data + act*(size_t)i, act);
        worst = error > worst || isnan(error) ? error : worst;
        if (i == 0)
            input = relative_l2(seen.input, tensor(w, "hook.input.step0")->data, act);
    }
    snprintf(name, sizeof name, "%s/%s/hook.output: worst relative L2 of %d steps", dtype_name(type), run,
             (int)want->dim[0]);
    int failed = test_below(name, worst, limit);
    snprintf(name, sizeof name, "%s/%s/hook.input: relative L2 at step 0", dtype_name(type), run);
    failed += test_below(name, input, limit);
    free(seen.output);
    free(seen.input);
    free(pair);
    unet_free(u);
    weights_close(states);
    weights_close(w);
    return failed;
}

/* ---- promises ---- */

/* One image among seven others, alone, and with another number of threads: the same bytes. */
static int test_bytes(DType type)
{
    enum { B = 8, ONE = 4*256 };
    Weights *w = NULL;
    UNet *u = NULL;
    int failed = 0;
    float x[B*ONE], all[B*ONE], alone[ONE];
    unsigned seed = 1;
    char name[96];
    for (int i = 0; i < B*ONE; i++)
        x[i] = 2*noise(&seed);
    die_if(weights_open(&w, test_path("golden/model.safetensors"), &err)
           || unet_load(&u, model, type, op->residual, &err));
    const float *states = tensor(w, "state")->data;
    die_if(unet_set_text(u, states, 2, 77, (int32_t[]){0, 0, 0, 0, 1, 1, 1, 1}, B, &err));
    evaluate(u, all, x, B, 321);

    float *dx = op->alloc(sizeof x, &err), *dy = op->alloc(sizeof x, &err);
    count_allocations();
    die_if(unet_set_text(u, states, 2, 77, (int32_t[]){0, 0, 0, 0, 1, 1, 1, 1}, B, &err)
           || unet_eval(u, dy, dx, B, 16, 16, 5, &err));
    die_if(unet_set_text(u, states, 1, 77, (int32_t[]){0, 0}, 2, &err) || unet_eval(u, dy, dx, 2, 16, 16, 4, &err));
    const int allocated = stop_counting();
    op->free(dx);
    op->free(dy);
    snprintf(name, sizeof name, "%s/later evaluations allocate nothing", dtype_name(type));
    failed += test_ok(name, allocated == 0);

    for (int i = 0; i < B; i += 5) {
        die_if(unet_set_text(u, states + (size_t)(i/4)*77*128, 1, 77, (int32_t[]){0}, 1, &err));
        evaluate(u, alone, x + (size_t)i*ONE, 1, 321);
        snprintf(name, sizeof name, "%s/image %d alone and among %d", dtype_name(type), i, B);
        failed += test_same(name, alone, all + (size_t)i*ONE, sizeof alone);
    }
    unet_free(u);
    const int threads = omp_get_max_threads();
    for (int n = 1; n <= 3; n++) {
        omp_set_num_threads(n);
        die_if(unet_load(&u, model, type, op->residual, &err)
               || unet_set_text(u, states, 2, 77, (int32_t[]){0, 0, 0, 0, 1, 1, 1, 1}, B, &err));
        float again[B*ONE];
        evaluate(u, again, x, B, 321);
        snprintf(name, sizeof name, "%s/%d threads", dtype_name(type), n);
        failed += test_same(name, again, all, sizeof all);
        unet_free(u);
    }
    omp_set_num_threads(threads);
    weights_close(w);
    return failed;
}

/* Hooks that change nothing change nothing, in branches too, whose sum is then made outside of the product. */
static int test_hooks(DType type)
{
    enum { ONE = 4*256 };
    Weights *w = NULL;
    UNet *u = NULL;
    int failed = 0, calls = 0, others = 0;
    float plain[2*ONE], hooked[2*ONE];
    char name[96];
    die_if(weights_open(&w, test_path("golden/model.safetensors"), &err)
           || unet_load(&u, model, type, op->residual, &err));
    die_if(unet_set_text(u, tensor(w, "state")->data, 2, 77, (int32_t[]){0, 1}, 2, &err));
    const float *x = tensor(w, "x")->data;
    evaluate(u, plain, x, 2, 500);
    int modules = 0;
    while (unet_hooks(u)->module[modules])
        modules++;
    failed += test_ok("hooks/** is every module",
                      hooks_add(unet_hooks(u), "**", true, count_call, &calls, &err) == modules && !err.set);
    evaluate(u, hooked, x, 2, 500);
    failed += test_ok("hooks/each is called once", calls == modules);
    snprintf(name, sizeof name, "%s/hooks that do nothing", dtype_name(type));
    failed += test_same(name, hooked, plain, sizeof plain);
    failed += test_ok("hooks/a star stays within a part",
                      hooks_add(unet_hooks(u), "unet.up_blocks.*.attentions.*", false, count_call, &others, &err) == 6);
    failed += test_ok("hooks/path", strcmp(hooks_path(unet_hooks(u), modules), "up_blocks.0.attentions.0") == 0);
    const int before = unet_hooks(u)->count;
    failed += test_ok("hooks/the same again is hooked once",
                      hooks_add(unet_hooks(u), "**.attentions.0", true, count_call, &calls, &err) > 0
                      && unet_hooks(u)->count == before);
    Err e = {0};
    failed += test_ok("hooks/unknown",
                      hooks_add(unet_hooks(u), "up_block.1.attentions.1", false, count_call, &calls, &e) == -1
                      && strstr(e.text, "up_blocks.1.attentions.1"));
    unet_free(u);
    weights_close(w);
    return failed;
}

/* A UNet that is told its guidance, beside diffusers (golden-more/make_lcm.py): without, then with several in turn, the
 * third evaluation of each played from a tape where the backend has tapes. With 8 channels bf16's roundings cancel
 * less than in minisd's: twice its limit. */
static int test_guidance(DType type, double limit)
{
    static const char *const told[] = {"none", "0.0", "8.5"};
    Weights *w = NULL;
    UNet *u = NULL, *untold = NULL;
    int failed = 0;
    Err e = {0};
    die_if(weights_open(&w, test_path("golden-more/lcm_runs.safetensors"), &err)
           || unet_load(&u, test_path("golden-more/lcm"), type, op->residual, &err)
           || unet_set_text(u, tensor(w, "state")->data, 1, tensor(w, "state")->dim[1], (int32_t[]){0}, 1, &err));
    for (int i = 0; i < 3; i++) {
        char name[64];
        float eps[4*256];
        if (i)
            die_if(unet_set_guidance(u, atof(told[i]), &err));
        for (int k = 0; k < 3; k++)
            evaluate(u, eps, tensor(w, "x")->data, 1, 499);
        snprintf(name, sizeof name, "guidance.%s", told[i]);
        const Weight *want = tensor(w, name);
        snprintf(name, sizeof name, "%s/guidance %s: largest error, of the range", dtype_name(type), told[i]);
        failed += test_below(name, range_error(eps, want->data, 4*256), limit);
    }
    die_if(unet_load(&untold, model, type, op->residual, &err));
    failed += test_ok("minisd is told none", !unet_takes_guidance(untold) && unet_takes_guidance(u)
                      && unet_set_guidance(untold, 2, &e) == -1);
    unet_free(untold);
    unet_free(u);
    weights_close(w);
    return failed;
}

int main(void)
{
    int failed = 0;
    model = strdup(test_path("../data/minisd/model"));
    die_if(backend_pick(test_backend(), 0, &err));
    DType types[3];
    const int count = product_types(types);
    for (int t = 0; t < count; t++) {
        failed += test_values(types[t], limit_of(types[t], 1e-4, 0.01));
        failed += test_run("run0", 1, types[t], limit_of(types[t], 1e-3, 0.01));
        failed += test_run("run1", 2, types[t], limit_of(types[t], 1e-3, 0.01));
        failed += test_bytes(types[t]);
        failed += test_hooks(types[t]);
        failed += test_guidance(types[t], limit_of(types[t], 1e-4, 0.02));
    }
    free(model);
    return failed != 0;
}
