/* SPDX-License-Identifier: MIT */
/* sae_layouts.c -- folders that SAELens, sparsify and torch wrote: the same features as those programs find; what is
 * written from here in each layout reads back as it was; what cannot be computed is refused by its name.
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
    float *decoded = weights_floats(expected, title, 2, (int64_t[]){N, D}, &e), a[N*F], y[N*D], dense[N*F] = {0};
    int32_t i[N*F];
    if (!x || !want || !decoded || sae_prepare(s, F32, &e))
        return test_ok(e.text, 0);
    sae_encode(s, a, i, x, N);
    sae_decode(s, y, a, i, N);
    for (int n = 0; n < N; n++)
        for (int k = 0; k < s->K; k++)
            dense[n*F + i[n*s->K + k]] += a[n*s->K + k];
    int failed = test_close(title, y, decoded, N*D, 1e-5f, 1e-5f);
    snprintf(title, sizeof title, "%s/features", name);
    failed += test_close(title, dense, want, N*F, 1e-5f, 1e-5f);
    free(x);
    free(want);
    free(decoded);
    return failed;
}

/* atol, rtol: a gate's magnitude is kept as its logarithm in SAELens's files. */
static int same_gate(const char *title, const float *a, const float *b)
{
    return !a && !b ? 0 : !a || !b ? test_ok(title, 0) : test_close(title, a, b, F, 1e-6f, 1e-6f);
}

static int same_weights(const char *title, const Sae *a, const Sae *b)
{
    return test_same(title, a->W_enc, b->W_enc, sizeof(float[F*D]))
         + test_same(title, a->W_dec, b->W_dec, sizeof(float[F*D]))
         + test_same(title, a->b_enc, b->b_enc, sizeof(float[F]))
         + test_same(title, a->b_dec, b->b_dec, sizeof(float[D]))
         + same_gate(title, a->threshold, b->threshold) + same_gate(title, a->scale, b->scale)
         + same_gate(title, a->offset, b->offset)
         + test_ok(title, a->K == b->K && strcmp(a->hook, b->hook) == 0 && strcmp(a->take, b->take) == 0);
}

/* SAeUron's config does not say: the k largest. */
static const char *activation_of(const Sae *s)
{
    const char *says = json_string_value(json_object_get(s->cfg, "activation"));
    return says ? says : "topk";
}

/* Saved in a layout, loaded, saved as ours, loaded: the same. */
static int round_trip(const char *name, const Sae *s, SaeFormat format, const char *to)
{
    Err e = {0};
    Sae *again, *back;
    char title[100], written[100], second[100];
    snprintf(title, sizeof title, "%s/%s", name, to);
    snprintf(written, sizeof written, "%s-%s", name, to);
    snprintf(second, sizeof second, "%s-%s-back", name, to);
    if (sae_save_as(s, scratch(written), format, &e) || sae_load(&again, scratch(written), &e)
        || sae_save(again, scratch(second), &e) || sae_load(&back, scratch(second), &e))
        return test_ok(e.text, 0);
    const int failed = same_weights(title, again, s) + same_weights(title, back, s)
                     + test_ok("the rest of the config comes back",
                               json_equal(json_object_get(back->cfg, "training"), json_object_get(s->cfg, "training"))
                               && strcmp(activation_of(back), activation_of(s)) == 0);
    sae_free(again);
    sae_free(back);
    return failed;
}

static int check_folder(const char *name, const char *hook, const char *activation, const Weights *expected)
{
    static const char *const to[] = {"to saeuron", "to sparsify", "to saelens"};
    const bool topk = strcmp(activation, "topk") == 0;
    Err e = {0};
    Sae *s;
    if (sae_load(&s, in_tests(name), &e))
        return test_ok(e.text, 0);
    int failed = test_ok(name, s->D == D && s->F == F && s->K == (topk ? K : F) && strcmp(s->hook, hook) == 0
                               && strcmp(activation_of(s), activation) == 0)
               + check_features(name, s, expected);
    json_object_set_new(s->cfg, "training", json_pack("{s:i}", "seed", 7));
    for (int f = topk ? 0 : SAE_SAELENS; f <= SAE_SAELENS; f++)
        failed += round_trip(name, s, (SaeFormat)f, to[f]);
    if (!topk)
        failed += test_ok("what sparsify cannot hold is refused",
                          sae_save_as(s, scratch("refused"), SAE_SPARSIFY, &e) == -1 && strstr(e.text, activation));
    sae_free(s);
    return failed;
}

/* The config that SAELens wrote before version 6, over the weights of "saelens" or "saelens-standard": the same
 * features (as its handle_pre_6_0_config reads it). */
static int check_older(const char *name, const char *activation, json_t *kwargs, const char *architecture,
                       const Weights *expected)
{
    char from[4096], to[4096], title[64];
    Err e = {0};
    Sae *s = NULL;
    mkdir(scratch("older"), 0777);
    snprintf(from, sizeof from, "%s/sae_weights.safetensors", in_tests(name));
    unlink(scratch("older/sae_weights.safetensors"));
    json_t *cfg = json_pack("{s:i, s:i, s:s, s:s, s:o, s:b, s:b, s:b}", "d_in", D, "d_sae", F, "hook_name", "mid_block",
                            "activation_fn_str", activation, "activation_fn_kwargs", kwargs, "normalize_activations", 0,
                            "apply_b_dec_to_input", 1, "finetuning_scaling_factor", 0);
    if (architecture)
        json_object_set_new(cfg, "architecture", json_string(architecture));
    int failed = symlink(realpath(from, to), scratch("older/sae_weights.safetensors"))
              || json_file_write(scratch("older/cfg.json"), cfg, &e) || sae_load(&s, scratch("older"), &e);
    json_decref(cfg);
    snprintf(title, sizeof title, "before SAELens 6/%s", activation);
    if (failed)
        return test_ok(e.text, 0);
    failed = test_text(title, s->hook, "mid_block") + check_features(name, s, expected);
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
    return refused("saelens", "architecture", json_string("new"),
                   "architecture is new, expected topk, standard, jumprelu or gated")
         + refused("saelens", "architecture", json_string("jumprelu"), "threshold")
         + refused("saelens", "normalize_activations", json_string("layer_norm"), "normalize_activations is layer_norm")
         + refused("saelens", "normalize_activations", json_true(), "normalize_activations is true")
         + refused("saelens", "finetuning_scaling_factor", json_true(), "finetuning_scaling_factor is true")
         + refused("saelens", "architecture", json_null(), "architecture\" is null")
         + refused("saelens", "reshape_activations", json_string("hook_z"), "reshape_activations is hook_z")
         + refused("saelens", "k", json_integer(25), "k is 25, expected 1 to 24")
         + refused("saelens", "d_sae", json_integer(8), "8 features, W_enc is [8, 24]")
         + refused("saelens", "d_in", json_integer(24), "width 24, W_enc is [8, 24]")
         + refused("openai", "k", json_string("4"), "\"k\" is a string")
         + refused("openai", "d_model", json_integer(9), "width 9, state_dict.encoder.weight is [24, 8]")
         + refused("dictionary_learning", "dict_class", json_string("CrossCoder"), "dict_class is CrossCoder")
         + refused("dictionary_learning", "dict_class", json_string("GatedAutoEncoder"), "gate_bias")
         + refused("dictionary_learning", "k", json_null(), "\"k\" is null")
         + refused("sparsify", "activation", json_string("groupmax"), "activation is groupmax")
         + refused("sparsify", "transcode", json_true(), "transcode is true")
         + refused("sparsify", "signed", json_true(), "signed is true");
}

/* What SAELens has no name for is not written as something else. */
static int check_mixed(void)
{
    int failed = 0;
    for (int mixed = 0; mixed < 3; mixed++) {           /* threshold and scale; scale alone; offset alone */
        Err e = {0};
        Sae *s = NULL;
        if (sae_create(&s, 4, 8, 2, &e) || (mixed == 0 && sae_need_gate(s, &s->threshold, &e))
            || (mixed < 2 && sae_need_gate(s, &s->scale, &e)) || (mixed == 2 && sae_need_gate(s, &s->offset, &e)))
            return test_ok(e.text, 0);
        failed += test_ok("a gate that SAELens does not have is refused",
                          sae_save_as(s, scratch("mixed"), SAE_SAELENS, &e) == -1 && strstr(e.text, "mixes them")
                          && access(scratch("mixed"), F_OK) != 0);
        sae_free(s);
    }
    return failed;
}

int main(void)
{
    Err e = {0};
    Weights *expected;
    if (backend_pick("cpu", 1, &e) || weights_open(&expected, in_tests("expected.safetensors"), &e))
        return test_ok(e.text, 0);
    static const char *const folders[][3] = {
        {"saelens", "up_blocks.1.attentions.1", "topk"}, {"saelens-whole", "up_blocks.1.attentions.1", "topk"},
        {"saelens-standard", "", "relu"}, {"saelens-jumprelu", "", "jumprelu"}, {"saelens-gated", "", "gated"},
        {"sparsify", "", "topk"}, {"openai", "", "topk"}, {"dictionary_learning", "up_blocks.1", "topk"},
        {"dictionary_learning-batchtopk", "up_blocks.1", "batchtopk"},
        {"dictionary_learning-matryoshka", "up_blocks.1", "matryoshka"},
        {"dictionary_learning-jumprelu", "up_blocks.1", "jumprelu"},
        {"dictionary_learning-gated", "up_blocks.1", "gated"}, {"dictionary_learning-relu", "up_blocks.1", "relu"},
    };
    int failed = check_refusals() + check_mixed();
    for (size_t f = 0; f < sizeof folders / sizeof *folders; f++)
        failed += check_folder(folders[f][0], folders[f][1], folders[f][2], expected);
    failed += check_older("saelens", "topk", json_pack("{s:i}", "k", K), "standard", expected)
            + check_older("saelens-standard", "relu", json_object(), NULL, expected);
    weights_close(expected);
    scratch_clear();
    return failed != 0;
}
