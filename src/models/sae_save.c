/* SPDX-License-Identifier: MIT */
/* sae_save.c -- writes an autoencoder's folder, in the layout of SAeUron and sparsify or in that of SAELens.
 *
 *   sae.safetensors           encoder.weight [F,D]  encoder.bias [F]  W_dec [F,D]  b_dec [D], f32; and of a gate what
 *                             there is of threshold, scale, offset [F]
 *   sae_weights.safetensors   W_enc [D,F]           b_enc [F]         W_dec [F,D]  b_dec [D], f32; jumprelu: threshold
 *                             [F]; gated: b_gate for b_enc, r_mag = log(scale), b_mag = offset + scale b_gate
 *
 * SAELens keeps what it does not know in "metadata" only: there the rest of our cfg.json goes, as "sdsteer". */
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/aside.h"
#include "formats/folder.h"
#include "formats/json_file.h"
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/sae.h"
#include "src/models/sae_layout.h"

typedef struct Written { json_t *cfg; bool saelens; } Written;

static void transpose(float *y, const float *x, int rows, int columns)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            y[(size_t)c*(size_t)rows + (size_t)r] = x[(size_t)r*(size_t)columns + (size_t)c];
}

/* All weights on the host, in one piece of memory; across (D,F): W_enc, where it is asked for. */
typedef struct Host { float *memory, *W_enc, *W_dec, *across, *b_enc, *b_dec, *threshold, *scale, *offset; } Host;

static int fetch(Host *h, const Sae *s, bool across, Err *e)
{
    const size_t F = (size_t)s->F, D = (size_t)s->D, FD = F*D;
    float *at = h->memory = malloc(sizeof(float)*((across ? 3 : 2)*FD + 4*F + D));
    if (!at)
        return err_set(e, "out of memory");
    h->W_enc = at;
    h->W_dec = h->W_enc + FD;
    h->across = h->W_dec + FD;
    h->b_enc = h->across + (across ? FD : 0);
    h->threshold = h->b_enc + F;
    h->scale = h->threshold + F;
    h->offset = h->scale + F;
    h->b_dec = h->offset + F;
    op->download(h->W_enc, s->W_enc, sizeof(float)*FD);
    op->download(h->W_dec, s->W_dec, sizeof(float)*FD);
    op->download(h->b_enc, s->b_enc, sizeof(float)*F);
    op->download(h->b_dec, s->b_dec, sizeof(float)*D);
    const float *gate[] = {s->threshold, s->scale, s->offset};
    float *const to[] = {h->threshold, h->scale, h->offset};
    for (int p = 0; p < 3; p++)
        if (gate[p])
            op->download(to[p], gate[p], sizeof(float)*F);
    if (across)
        transpose(h->across, h->W_enc, s->F, s->D);
    return 0;
}

/* SAELens's r_mag and b_mag, in the place of scale and offset. */
static void as_magnitude(Host *h, const Sae *s)
{
    for (int f = 0; f < s->F; f++) {
        h->offset[f] = (float)(h->offset[f] + (double)h->scale[f]*h->b_enc[f]);
        h->scale[f] = (float)log((double)h->scale[f]);
    }
}

static const char *weights_name(bool saelens)
{
    return saelens ? "sae_weights.safetensors" : "sae.safetensors";
}

static int write_files(const Sae *s, const char *folder, const Written *what, Err *e)
{
    Host h = {0};
    if (fetch(&h, s, what->saelens, e))
        return -1;
    const bool gated = s->scale;
    if (what->saelens && gated)
        as_magnitude(&h, s);
    Weight all[8] = {
        {"W_dec", F32, 2, {s->F, s->D}, h.W_dec, NULL},
        {"b_dec", F32, 1, {s->D}, h.b_dec, NULL},
        {what->saelens ? gated ? "b_gate" : "b_enc" : "encoder.bias", F32, 1, {s->F}, h.b_enc, NULL},
        {what->saelens ? "W_enc" : "encoder.weight", F32, 2, {what->saelens ? s->D : s->F, what->saelens ? s->F : s->D},
         what->saelens ? h.across : h.W_enc, NULL},
    };
    size_t n = 4;
    if (s->threshold)
        all[n++] = (Weight){"threshold", F32, 1, {s->F}, h.threshold, NULL};
    if (s->scale)
        all[n++] = (Weight){what->saelens ? "r_mag" : "scale", F32, 1, {s->F}, h.scale, NULL};
    if (s->offset)
        all[n++] = (Weight){what->saelens ? "b_mag" : "offset", F32, 1, {s->F}, h.offset, NULL};
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, weights_name(what->saelens));
    int failed = weights_write(path, all, n, NULL, e);
    snprintf(path, sizeof path, "%s/cfg.json", folder);
    failed = failed || json_file_write(path, what->cfg, e);
    free(h.memory);
    return failed ? -1 : 0;
}

/* As folder_there; an autoencoder in another layout is an error. */
static int check_folder(const char *dir, bool saelens, Err *e)
{
    const int there = folder_there(dir, e);
    const SaeLayout *other = there > 0 ? sae_layout_beside(dir, weights_name(saelens)) : NULL;
    return other ? err_set(e, "%s: holds %s, an autoencoder in %s's layout, and readers would find two there; name "
                           "another folder, or remove that file", dir, other->weights, other->name)
                 : there;
}

int sae_check_folder(const char *dir, Err *e)
{
    const int there = check_folder(dir, false, e);
    char path[PATH_MAX + 64];
    if (there < 0)
        return -1;
    if (there) {
        snprintf(path, sizeof path, "%s/%s", dir, weights_name(false));
        return aside_try(path, e);
    }
    AsideFolder *f = aside_folder(dir, NULL, 0, e);
    if (f)
        aside_folder_abandon(f);
    return f ? 0 : -1;
}

static int save(const Sae *s, const char *dir, const Written *what, Err *e)
{
    const int there = check_folder(dir, what->saelens, e);
    if (there)
        return there < 0 ? -1 : write_files(s, dir, what, e);
    AsideFolder *f = aside_folder(dir, (const char *const[]){weights_name(what->saelens), "cfg.json"}, 2, e);
    if (!f)
        return -1;
    if (write_files(s, aside_folder_part(f), what, e) == 0)
        return aside_folder_commit(f, e);
    aside_folder_abandon(f);
    return -1;
}

int sae_save(const Sae *s, const char *dir, Err *e)
{
    return save(s, dir, &(Written){s->cfg, false}, e);
}

/* ---- for other programs ---- */

/* s->cfg with the keys that SAeUron's loader or sparsify's has, and no switch of the other's. */
static json_t *plain_config(const Sae *s, SaeFormat format)
{
    json_t *cfg = json_deep_copy(s->cfg);
    json_t *has = format == SAE_SPARSIFY
        ? json_pack("{s:s, s:b, s:b}", "activation", "topk", "skip_connection", 0, "transcode", 0)
        : json_pack("{s:b, s:b, s:b}", "batch_topk", 0, "sample_topk", 0, "input_unit_norm", 0);
    json_t *sizes = json_pack("{s:i, s:i, s:i, s:i}", "expansion_factor", s->F > s->D ? s->F/s->D : 1,
                              "num_latents", s->F, "k", s->K, "d_in", s->D);
    static const char *const drop[2][3] = {{"batch_topk", "sample_topk", "input_unit_norm"},
                                           {"activation", "skip_connection", "transcode"}};
    for (int i = 0; i < 3; i++)
        json_object_del(cfg, drop[format != SAE_SPARSIFY][i]);
    const int failed = !cfg || !has || !sizes || json_object_update(cfg, sizes)
                    || json_object_update_missing(cfg, has);
    json_decref(has);
    json_decref(sizes);
    if (failed) {
        json_decref(cfg);
        return NULL;
    }
    return cfg;
}

static const char *activation_of(const Sae *s)
{
    const char *activation = json_string_value(json_object_get(s->cfg, "activation"));
    return activation ? activation : "topk";
}

/* Without a version of 6 or later SAELens takes the config for an older one, and drops the metadata. */
static json_t *saelens_config(const Sae *s)
{
    const char *architecture = s->threshold ? "jumprelu" : s->scale ? "gated"
                             : strcmp(activation_of(s), "topk") == 0 ? "topk" : "standard";
    json_t *cfg = json_pack("{s:s, s:i, s:i, s:s, s:s, s:b, s:s, s:s, s:{s:s, s:s, s:O}}", "architecture", architecture,
                            "d_in", s->D, "d_sae", s->F, "dtype", "float32", "device", "cpu",
                            "apply_b_dec_to_input", 1, "normalize_activations", "none", "reshape_activations", "none",
                            "metadata", "sae_lens_version", "6.0.0", "hook_name", s->hook, "sdsteer", s->cfg);
    if (cfg && strcmp(architecture, "topk") == 0) {
        json_object_set_new(cfg, "k", json_integer(s->K));
        json_object_set_new(cfg, "rescale_acts_by_decoder_norm", json_false());
    }
    return cfg;
}

int sae_save_as(const Sae *s, const char *dir, SaeFormat format, Err *e)
{
    const bool saelens = format == SAE_SAELENS;
    if (!saelens && strcmp(activation_of(s), "topk") != 0)
        return err_set(e, "%s: SAeUron and sparsify keep the k largest of each token, this autoencoder is %s; SAELens "
                       "can hold it", s->id, activation_of(s));
    if (saelens && (s->threshold ? s->scale || s->offset : !s->scale != !s->offset))
        return err_set(e, "%s: SAELens has thresholds, or scales and offsets together, and this autoencoder mixes them",
                       s->id);
    const Written what = {saelens ? saelens_config(s) : plain_config(s, format), saelens};
    const int failed = what.cfg ? save(s, dir, &what, e) : err_set(e, "out of memory");
    json_decref(what.cfg);
    return failed;
}
