/* SPDX-License-Identifier: MIT */
/* sae_layout.c -- the layouts, and what each one's config must say to be an autoencoder that sae.h can compute. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "formats/folder.h"
#include "formats/json_file.h"
#include "formats/torch_zip.h"
#include "src/models/sae_layout.h"
#include "src/models/sae_train.h"

/* ---- SAeUron, sparsify ---- */

static const SaeTensors ours = {.W_enc = "encoder.weight", .b_enc = "encoder.bias", .W_dec = "W_dec", .b_dec = "b_dec",
                                .threshold = "threshold", .scale = "scale", .offset = "offset"};

static int read_activation(const char *file, const json_t *cfg, SaeConfig *c, Err *e)
{
    SaeVariant known;
    if (json_get_text(file, cfg, "activation", "topk", &c->activation, e))
        return -1;
    if (sae_variant_find(&known, c->activation) == 0)
        return 0;
    return err_set(e, "%s: activation is %s, expected topk, batchtopk, sampletopk, matryoshka, jumprelu, gated or relu",
                   file, c->activation);
}

/* batch_topk, sample_topk and multi_topk change training only: SAeUron too encodes with the K largest of each token.
 * "activation" is sparsify's; all but its topk are ours. */
static int read_saeuron(const char *file, const json_t *cfg, SaeConfig *c, Err *e)
{
    static const char *const unsupported[] = {"input_unit_norm", "transcode", "skip_connection", "signed"};
    int64_t expansion;
    for (int i = 0; i < 4; i++) {
        bool on;
        if (json_get_bool(file, cfg, unsupported[i], false, &on, e))
            return -1;
        if (on)
            return err_set(e, "%s: %s is true: autoencoders of that kind are not supported", file, unsupported[i]);
    }
    c->tensors = &ours;
    if (read_activation(file, cfg, c, e)
        || json_need_int(file, cfg, "k", &c->k, e) || json_get_int(file, cfg, "d_in", 0, &c->D, e)
        || json_get_int(file, cfg, "num_latents", 0, &c->F, e)
        || json_get_int(file, cfg, "expansion_factor", 0, &expansion, e)
        || json_get_text(file, cfg, "hook", "", &c->hook, e) || json_get_text(file, cfg, "take", "output", &c->take, e)
        || json_get_int(file, cfg, "most", strcmp(c->activation, "topk") ? 0 : c->k, &c->K, e))
        return -1;
    if (c->F == 0 && c->D > 0 && c->D < INT_MAX && expansion > 0 && expansion < INT_MAX)
        c->F = expansion*c->D;
    return 0;
}

/* ---- SAELens ---- */

typedef struct Kind { const char *name, *activation; SaeTensors tensors; } Kind;

/* By architecture. BatchTopK and Matryoshka autoencoders are saved as jumprelu. */
static const Kind saelens[] = {
    {"topk", "topk", {"W_enc", "b_enc", "W_dec", "b_dec", .enc_across = true}},
    {"standard", "relu", {"W_enc", "b_enc", "W_dec", "b_dec", .enc_across = true}},
    {"jumprelu", "jumprelu", {"W_enc", "b_enc", "W_dec", "b_dec", .enc_across = true, .threshold = "threshold"}},
    {"gated", "gated", {"W_enc", "b_gate", "W_dec", "b_dec", .enc_across = true, .r_mag = "r_mag", .b_mag = "b_mag"}},
};

static const Kind *find_kind(const Kind *kinds, size_t count, const char *file, const char *key, const char *name,
                             Err *e)
{
    char known[300] = "";
    for (size_t i = 0; i < count; i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
        const size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", !i ? "" : i == count - 1 ? " or " : ", ", kinds[i].name);
    }
    err_set(e, "%s: %s is %s, expected %s", file, key, name, known);
    return NULL;
}

/* The architecture, and k where it has one. Before version 6, when there was no "metadata", "standard" went without
 * saying, top-k was an activation of it, and a boolean said whether activations were normalised (SAELens,
 * handle_pre_6_0_config). */
static int read_architecture(const char *file, const json_t *cfg, const char **name, const json_t **k, Err *e)
{
    static const char *const keys[] = {"activation_fn", "activation_fn_str"};
    bool tuned;
    if ((json_object_get(cfg, "metadata") ? json_need_text(file, cfg, "architecture", name, e)
                                          : json_get_text(file, cfg, "architecture", "standard", name, e))
        || json_get_bool(file, cfg, "finetuning_scaling_factor", false, &tuned, e))
        return -1;
    if (tuned)
        return err_set(e, "%s: finetuning_scaling_factor is true: fold it into the weights first", file);
    if (json_is_true(json_object_get(cfg, "normalize_activations")))
        return err_set(e, "%s: normalize_activations is true, expected none: fold it into the weights first", file);
    *k = json_object_get(cfg, "k");
    for (int i = 0; i < 2; i++) {
        const char *activation = json_string_value(json_object_get(cfg, keys[i]));
        if (!activation || strcmp(activation, "topk") != 0)
            continue;
        *name = "topk";
        *k = *k ? *k : json_object_get(json_object_get(cfg, "activation_fn_kwargs"), "k");
    }
    return 0;
}

static int read_saelens(const char *file, const json_t *cfg, SaeConfig *c, Err *e)
{
    static const char *const none[] = {"normalize_activations", "reshape_activations"};
    const char *text;
    const json_t *k = NULL;
    bool apply;
    if (read_architecture(file, cfg, &text, &k, e))
        return -1;
    const Kind *kind = find_kind(saelens, sizeof saelens / sizeof *saelens, file, "architecture", text, e);
    if (!kind)
        return -1;
    for (int i = 0; i < 2; i++) {
        if (json_is_false(json_object_get(cfg, none[i])))
            continue;
        if (json_get_text(file, cfg, none[i], "none", &text, e))
            return -1;
        if (strcmp(text, "none") != 0)
            return err_set(e, "%s: %s is %s, expected none: fold it into the weights first", file, none[i], text);
    }
    const json_t *metadata = json_object_get(cfg, "metadata"), *from_here = json_object_get(metadata, "sdsteer");
    const char *hook = json_string_value(json_object_get(metadata ? metadata : cfg, "hook_name"));
    const char *take = json_string_value(json_object_get(from_here, "take"));
    const char *activation = json_string_value(json_object_get(from_here, "activation"));
    const bool topk = strcmp(kind->activation, "topk") == 0;
    c->hook = hook ? hook : "";
    c->take = take ? take : "output";
    c->tensors = &kind->tensors;
    c->activation = activation && !topk ? activation : kind->activation;
    c->k = json_integer_value(json_object_get(from_here, "k"));
    c->K = json_integer_value(json_object_get(from_here, "most"));
    if (topk && !json_is_integer(k))
        return err_set(e, "%s: \"k\" is %s, expected an integer", file, json_type_text(k));
    c->K = topk ? json_integer_value(k) : c->K;
    if (json_get_int(file, cfg, "d_in", 0, &c->D, e) || json_get_int(file, cfg, "d_sae", 0, &c->F, e)
        || json_get_bool(file, cfg, "apply_b_dec_to_input", true, &apply, e)
        || json_get_bool(file, cfg, "rescale_acts_by_decoder_norm", false, &c->scaled, e))
        return -1;
    c->scaled = c->scaled && topk;
    c->k = topk ? c->K : c->k;
    c->input_is_whole = !apply;
    return 0;
}

/* ---- those of torch ---- */

static int read_openai(const char *file, const json_t *cfg, SaeConfig *c, Err *e)
{
    static const SaeTensors tensors = {"encoder.weight", "latent_bias", "decoder.weight", "pre_bias",
                                       .dec_across = true};
    c->hook = "";
    c->take = "output";
    c->activation = "topk";
    c->tensors = &tensors;
    if (json_need_int(file, cfg, "k", &c->K, e) || json_get_int(file, cfg, "d_model", 0, &c->D, e)
        || json_get_int(file, cfg, "n_dirs_local", 0, &c->F, e))
        return -1;
    c->k = c->K;
    return 0;
}

/* By dict_class. */
static const Kind dictionary_learning[] = {
    {"AutoEncoderTopK", "topk", {"encoder.weight", "encoder.bias", "decoder.weight", "b_dec", .dec_across = true}},
    {"BatchTopKSAE", "batchtopk",
     {"encoder.weight", "encoder.bias", "decoder.weight", "b_dec", .dec_across = true, .threshold = "threshold"}},
    {"MatryoshkaBatchTopKSAE", "matryoshka",
     {"W_enc", "b_enc", "W_dec", "b_dec", .enc_across = true, .threshold = "threshold"}},
    {"JumpReluAutoEncoder", "jumprelu",
     {"W_enc", "b_enc", "W_dec", "b_dec", .enc_across = true, .threshold = "threshold"}},
    {"GatedAutoEncoder", "gated",
     {"encoder.weight", "gate_bias", "decoder.weight", "decoder_bias", .dec_across = true, .r_mag = "r_mag",
      .b_mag = "mag_bias"}},
    {"AutoEncoder", "relu", {"encoder.weight", "encoder.bias", "decoder.weight", "bias", .dec_across = true}},
};

static int read_dictionary_learning(const char *file, const json_t *cfg, SaeConfig *c, Err *e)
{
    const json_t *trainer;
    const char *class;
    if (json_need_object(file, cfg, "trainer", &trainer, e) || json_need_text(file, trainer, "dict_class", &class, e))
        return -1;
    const Kind *kind = find_kind(dictionary_learning, sizeof dictionary_learning / sizeof *dictionary_learning, file,
                                 "dict_class", class, e);
    if (!kind)
        return -1;
    const bool topk = strcmp(kind->activation, "topk") == 0;
    c->take = "output";
    c->activation = kind->activation;
    c->tensors = &kind->tensors;
    c->input_is_whole = strcmp(class, "JumpReluAutoEncoder") == 0;      /* its apply_b_dec_to_input is not saved */
    if (json_get_text(file, trainer, "submodule_name", "", &c->hook, e)
        || (topk ? json_need_int(file, trainer, "k", &c->k, e) : json_get_int(file, trainer, "k", 0, &c->k, e))
        || json_get_int(file, trainer, "activation_dim", 0, &c->D, e)
        || json_get_int(file, trainer, "dict_size", 0, &c->F, e))
        return -1;
    c->K = topk ? c->k : 0;
    return 0;
}

static const SaeLayout layouts[] = {
    {"SAeUron", "cfg.json", "sae.safetensors", weights_open, read_saeuron, true},
    {"SAELens", "cfg.json", "sae_weights.safetensors", weights_open, read_saelens, false},
    {"OpenAI", "config.json", "state_dict.pth", torch_zip_open, read_openai, false},
    {"dictionary_learning", "config.json", "ae.pt", torch_zip_open, read_dictionary_learning, false},
};

static bool exists(const char *folder, const char *name)
{
    char path[PATH_MAX];
    return folder_has(folder, name, path);
}

const SaeLayout *sae_layout_find(const char *folder)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (exists(folder, layouts[i].config) && exists(folder, layouts[i].weights))
            return &layouts[i];
    return exists(folder, layouts[0].config) ? &layouts[0] : NULL;
}

const SaeLayout *sae_layout_beside(const char *folder, const char *weights)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (strcmp(layouts[i].weights, weights) != 0 && exists(folder, layouts[i].weights))
            return &layouts[i];
    return NULL;
}

json_t *sae_layout_config(const SaeLayout *l, json_t *cfg, const SaeConfig *c)
{
    const json_t *was = json_object_get(json_object_get(cfg, "metadata"), "sdsteer");
    const bool returns = json_is_object(was);       /* what was written from here comes back as it was */
    json_t *config = returns ? json_deep_copy(was) : json_object();
    json_t *sizes = json_pack("{s:I, s:b, s:I, s:I, s:b, s:b, s:b, s:b, s:s, s:I, s:s, s:s}",
                              "expansion_factor", (json_int_t)(c->F/c->D), "normalize_decoder", 0,
                              "num_latents", (json_int_t)c->F, "k", (json_int_t)(c->k ? c->k : c->K),
                              "batch_topk", 0, "sample_topk", 0, "input_unit_norm", 0, "multi_topk", 0,
                              "activation", c->activation, "d_in", (json_int_t)c->D, "hook", c->hook,
                              "take", c->take);
    json_t *origin = returns ? NULL : json_pack("{s:s, s:O}", "layout", l->name, "config", cfg);
    int failed = !config || !sizes || (!returns && !origin);
    failed = failed || (returns ? json_object_update_missing(config, sizes) : json_object_update(config, sizes));
    if (!failed && returns)
        failed = json_object_set(config, "k", json_object_get(sizes, "k"))
              || json_object_set(config, "d_in", json_object_get(sizes, "d_in"))
              || json_object_set(config, "num_latents", json_object_get(sizes, "num_latents"));
    if (!failed && !c->capped && (c->k == 0 || c->K != c->k))
        failed = json_object_set_new(config, "most", json_integer(c->K));
    if (!failed && origin)
        failed = json_object_set(config, "origin", origin);
    json_decref(sizes);
    json_decref(origin);
    if (failed) {
        json_decref(config);
        return NULL;
    }
    return config;
}
