/* SPDX-License-Identifier: MIT */
/* sae_layout.c -- the layouts, and what each one's config must say to be an autoencoder that sae.h can compute. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "formats/json_file.h"
#include "formats/torch_zip.h"
#include "src/models/sae_layout.h"

/* ---- SAeUron, sparsify ---- */

/* batch_topk, sample_topk and multi_topk change training only: SAeUron too encodes with the K largest of each token. */
static int read_saeuron(const char *file, const json_t *cfg, SaeConfig *c, Err *e)
{
    static const char *const unsupported[] = {"input_unit_norm", "transcode", "skip_connection"};
    const char *activation;
    int64_t expansion;
    for (int i = 0; i < 3; i++) {
        bool on;
        if (json_get_bool(file, cfg, unsupported[i], false, &on, e))
            return -1;
        if (on)
            return err_set(e, "%s: %s is true: autoencoders of that kind are not supported", file, unsupported[i]);
    }
    if (json_get_text(file, cfg, "activation", "topk", &activation, e))
        return -1;
    if (strcmp(activation, "topk") != 0)
        return err_set(e, "%s: activation is %s, expected topk", file, activation);
    if (json_need_int(file, cfg, "k", &c->K, e) || json_get_int(file, cfg, "d_in", 0, &c->D, e)
        || json_get_int(file, cfg, "num_latents", 0, &c->F, e)
        || json_get_int(file, cfg, "expansion_factor", 0, &expansion, e)
        || json_get_text(file, cfg, "hook", "", &c->hook, e) || json_get_text(file, cfg, "take", "output", &c->take, e))
        return -1;
    if (c->F == 0 && c->D > 0 && c->D < INT_MAX && expansion > 0 && expansion < INT_MAX)
        c->F = expansion*c->D;
    return 0;
}

/* ---- SAELens ---- */

static const char *saelens_refusal(const char *architecture)
{
    static const struct { const char *name, *why; } refused[] = {
        {"standard", "it keeps all features above 0, not the k largest"},
        {"gated", "its gate is not computed here"},
        {"jumprelu", "it keeps the features above a threshold of their own, not the k largest"},
        {"batchtopk", "it keeps the k largest a token on average over a batch, not of each token"},
        {"matryoshka_batchtopk", "it keeps the k largest a token on average over a batch, not of each token"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strcmp(architecture, refused[i].name) == 0)
            return refused[i].why;
    return "it is not known here";
}

static int read_saelens(const char *file, const json_t *cfg, SaeConfig *c, Err *e)
{
    static const char *const none[] = {"normalize_activations", "reshape_activations"};
    const char *text;
    bool apply;
    if (json_need_text(file, cfg, "architecture", &text, e))
        return -1;
    if (strcmp(text, "topk") != 0)
        return err_set(e, "%s: architecture is %s, expected topk: %s", file, text, saelens_refusal(text));
    for (int i = 0; i < 2; i++) {
        if (json_get_text(file, cfg, none[i], "none", &text, e))
            return -1;
        if (strcmp(text, "none") != 0)
            return err_set(e, "%s: %s is %s, expected none: fold it into the weights first", file, none[i], text);
    }
    const json_t *metadata = json_object_get(cfg, "metadata"), *ours = json_object_get(metadata, "sdsteer");
    const char *hook = json_string_value(json_object_get(metadata, "hook_name"));
    const char *take = json_string_value(json_object_get(ours, "take"));
    c->hook = hook ? hook : "";
    c->take = take ? take : "output";
    if (json_need_int(file, cfg, "k", &c->K, e) || json_get_int(file, cfg, "d_in", 0, &c->D, e)
        || json_get_int(file, cfg, "d_sae", 0, &c->F, e)
        || json_get_bool(file, cfg, "apply_b_dec_to_input", true, &apply, e)
        || json_get_bool(file, cfg, "rescale_acts_by_decoder_norm", false, &c->scaled, e))
        return -1;
    c->input_is_whole = !apply;
    return 0;
}

/* ---- those of torch ---- */

static int read_openai(const char *file, const json_t *cfg, SaeConfig *c, Err *e)
{
    c->hook = "";
    c->take = "output";
    return json_need_int(file, cfg, "k", &c->K, e) || json_get_int(file, cfg, "d_model", 0, &c->D, e)
        || json_get_int(file, cfg, "n_dirs_local", 0, &c->F, e) ? -1 : 0;
}

static int read_dictionary_learning(const char *file, const json_t *cfg, SaeConfig *c, Err *e)
{
    const json_t *trainer;
    const char *class;
    if (json_need_object(file, cfg, "trainer", &trainer, e) || json_need_text(file, trainer, "dict_class", &class, e))
        return -1;
    if (strcmp(class, "AutoEncoderTopK") != 0)
        return err_set(e, "%s: dict_class is %s, expected AutoEncoderTopK: others keep features by a threshold or a "
                       "gate, not the k largest", file, class);
    c->take = "output";
    return json_get_text(file, trainer, "submodule_name", "", &c->hook, e)
        || json_need_int(file, trainer, "k", &c->K, e)
        || json_get_int(file, trainer, "activation_dim", 0, &c->D, e)
        || json_get_int(file, trainer, "dict_size", 0, &c->F, e) ? -1 : 0;
}

static const SaeLayout layouts[] = {
    {"SAeUron", "cfg.json", "sae.safetensors", weights_open, read_saeuron,
     "encoder.weight", "encoder.bias", "W_dec", "b_dec", false, false, true},
    {"SAELens", "cfg.json", "sae_weights.safetensors", weights_open, read_saelens,
     "W_enc", "b_enc", "W_dec", "b_dec", true, false, false},
    {"OpenAI", "config.json", "state_dict.pth", torch_zip_open, read_openai,
     "encoder.weight", "latent_bias", "decoder.weight", "pre_bias", false, true, false},
    {"dictionary_learning", "config.json", "ae.pt", torch_zip_open, read_dictionary_learning,
     "encoder.weight", "encoder.bias", "decoder.weight", "b_dec", false, true, false},
};

static bool exists(const char *folder, const char *name)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path && access(path, F_OK) == 0;
}

const SaeLayout *sae_layout_find(const char *folder)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (exists(folder, layouts[i].config) && exists(folder, layouts[i].weights))
            return &layouts[i];
    return exists(folder, layouts[0].config) ? &layouts[0] : NULL;
}

json_t *sae_layout_config(const SaeLayout *l, json_t *cfg, const SaeConfig *c)
{
    const json_t *ours = json_object_get(json_object_get(cfg, "metadata"), "sdsteer");
    const bool returns = json_is_object(ours);      /* what was written from here comes back as it was */
    json_t *config = returns ? json_deep_copy(ours) : json_object();
    json_t *sizes = json_pack("{s:I, s:b, s:I, s:I, s:b, s:b, s:b, s:b, s:s, s:I, s:s, s:s}",
                              "expansion_factor", (json_int_t)(c->F/c->D), "normalize_decoder", 0,
                              "num_latents", (json_int_t)c->F, "k", (json_int_t)c->K, "batch_topk", 0, "sample_topk", 0,
                              "input_unit_norm", 0, "multi_topk", 0, "activation", "topk", "d_in", (json_int_t)c->D,
                              "hook", c->hook, "take", c->take);
    json_t *origin = returns ? NULL : json_pack("{s:s, s:O}", "layout", l->name, "config", cfg);
    int failed = !config || !sizes || (!returns && !origin);
    failed = failed || (returns ? json_object_update_missing(config, sizes) : json_object_update(config, sizes));
    if (!failed && returns)
        failed = json_object_set(config, "k", json_object_get(sizes, "k"))
              || json_object_set(config, "d_in", json_object_get(sizes, "d_in"))
              || json_object_set(config, "num_latents", json_object_get(sizes, "num_latents"));
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
