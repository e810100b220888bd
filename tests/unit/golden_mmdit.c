/* SPDX-License-Identifier: MIT */
/* golden_mmdit.c -- Stable Diffusion 3's transformer against diffusers, by the tiny ones that make_sd3.py of
 * tests/golden-more leaves (3.5 medium's kind, 3 medium's, 3.5 large's): evaluations, hooks, and the promises about
 * bytes and memory.
 *
 * Tolerances: f32 sums in other orders, as golden_unet.c has them. With 16 channels bf16's roundings cancel less than
 * in minisd: three times the UNet's limit. */
#include <omp.h>
#include "src/models/denoiser.h"
#include "src/models/mmdit.h"
#include "tests/unit/golden.h"
#include "tests/unit/network.h"

enum { C = 16, MOST = 8*6*C, BATCH = 8 };

static const Weights *golden;
static const float *state, *pooled;
static int S, E, P;

static MMDiT *load(const char *folder, DType type)
{
    MMDiT *m = NULL;
    die_if(mmdit_load(&m, test_path(folder), type, &err));
    return m;
}

/* The texts by their numbers, image b having text[b]. */
static void set_texts(MMDiT *m, const int *text, int B)
{
    float *states = malloc(sizeof *states*(size_t)(B*S*E)), *embeddings = malloc(sizeof *embeddings*(size_t)(B*P));
    int32_t index[BATCH];
    for (int b = 0; b < B; b++) {
        memcpy(states + b*S*E, state + text[b]*S*E, sizeof *states*(size_t)(S*E));
        memcpy(embeddings + b*P, pooled + text[b]*P, sizeof *embeddings*(size_t)P);
        index[b] = b;
    }
    die_if(mmdit_set_text(m, states, B, S, index, B, &err) || mmdit_set_added(m, embeddings, &err));
    free(states);
    free(embeddings);
}

/* v (B,C,H,W) host of x (B,C,H,W) host. */
static void evaluate(MMDiT *m, float *v, const float *x, int B, int H, int W, float t)
{
    const size_t bytes = sizeof(float)*(size_t)(B*C*H*W);
    float *rows = rows_of(x, B, C, H*W), *dx = op->alloc(bytes, &err), *dy = op->alloc(bytes, &err);
    op->upload(dx, rows, bytes);
    die_if(mmdit_eval(m, dy, dx, B, H, W, t, &err));
    op->download(rows, dy, bytes);
    to_planes(v, rows, B, C, H*W);
    op->free(dx);
    op->free(dy);
    free(rows);
}

static int test_values(const char *folder, const char *prefix, DType type, double limit)
{
    char name[80];
    float v[2*C*60];
    snprintf(name, sizeof name, "%sx", prefix);
    const Weight *x = tensor(golden, name);
    snprintf(name, sizeof name, "%sv", prefix);
    const Weight *want = tensor(golden, name);
    MMDiT *m = load(folder, type);
    set_texts(m, (int[]){0, 1}, 2);
    evaluate(m, v, x->data, 2, (int)x->dim[2], (int)x->dim[3], 500.25f);
    snprintf(name, sizeof name, "%s/%sv: largest error, of the range", dtype_name(type), prefix);
    const int failed = test_below(name, range_error(v, want->data, weight_count(want)), limit);
    mmdit_free(m);
    return failed;
}

/* The timestep of a step of the recorded runs: 1000 and 3 evenly on, shifted (FlowMatchEulerDiscreteScheduler). */
static float timestep(int step, int steps)
{
    const double shift = 3, least = shift*0.001/(1 + (shift - 1)*0.001);
    const double sigma = 1 + (least - 1)*step/(steps - 1);
    return (float)(1000*shift*sigma/(1 + (shift - 1)*sigma));
}

/* What hooks see in the guided run, driven by its recorded latents. */
static int test_hooked(const char *hook, DType type, double limit)
{
    enum { H = 8, W = 6 };
    char name[80];
    snprintf(name, sizeof name, "guided.%s", hook);
    const Weight *want = tensor(golden, name), *latents = tensor(golden, "guided.latents");
    const size_t act = weight_count(want)/(size_t)want->dim[0];
    Seen seen = {malloc(act*sizeof(float)), malloc(act*sizeof(float))};
    MMDiT *m = load("golden-more/sd3", type);
    set_texts(m, (int[]){2, 0}, 2);                     /* the negative prompt is empty */
    die_if(hooks_add(mmdit_hooks(m), hook, true, see, &seen, &err) != 1);
    double worst = 0;
    for (int i = 0; i < (int)want->dim[0]; i++) {
        float x[2*MOST], v[2*MOST];
        memcpy(x, (const float *)latents->data + i*MOST, sizeof x/2);
        memcpy(x + MOST, x, sizeof x/2);
        evaluate(m, v, x, 2, H, W, timestep(i, (int)want->dim[0]));
        const double error = relative_l2(seen.output, (const float *)want->data + act*(size_t)i, act);
        worst = error > worst || isnan(error) ? error : worst;
    }
    snprintf(name, sizeof name, "%s/%s: worst relative L2 of %d steps", dtype_name(type), hook, (int)want->dim[0]);
    const int failed = test_below(name, worst, limit);
    free(seen.output);
    free(seen.input);
    mmdit_free(m);
    return failed;
}

/* ---- promises ---- */

static void fill(float *x, int n)
{
    unsigned seed = 1;
    for (int i = 0; i < n; i++)
        x[i] = 2*noise(&seed);
}

/* One image among seven others, alone, and with another number of threads: the same bytes. */
static int test_bytes(const char *folder, DType type)
{
    enum { H = 8, W = 6 };
    static const int texts[BATCH] = {0, 1, 2, 2, 1, 0, 2, 1};
    float x[BATCH*MOST], all[BATCH*MOST], again[BATCH*MOST], alone[MOST];
    char name[120];
    int failed = 0;
    fill(x, BATCH*MOST);
    MMDiT *m = load(folder, type);
    set_texts(m, texts, BATCH);
    evaluate(m, all, x, BATCH, H, W, 321);

    float *dx = op->alloc(sizeof x, &err), *dy = op->alloc(sizeof x, &err);
    die_if(!dx || !dy);
    op->upload(dx, x, sizeof x);
    count_allocations();
    set_texts(m, texts, BATCH);
    die_if(mmdit_eval(m, dy, dx, BATCH, H, W, 5, &err));
    set_texts(m, texts, 2);
    die_if(mmdit_eval(m, dy, dx, 2, H, W, 4, &err) || mmdit_eval(m, dy, dx, 2, 4, 6, 4, &err));
    const int allocated = stop_counting();
    op->free(dx);
    op->free(dy);
    snprintf(name, sizeof name, "%s/%s: later evaluations allocate nothing", dtype_name(type), folder);
    failed += test_ok(name, allocated == 0);

    for (int i = 0; i < BATCH; i += 3) {
        set_texts(m, texts + i, 1);
        evaluate(m, alone, x + i*MOST, 1, H, W, 321);
        snprintf(name, sizeof name, "%s/%s: image %d alone and among %d", dtype_name(type), folder, i, BATCH);
        failed += test_same(name, alone, all + i*MOST, sizeof alone);
    }
    die_if(mmdit_set_text(m, state, 3, S, (const int32_t *)texts, BATCH, &err) || mmdit_set_added(m, pooled, &err));
    evaluate(m, again, x, BATCH, H, W, 321);
    snprintf(name, sizeof name, "%s/%s: texts by index", dtype_name(type), folder);
    failed += test_same(name, again, all, sizeof all);
    mmdit_free(m);
    const int threads = omp_get_max_threads();
    for (int n = 1; n <= 3; n++) {
        omp_set_num_threads(n);
        m = load(folder, type);
        set_texts(m, texts, BATCH);
        evaluate(m, again, x, BATCH, H, W, 321);
        snprintf(name, sizeof name, "%s/%s: %d threads", dtype_name(type), folder, n);
        failed += test_same(name, again, all, sizeof all);
        mmdit_free(m);
    }
    omp_set_num_threads(threads);
    return failed;
}

/* Hooks that change nothing change nothing; a block's input is the output of the one before. */
static int test_hooks(DType type)
{
    enum { H = 8, W = 6, ACT = 2*H*W/4*16 };
    MMDiT *m = load("golden-more/sd3", type);
    Hooks *hooks = mmdit_hooks(m);
    float x[2*MOST], plain[2*MOST], hooked[2*MOST], output[3][ACT], input[3][ACT];
    Seen seen[3];
    int failed = 0, calls = 0;
    char name[80];
    Err e = {0};
    fill(x, 2*MOST);
    set_texts(m, (int[]){0, 1}, 2);
    evaluate(m, plain, x, 2, H, W, 500);
    failed += test_ok("3 blocks, 2 of them dual", hooks->modules == 3*3 + 2
                      && strcmp(mmdit_usual_hook(m), "transformer_blocks.1") == 0);
    failed += test_ok("hooks/** is every module",
                      hooks_add(hooks, "**", true, count_call, &calls, &err) == hooks->modules && !err.set);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "transformer.transformer_blocks.%d", i);
        seen[i] = (Seen){output[i], input[i]};
        die_if(hooks_add(hooks, name, true, see, &seen[i], &err) != 1);
    }
    evaluate(m, hooked, x, 2, H, W, 500);
    failed += test_ok("hooks/each is called once", calls == hooks->modules);
    snprintf(name, sizeof name, "%s/hooks that do nothing", dtype_name(type));
    failed += test_same(name, hooked, plain, sizeof plain);
    failed += test_same("a block's input", input[1], output[0], sizeof input[1]);
    failed += test_same("and the next one's", input[2], output[1], sizeof input[2]);
    failed += test_ok("hooks/unknown",
                      hooks_add(hooks, "transformer_blocks.2.attn2", false, count_call, &calls, &e) == -1
                      && strstr(e.text, "transformer_blocks.2.attn"));
    mmdit_free(m);
    return failed;
}

/* ---- what the caller gets wrong ---- */

static int refused(const char *name, int result, Err *e, const char *words)
{
    const int failed = test_ok(name, result == -1 && strstr(e->text, words));
    *e = (Err){0};
    return failed;
}

static int test_calls(void)
{
    MMDiT *m = load("golden-more/sd3", F32);
    Denoiser *d = NULL;
    float *x = op->alloc(sizeof(float)*C*32*32, &err);
    const int32_t two[] = {0, 2}, one[] = {0};
    Err e = {0};
    int failed = 0;
    die_if(!x);
    failed += refused("no text", mmdit_eval(m, x, x, 1, 8, 8, 0, &e), &e, "text for 0");
    failed += refused("no text to be added to", mmdit_set_added(m, pooled, &e), &e, "for no text");
    failed += refused("no such state", mmdit_set_text(m, state, 2, S, two, 2, &e), &e, "text state 2 of 2");
    die_if(mmdit_set_text(m, state, 1, S, one, 1, &err));
    failed += refused("no pooled embedding", mmdit_eval(m, x, x, 1, 8, 8, 0, &e), &e, "without its pooled embedding");
    die_if(mmdit_set_added(m, pooled, &err));
    failed += refused("another batch", mmdit_eval(m, x, x, 2, 8, 8, 0, &e), &e, "a batch of 2 images");
    failed += refused("half a patch", mmdit_eval(m, x, x, 1, 8, 7, 0, &e), &e, "multiples of 2");
    failed += refused("more patches than positions", mmdit_eval(m, x, x, 1, 26, 8, 0, &e), &e, "to 24");
    failed += test_ok("as many as there are", mmdit_eval(m, x, x, 1, 24, 24, 0, &e) == 0);
    mmdit_free(m);

    die_if(denoiser_load(&d, test_path("golden-more/sd3"), F32, op->residual, &err));
    failed += test_ok("a denoiser", strcmp(denoiser_words(d)->network, "transformer") == 0 && denoiser_channels(d) == C
                      && denoiser_text_width(d) == E && denoiser_pooled_width(d) == P && !denoiser_takes_guidance(d)
                      && denoiser_check_size(d, 8, 6, &e) == 0);
    failed += refused("which is told no guidance", denoiser_set_guidance(d, 2, &e), &e, "told none");
    denoiser_free(d);
    op->free(x);
    return failed;
}

int main(void)
{
    Weights *w = NULL;
    die_if(backend_pick(test_backend(), 0, &err) || weights_open(&w, test_path("golden-more/sd3.safetensors"), &err));
    golden = w;
    state = tensor(w, "state")->data;
    pooled = tensor(w, "pooled")->data;
    S = (int)tensor(w, "state")->dim[1];
    E = (int)tensor(w, "state")->dim[2];
    P = (int)tensor(w, "pooled")->dim[1];
    json_t *hooks = json_loads(json_string_value(json_object_get(weights_metadata(w), "hooks")), 0, NULL), *hook;
    DType types[3];
    const int count = product_types(types);
    int failed = test_calls();
    for (int t = 0; t < count; t++) {
        const double limit = limit_of(types[t], 1e-4, 0.03);
        failed += test_values("golden-more/sd3", "", types[t], limit);
        failed += test_values("golden-more/sd3_kinds/medium", "medium.", types[t], limit);
        failed += test_values("golden-more/sd3_kinds/large", "large.", types[t], limit);
        size_t i;
        json_array_foreach(hooks, i, hook)
            failed += test_hooked(json_string_value(hook), types[t], limit);
        failed += test_bytes("golden-more/sd3", types[t]);
        failed += test_bytes("golden-more/sd3_kinds/medium", types[t]);
        failed += test_hooks(types[t]);
    }
    json_decref(hooks);
    weights_close(w);
    return failed != 0;
}
