/* SPDX-License-Identifier: MIT */
/* sae_folder.c -- an autoencoder's folder, as sparsify and SAeUron read and write it.
 *
 *   sae.safetensors   encoder.weight [F,D]  encoder.bias [F]  W_dec [F,D]  b_dec [D], any float type; f32 when written
 *   cfg.json          expansion_factor, normalize_decoder, num_latents (0: expansion_factor * d_in), k, d_in, and
 *                     switches; what changes the mathematics in a way that is not here is refused by the name of its
 *                     key
 *
 * batch_topk, sample_topk and multi_topk change training only: SAeUron too encodes with the K largest of each token. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "formats/json_file.h"
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/sae.h"

enum { MAX_WIDTH = 1 << 17, MAX_FEATURES = 1 << 24 };

static int exists(const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    return snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path && stat(path, &st) == 0;
}

/* The folder that holds cfg.json: dir, or the one folder in it that does. */
static int find_folder(char folder[PATH_MAX], const char *dir, Err *e)
{
    if (snprintf(folder, PATH_MAX, "%s", dir) >= PATH_MAX)
        return err_set(e, "%s: the path is too long", dir);
    if (exists(dir, "cfg.json"))
        return 0;
    DIR *d = opendir(dir);
    if (!d)
        return err_set(e, "%s: %s", dir, strerror(errno));
    int found = 0;
    for (struct dirent *entry; (entry = readdir(d));) {
        char below[PATH_MAX];
        if (entry->d_name[0] == '.' || snprintf(below, sizeof below, "%s/%s", dir, entry->d_name) >= PATH_MAX
            || !exists(below, "cfg.json"))
            continue;
        strcpy(folder, below);
        found++;
    }
    closedir(d);
    if (found == 1)
        return 0;
    return found ? err_set(e, "%s: holds %d autoencoders; name one of its folders", dir, found)
                 : err_set(e, "%s: no cfg.json there: not an autoencoder's folder", dir);
}

static int check_config(const char *file, const json_t *cfg, Err *e)
{
    static const char *const unsupported[] = {"input_unit_norm", "transcode", "skip_connection"};
    for (int i = 0; i < 3; i++) {
        bool on;
        if (json_get_bool(file, cfg, unsupported[i], false, &on, e))
            return -1;
        if (on)
            return err_set(e, "%s: %s is true: autoencoders of that kind are not supported", file, unsupported[i]);
    }
    const char *activation;
    if (json_get_text(file, cfg, "activation", "topk", &activation, e))
        return -1;
    if (strcmp(activation, "topk") != 0 && strcmp(activation, "batchtopk") != 0)
        return err_set(e, "%s: activation is %s, expected topk or batchtopk", file, activation);
    return 0;
}

/* Sizes from the weights; what the config says of them must agree. */
static int read_sizes(const char *file, const json_t *cfg, const Weight *W, int *D, int *F, int *K, Err *e)
{
    int64_t k, d_in, latents, expansion;
    if (json_need_int(file, cfg, "k", &k, e) || json_get_int(file, cfg, "d_in", W->dim[1], &d_in, e)
        || json_get_int(file, cfg, "num_latents", 0, &latents, e)
        || json_get_int(file, cfg, "expansion_factor", 0, &expansion, e))
        return -1;
    if (W->dim[0] < 1 || W->dim[0] > MAX_FEATURES || W->dim[1] < 1 || W->dim[1] > MAX_WIDTH)
        return err_set(e, "%s: encoder.weight is [%lld, %lld]: sizes out of bounds", file, (long long)W->dim[0],
                       (long long)W->dim[1]);
    if (d_in != W->dim[1])
        return err_set(e, "%s: d_in is %lld, encoder.weight is [%lld, %lld]", file, (long long)d_in,
                       (long long)W->dim[0], (long long)W->dim[1]);
    if (latents == 0)
        latents = expansion > 0 && expansion <= MAX_FEATURES ? expansion*d_in : W->dim[0];
    if (latents != W->dim[0])
        return err_set(e, "%s: %lld features by num_latents or expansion_factor, encoder.weight is [%lld, %lld]", file,
                       (long long)latents, (long long)W->dim[0], (long long)W->dim[1]);
    if (k < 1 || k > latents)
        return err_set(e, "%s: k is %lld, expected 1 to %lld", file, (long long)k, (long long)latents);
    *D = (int)d_in;
    *F = (int)latents;
    *K = (int)k;
    return 0;
}

/* The threshold of a batchtopk, and the most it may keep of a token. */
static int read_threshold(Sae *s, const char *file, const json_t *cfg, Err *e)
{
    const char *activation;
    double threshold;
    int64_t most;
    if (json_get_text(file, cfg, "activation", "topk", &activation, e))
        return -1;
    if (strcmp(activation, "batchtopk") != 0)
        return 0;
    if (json_need_number(file, cfg, "threshold", &threshold, e) || json_need_int(file, cfg, "most", &most, e))
        return -1;
    if (!(threshold > 0 && threshold < 1e30) || most < s->K || most > s->F)
        return err_set(e, "%s: threshold is %g and most %lld, expected above 0, and k to %d", file, threshold,
                       (long long)most, s->F);
    s->threshold = (float)threshold;
    s->K = (int)most;
    return 0;
}

static uint64_t hash_words(uint64_t hash, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, &x[i], sizeof word);
        hash = (hash ^ word)*0x100000001b3u;
    }
    return hash;
}

/* One tensor to the device, refusing what is not a number; *hash goes on over its values. */
static int load_tensor(float *device, const Weights *w, const char *name, int ndim, const int64_t *dim, uint64_t *hash,
                       Err *e)
{
    float *x = weights_floats(w, name, ndim, dim, e);
    if (!x)
        return -1;
    const size_t n = (size_t)dim[0]*(ndim == 2 ? (size_t)dim[1] : 1);
    int failed = 0;
    for (size_t i = 0; i < n && !failed; i++)
        if (!isfinite(x[i]))
            failed = err_set(e, "%s: %s: value %zu is %f", weights_path(w), name, i, (double)x[i]);
    if (!failed) {
        op->upload(device, x, n*sizeof *x);
        *hash = hash_words(*hash, x, n);
    }
    free(x);
    return failed;
}

static int load_weights(Sae *s, const Weights *w, uint64_t *hash, Err *e)
{
    const int64_t FD[] = {s->F, s->D};
    return load_tensor(s->W_enc, w, "encoder.weight", 2, FD, hash, e)
        || load_tensor(s->b_enc, w, "encoder.bias", 1, FD, hash, e)
        || load_tensor(s->W_dec, w, "W_dec", 2, FD, hash, e)
        || load_tensor(s->b_dec, w, "b_dec", 1, FD + 1, hash, e);
}

/* "up_blocks.1.attentions.1-1a2b3c4d5e6f" */
static void make_id(Sae *s, const char *folder, uint64_t hash)
{
    char real[PATH_MAX];
    const char *name = realpath(folder, real) ? strrchr(real, '/') + 1 : folder;
    snprintf(s->id, sizeof s->id, "%.60s-%012" PRIx64, *name ? name : "sae", (hash ^ hash >> 48) & 0xffffffffffffu);
}

static int copy_text(char *to, size_t size, const char *file, const json_t *cfg, const char *key, const char *fallback,
                     Err *e)
{
    const char *text;
    if (json_get_text(file, cfg, key, fallback, &text, e))
        return -1;
    if (strlen(text) >= size)
        return err_set(e, "%s: %s is longer than %zu bytes", file, key, size - 1);
    strcpy(to, text);
    return 0;
}

int sae_load(Sae **out, const char *dir, Err *e)
{
    char folder[PATH_MAX], file[PATH_MAX + 32], path[PATH_MAX + 32];
    int D = 0, F = 0, K = 0;
    uint64_t hash = 0xcbf29ce484222325u;
    Weights *w = NULL;
    Sae *s = NULL;
    *out = NULL;
    if (find_folder(folder, dir, e))
        return -1;
    snprintf(file, sizeof file, "%s/cfg.json", folder);
    snprintf(path, sizeof path, "%s/sae.safetensors", folder);
    json_t *cfg = json_file_load(file, e);
    if (!cfg)
        return -1;
    const Weight *W;
    int failed = check_config(file, cfg, e) || weights_open(&w, path, e)
              || !(W = weights_need(w, "encoder.weight", 2, (int64_t[]){-1, -1}, e))
              || read_sizes(file, cfg, W, &D, &F, &K, e)
              || sae_create(&s, D, F, K, e)
              || read_threshold(s, file, cfg, e)
              || copy_text(s->hook, sizeof s->hook, file, cfg, "hook", "", e)
              || copy_text(s->take, sizeof s->take, file, cfg, "take", "output", e)
              || load_weights(s, w, &hash, e);
    weights_close(w);
    if (failed) {
        json_decref(cfg);
        sae_free(s);
        return -1;
    }
    json_decref(s->cfg);
    s->cfg = cfg;
    make_id(s, folder, hash);
    *out = s;
    return 0;
}

/* ---- saving ---- */

static int make_folders(const char *path, Err *e)
{
    char part[PATH_MAX];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
        return err_set(e, "%s: the path is too long", path);
    for (char *slash = part + 1;; slash++) {
        slash = strchrnul(slash, '/');
        const char kept = *slash;
        *slash = 0;
        if (mkdir(part, 0777) && errno != EEXIST)
            return err_set(e, "%s: %s", part, strerror(errno));
        *slash = kept;
        if (!kept)
            return 0;
    }
}

static int write_files(const Sae *s, const char *folder, Err *e)
{
    const size_t FD = (size_t)s->F*(size_t)s->D;
    float *host = malloc(sizeof(float)*(2*FD + (size_t)s->F + (size_t)s->D));
    if (!host)
        return err_set(e, "out of memory");
    float *W_enc = host, *W_dec = W_enc + FD, *b_enc = W_dec + FD, *b_dec = b_enc + s->F;
    op->download(W_enc, s->W_enc, sizeof(float)*FD);
    op->download(W_dec, s->W_dec, sizeof(float)*FD);
    op->download(b_enc, s->b_enc, sizeof(float)*(size_t)s->F);
    op->download(b_dec, s->b_dec, sizeof(float)*(size_t)s->D);
    const Weight tensor[] = {
        {"W_dec", F32, 2, {s->F, s->D}, W_dec},
        {"b_dec", F32, 1, {s->D}, b_dec},
        {"encoder.bias", F32, 1, {s->F}, b_enc},
        {"encoder.weight", F32, 2, {s->F, s->D}, W_enc},
    };
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/sae.safetensors", folder);
    int failed = weights_write(path, tensor, 4, NULL, e);
    snprintf(path, sizeof path, "%s/cfg.json", folder);
    failed = failed || json_file_write(path, s->cfg, e);
    free(host);
    return failed ? -1 : 0;
}

int sae_save(const Sae *s, const char *dir, Err *e)
{
    char aside[PATH_MAX];
    struct stat st;
    if (stat(dir, &st) == 0)
        return S_ISDIR(st.st_mode) ? write_files(s, dir, e) : err_set(e, "%s: is there, and is not a folder", dir);
    if (snprintf(aside, sizeof aside, "%s", dir) >= (int)sizeof aside - 32)
        return err_set(e, "%s: the path is too long", dir);
    size_t n = strlen(aside);
    while (n > 1 && aside[n - 1] == '/')
        aside[--n] = 0;
    snprintf(aside + n, sizeof aside - n, ".part-%ld", (long)getpid());
    if (make_folders(aside, e))
        return -1;
    if (write_files(s, aside, e)) {
        rmdir(aside);
        return -1;
    }
    aside[n] = 0;
    char part[PATH_MAX + 32];
    snprintf(part, sizeof part, "%s.part-%ld", aside, (long)getpid());
    return rename(part, aside) ? err_set(e, "%s: %s", aside, strerror(errno)) : 0;
}
