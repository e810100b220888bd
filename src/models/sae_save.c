/* SPDX-License-Identifier: MIT */
/* sae_save.c -- writes an autoencoder's folder, in the layout of SAeUron and sparsify or in that of SAELens.
 *
 *   sae.safetensors           encoder.weight [F,D]  encoder.bias [F]  W_dec [F,D]  b_dec [D], f32
 *   sae_weights.safetensors   W_enc [D,F]           b_enc [F]         W_dec [F,D]  b_dec [D], f32
 *
 * SAELens keeps what it does not know in "metadata" only: there the rest of our cfg.json goes, as "sdsteer". */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "formats/folder.h"
#include "formats/json_file.h"
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/sae.h"

typedef struct Written { json_t *cfg; bool saelens; } Written;

static void transpose(float *y, const float *x, int rows, int columns)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            y[(size_t)c*(size_t)rows + (size_t)r] = x[(size_t)r*(size_t)columns + (size_t)c];
}

static int write_files(const Sae *s, const char *folder, const Written *what, Err *e)
{
    const size_t FD = (size_t)s->F*(size_t)s->D;
    float *host = malloc(sizeof(float)*(2*FD + (size_t)s->F + (size_t)s->D));
    float *across = what->saelens ? malloc(sizeof(float)*FD) : NULL;
    if (!host || (what->saelens && !across)) {
        free(host);
        free(across);
        return err_set(e, "out of memory");
    }
    float *W_enc = host, *W_dec = W_enc + FD, *b_enc = W_dec + FD, *b_dec = b_enc + s->F;
    op->download(W_enc, s->W_enc, sizeof(float)*FD);
    op->download(W_dec, s->W_dec, sizeof(float)*FD);
    op->download(b_enc, s->b_enc, sizeof(float)*(size_t)s->F);
    op->download(b_dec, s->b_dec, sizeof(float)*(size_t)s->D);
    if (across)
        transpose(across, W_enc, s->F, s->D);
    const Weight sparsify[] = {
        {"W_dec", F32, 2, {s->F, s->D}, W_dec},
        {"b_dec", F32, 1, {s->D}, b_dec},
        {"encoder.bias", F32, 1, {s->F}, b_enc},
        {"encoder.weight", F32, 2, {s->F, s->D}, W_enc},
    }, saelens[] = {
        {"W_dec", F32, 2, {s->F, s->D}, W_dec},
        {"W_enc", F32, 2, {s->D, s->F}, across},
        {"b_dec", F32, 1, {s->D}, b_dec},
        {"b_enc", F32, 1, {s->F}, b_enc},
    };
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, what->saelens ? "sae_weights.safetensors" : "sae.safetensors");
    int failed = weights_write(path, what->saelens ? saelens : sparsify, 4, NULL, e);
    snprintf(path, sizeof path, "%s/cfg.json", folder);
    failed = failed || json_file_write(path, what->cfg, e);
    free(host);
    free(across);
    return failed ? -1 : 0;
}

static int save(const Sae *s, const char *dir, const Written *what, Err *e)
{
    char aside[PATH_MAX];
    struct stat st;
    if (stat(dir, &st) == 0)
        return S_ISDIR(st.st_mode) ? write_files(s, dir, what, e)
                                   : err_set(e, "%s: is there, and is not a folder", dir);
    if (snprintf(aside, sizeof aside, "%s", dir) >= (int)sizeof aside - 32)
        return err_set(e, "%s: the path is too long", dir);
    size_t n = strlen(aside);
    while (n > 1 && aside[n - 1] == '/')
        aside[--n] = 0;
    snprintf(aside + n, sizeof aside - n, ".part-%ld", (long)getpid());
    if (folder_make(aside, e))
        return -1;
    if (write_files(s, aside, what, e)) {
        rmdir(aside);
        return -1;
    }
    aside[n] = 0;
    char part[PATH_MAX + 32];
    snprintf(part, sizeof part, "%s.part-%ld", aside, (long)getpid());
    return rename(part, aside) ? err_set(e, "%s: %s", aside, strerror(errno)) : 0;
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

/* Without a version of 6 or later SAELens takes the config for an older one, and drops the metadata. */
static json_t *saelens_config(const Sae *s)
{
    return json_pack("{s:s, s:i, s:i, s:i, s:s, s:s, s:b, s:s, s:s, s:b, s:{s:s, s:s, s:O}}", "architecture", "topk",
                     "d_in", s->D, "d_sae", s->F, "k", s->K, "dtype", "float32", "device", "cpu",
                     "apply_b_dec_to_input", 1, "normalize_activations", "none", "reshape_activations", "none",
                     "rescale_acts_by_decoder_norm", 0, "metadata",
                     "sae_lens_version", "6.0.0", "hook_name", s->hook, "sdsteer", s->cfg);
}

int sae_save_as(const Sae *s, const char *dir, SaeFormat format, Err *e)
{
    const Written what = {format == SAE_SAELENS ? saelens_config(s) : plain_config(s, format), format == SAE_SAELENS};
    const int failed = what.cfg ? save(s, dir, &what, e) : err_set(e, "out of memory");
    json_decref(what.cfg);
    return failed;
}
