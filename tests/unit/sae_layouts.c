/* SPDX-License-Identifier: MIT */
/* sae_layouts.c -- folders that SAELens, sparsify and torch wrote: the same features as those programs find; what is written
 * from here in each layout reads back as it was; what cannot be computed is refused by its name.
 *
 * tests/golden-more/sae_layouts/make.py made the folders and the features. */
#include "formats/json_file.h"
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/sae.h"
#include "tests/unit/stream_test.h"

enum { N = 32, D = 8, F = 24, K = 4 };

static const char *in_tests(const char *name)
{
    static char path[2][4096];
    static int turn;
    const char *tests = getenv("SDSTEER_TESTS");
    char *p = path[turn++ % 2];
    snprintf(p, sizeof path[0], "%s/golden-more/sae_layouts/%s", tests ? tests : "tests", name);
    return p;
}

/* Features found and decoded against those expected. Sums of 8 products of size 1, folded once in f32: 1e-5. */
static int check_features(const char *name, Sae *s, const Weights *expected)
{
    Err e = {0};
    char title[100];
    float *x = weights_floats(expected, "x", 2, (int64_t[]){N, D}, &e);
    float *want = weights_floats(expected, name, 2, (int64_t[]){N, F}, &e);
    snprintf(title, sizeof title, "%s.decoded", name);
    float *decoded = weights_floats(expected, title, 2, (int64_t[]){N, D}, &e), a[N*K], y[N*D], dense[N*F] = {0};
    int32_t i[N*K];
    if (!x || !want || !decoded || sae_prepare(s, F32, &e))
        return test_ok(e.text, 0);
    sae_encode(s, a, i, x, N);
    sae_decode(s, y, a, i, N);
    for (int n = 0; n < N; n++)
        for (int k = 0; k < K; k++)
            dense[n*F + i[n*K + k]] += a[n*K + k];
    int failed = test_close(title, y, decoded, N*D, 1e-5f, 1e-5f);
    snprintf(title, sizeof title, "%s/features", name);
    failed += test_close(title, dense, want, N*F, 1e-5f, 1e-5f);
    free(x);
    free(want);
    free(decoded);
    return failed;
}

static int same_weights(const char *title, const Sae *a, const Sae *b)
{
    return test_same(title, a->W_enc, b->W_enc, sizeof(float[F*D])) + test_same(title, a->W_dec, b->W_dec, sizeof(float[F*D]))
         + test_same(title, a->b_enc, b->b_enc, sizeof(float[F])) + test_same(title, a->b_dec, b->b_dec, sizeof(float[D]))
         + test_ok(title, a->K == b->K && strcmp(a->hook, b->hook) == 0 && strcmp(a->take, b->take) == 0);
}

static int check_folder(const char *name, const char *hook, const Weights *expected)
{
    static const char *const to[] = {"to saeuron", "to sparsify", "to saelens"};
    Err e = {0};
    Sae *s, *again, *back;
    if (sae_load(&s, in_tests(name), &e))
        return test_ok(e.text, 0);
    int failed = test_ok(name, s->D == D && s->F == F && s->K == K && strcmp(s->hook, hook) == 0)
               + check_features(name, s, expected);
    json_object_set_new(s->cfg, "training", json_pack("{s:i}", "seed", 7));
    for (int f = 0; f < 3; f++) {
        char title[100], written[100], second[100];
        snprintf(title, sizeof title, "%s/%s", name, to[f]);
        snprintf(written, sizeof written, "%s-%s", name, to[f]);
        snprintf(second, sizeof second, "%s-%s-back", name, to[f]);
        if (sae_save_as(s, scratch(written), (SaeFormat)f, &e) || sae_load(&again, scratch(written), &e)
            || sae_save(again, scratch(second), &e) || sae_load(&back, scratch(second), &e))
            return failed + test_ok(e.text, 0);
        failed += same_weights(title, again, s) + same_weights(title, back, s)
                + test_ok("the rest of the config comes back",
                          json_equal(json_object_get(back->cfg, "training"), json_object_get(s->cfg, "training")));
        sae_free(again);
        sae_free(back);
    }
    sae_free(s);
    return failed;
}

/* A folder of NAME's files whose config has key (of "trainer" where it is there) set to value. */
static int refused(const char *name, const char *key, json_t *value, const char *words)
{
    static const char *const files[] = {"config.json", "cfg.json"};
    static const char *const weights[] = {"sae_weights.safetensors", "state_dict.pth", "ae.pt", "sae.safetensors"};
    Err e = {0};
    Sae *s;
    char title[200], from[4096], to[4096];
    mkdir(scratch("r"), 0777);
    for (int i = 0; i < 4; i++) {
        snprintf(from, sizeof from, "%s/%s", in_tests(name), weights[i]);
        snprintf(title, sizeof title, "r/%s", weights[i]);
        unlink(scratch(title));
        if (access(from, F_OK) == 0 && symlink(realpath(from, to), scratch(title)))
            return test_ok("symlink", 0);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(from, sizeof from, "%s/%s", in_tests(name), files[i]);
        snprintf(title, sizeof title, "r/%s", files[i]);
        unlink(scratch(title));
        if (access(from, F_OK))
            continue;
        json_t *cfg = json_file_load(from, &e), *in = json_object_get(cfg, "trainer");
        json_object_set(in ? in : cfg, key, value);
        if (json_file_write(scratch(title), cfg, &e))
            return test_ok(e.text, 0);
        json_decref(cfg);
    }
    json_decref(value);
    e = (Err){0};
    snprintf(title, sizeof title, "refused/%s: %s", name, words);
    const int failed = test_ok(title, sae_load(&s, scratch("r"), &e) == -1 && !s && strstr(e.text, words));
    if (failed)
        test_note("message: %s", e.text);
    return failed;
}

static int check_refusals(void)
{
    return refused("saelens", "architecture", json_string("gated"), "architecture is gated, expected topk: its gate")
         + refused("saelens", "architecture", json_string("standard"), "architecture is standard, expected topk")
         + refused("saelens", "architecture", json_string("jumprelu"), "a threshold of their own")
         + refused("saelens", "architecture", json_string("batchtopk"), "on average over a batch")
         + refused("saelens", "architecture", json_string("new"), "architecture is new, expected topk: it is not known")
         + refused("saelens", "normalize_activations", json_string("layer_norm"), "normalize_activations is layer_norm")
         + refused("saelens", "reshape_activations", json_string("hook_z"), "reshape_activations is hook_z")
         + refused("saelens", "k", json_integer(25), "k is 25, expected 1 to 24")
         + refused("saelens", "d_sae", json_integer(8), "8 features, W_enc is [8, 24]")
         + refused("saelens", "d_in", json_integer(24), "width 24, W_enc is [8, 24]")
         + refused("openai", "k", json_string("4"), "\"k\" is a string")
         + refused("openai", "d_model", json_integer(9), "width 9, state_dict.encoder.weight is [24, 8]")
         + refused("dictionary_learning", "dict_class", json_string("BatchTopKSAE"), "dict_class is BatchTopKSAE")
         + refused("dictionary_learning", "dict_class", json_string("GatedAutoEncoder"), "expected AutoEncoderTopK")
         + refused("dictionary_learning", "k", json_null(), "\"k\" is null")
         + refused("sparsify", "activation", json_string("groupmax"), "activation is groupmax")
         + refused("sparsify", "transcode", json_true(), "transcode is true");
}

int main(void)
{
    Err e = {0};
    Weights *expected;
    if (backend_pick("cpu", 1, &e) || weights_open(&expected, in_tests("expected.safetensors"), &e))
        return test_ok(e.text, 0);
    const int failed = check_folder("saelens", "up_blocks.1.attentions.1", expected)
                     + check_folder("saelens-whole", "up_blocks.1.attentions.1", expected)
                     + check_folder("sparsify", "", expected)
                     + check_folder("openai", "", expected)
                     + check_folder("dictionary_learning", "up_blocks.1", expected)
                     + check_refusals();
    weights_close(expected);
    scratch_clear();
    return failed != 0;
}
