/* SPDX-License-Identifier: MIT */
/* sae_folder.c -- loads an autoencoder's folder, in any of the layouts of sae_layout.h.
 *
 * Two things of SAELens are folded into the weights, exactly but for rounding:
 *
 *     b_dec not taken off the input     x W + b = (x - b_dec) W + (b + b_dec W)
 *     h scaled by n = |W_dec[f]|        W_enc[f], b_enc[f] times n, W_dec[f] by n (n = 0: the feature never fires)
 *
 * Of a gated one, gate = h and m = exp(r_mag) (h - b_enc) + b_mag: scale = exp(r_mag), offset = b_mag - scale b_enc. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/fnv.h"
#include "formats/json_file.h"
#include "kernels/op.h"
#include "src/models/model.h"
#include "src/models/sae.h"
#include "src/models/sae_layout.h"

enum { MOST = 512 };                /* kept a token where nothing says how many */

/* The folder that holds an autoencoder: dir, or the one folder in it that does. */
static int find_folder(char folder[PATH_MAX], const SaeLayout **layout, const char *dir, Err *e)
{
    if (snprintf(folder, PATH_MAX, "%s", dir) >= PATH_MAX)
        return err_set(e, "%s: the path is too long", dir);
    if ((*layout = sae_layout_find(dir)))
        return 0;
    DIR *d = opendir(dir);
    if (!d)
        return err_set(e, "%s: %s", dir, strerror(errno));
    int found = 0;
    for (struct dirent *entry; (entry = readdir(d));) {
        char below[PATH_MAX];
        const SaeLayout *l;
        if (entry->d_name[0] == '.' || snprintf(below, sizeof below, "%s/%s", dir, entry->d_name) >= PATH_MAX
            || !(l = sae_layout_find(below)))
            continue;
        strcpy(folder, below);
        *layout = l;
        found++;
    }
    closedir(d);
    if (found == 1)
        return 0;
    return found ? err_set(e, "%s: holds %d autoencoders; name one of its folders", dir, found)
                 : err_set(e, "%s: no cfg.json there: not an autoencoder's folder", dir);
}

/* Sizes from the weights, of which W is the encoder's; what the config says of them must agree. */
static int check_sizes(const char *file, const Weight *W, SaeConfig *c, Err *e)
{
    const bool across = c->tensors->enc_across;
    const int64_t D = W->dim[across ? 0 : 1], F = W->dim[across ? 1 : 0];
    const long long first = W->dim[0], second = W->dim[1];
    if (F < 1 || F > SAE_MAX_FEATURES || D < 1 || D > SAE_MAX_WIDTH)
        return err_set(e, "%s: %s is [%lld, %lld]: sizes out of bounds", file, W->name, first, second);
    if (c->D && c->D != D)
        return err_set(e, "%s: width %lld, %s is [%lld, %lld]", file, (long long)c->D, W->name, first, second);
    if (c->F && c->F != F)
        return err_set(e, "%s: %lld features, %s is [%lld, %lld]", file, (long long)c->F, W->name, first, second);
    if (c->K == 0 && strcmp(c->activation, "topk") != 0) {
        c->K = F < MOST ? F : MOST;
        c->capped = F > MOST;
    }
    if (c->K < 1 || c->K > F)
        return err_set(e, "%s: k is %lld, expected 1 to %lld", file, (long long)c->K, (long long)F);
    c->D = D;
    c->F = F;
    return 0;
}

/* ---- weights, on the host until they are folded ---- */

typedef struct Host { float *W_enc, *b_enc, *W_dec, *b_dec, *threshold, *scale, *offset; } Host;

static void host_free(Host *h)
{
    free(h->W_enc);
    free(h->b_enc);
    free(h->W_dec);
    free(h->b_dec);
    free(h->threshold);
    free(h->scale);
    free(h->offset);
}

/* name as the file has it: OpenAI's are below "state_dict" or not. */
static const char *full_name(char name[64], const Weights *w, const char *wanted)
{
    snprintf(name, 64, "state_dict.%s", wanted);
    return weights_has(w, name) ? name : wanted;
}

/* Fresh floats [rows,columns], columns 0: [rows], of a tensor that may be stored across; NULL on error. */
static float *read_tensor(const Weights *w, const char *wanted, int64_t rows, int64_t columns, bool across, Err *e)
{
    char name[64];
    const int64_t dim[] = {across ? columns : rows, across ? rows : columns};
    float *x = weights_floats(w, full_name(name, w, wanted), columns ? 2 : 1, dim, e);
    const size_t n = (size_t)rows*(size_t)(columns ? columns : 1);
    for (size_t i = 0; x && i < n; i++)
        if (!isfinite(x[i])) {
            err_set(e, "%s: %s: value %zu is %f", weights_path(w), wanted, i, (double)x[i]);
            free(x);
            return NULL;
        }
    if (!x || !across)
        return x;
    float *y = malloc(n*sizeof *y);
    if (!y)
        err_set(e, "%s: out of memory for tensor %s", weights_path(w), wanted);
    for (int64_t r = 0; y && r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            y[r*columns + c] = x[c*rows + r];
    free(x);
    return y;
}

/* A gate's part where it is wanted and there; required: it must be. One value stands for all F, and a threshold below 0
 * for 0, as nothing below 0 is kept. */
static int read_gate(float **part, const Weights *w, const char *name, bool required, int64_t F, Err *e)
{
    char full[64];
    const char *there = name ? full_name(full, w, name) : NULL;
    if (!name || (!required && !weights_has(w, there)))
        return 0;
    const Weight *t = weights_find(w, there);
    if (!t || weight_count(t) != 1)
        return (*part = read_tensor(w, name, F, 0, false, e)) ? 0 : -1;
    float *one = weights_floats(w, t->name, t->ndim, t->dim, e);
    if (!one || !(*part = malloc(sizeof(float)*(size_t)F))) {
        free(one);
        return err_set(e, "out of memory");
    }
    for (int64_t f = 0; f < F; f++)
        (*part)[f] = *one;
    const bool number = isfinite(*one);
    free(one);
    return number ? 0 : err_set(e, "%s: %s is not a number", weights_path(w), name);
}

static int read_weights(Host *h, const Weights *w, const SaeConfig *c, Err *e)
{
    const SaeTensors *t = c->tensors;
    const bool ours = t->scale;
    if (!(h->W_enc = read_tensor(w, t->W_enc, c->F, c->D, t->enc_across, e))
        || !(h->b_enc = read_tensor(w, t->b_enc, c->F, 0, false, e))
        || !(h->W_dec = read_tensor(w, t->W_dec, c->F, c->D, t->dec_across, e))
        || !(h->b_dec = read_tensor(w, t->b_dec, c->D, 0, false, e)))
        return -1;
    if (read_gate(&h->threshold, w, t->threshold, !ours, c->F, e)
        || read_gate(&h->scale, w, ours ? t->scale : t->r_mag, !ours, c->F, e)
        || read_gate(&h->offset, w, ours ? t->offset : t->b_mag, !ours, c->F, e))
        return -1;
    for (int64_t f = 0; f < c->F && h->threshold; f++)
        h->threshold[f] = h->threshold[f] > 0 ? h->threshold[f] : 0;
    for (int64_t f = 0; f < c->F && t->r_mag; f++) {
        const double scale = exp((double)h->scale[f]);
        h->scale[f] = (float)scale;
        h->offset[f] = (float)(h->offset[f] - scale*h->b_enc[f]);
    }
    return 0;
}

static void fold(Host *h, const SaeConfig *c)
{
    for (int64_t f = 0; f < c->F; f++) {
        float *enc = h->W_enc + f*c->D, *dec = h->W_dec + f*c->D;
        double product = 0, square = 0;
        for (int64_t d = 0; d < c->D; d++) {
            product += (double)enc[d]*h->b_dec[d];
            square += (double)dec[d]*dec[d];
        }
        if (c->input_is_whole)
            h->b_enc[f] = (float)(h->b_enc[f] + product);
        const double n = sqrt(square);
        if (!c->scaled)
            continue;
        h->b_enc[f] = (float)(h->b_enc[f]*n);
        for (int64_t d = 0; d < c->D; d++) {
            enc[d] = (float)(enc[d]*n);
            dec[d] = n > 0 ? (float)(dec[d]/n) : 0;
        }
    }
}

/* To the device; the hash goes on over the values. */
static uint64_t put(float *device, const float *x, int64_t n, uint64_t hash)
{
    op->upload(device, x, sizeof *x*(size_t)n);
    for (int64_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, &x[i], sizeof word);
        hash = fnv_step(hash, word);
    }
    return hash;
}

/* ---- the whole ---- */

/* "up_blocks.1.attentions.1-1a2b3c4d5e6f" */
static void make_id(Sae *s, const char *folder, uint64_t hash)
{
    char real[PATH_MAX];
    const char *name = realpath(folder, real) ? strrchr(real, '/') + 1 : folder;
    folder_id(s->id, 60, *name ? name : "sae", hash);
}

static int copy_text(char *to, size_t size, const char *file, const char *key, const char *text, Err *e)
{
    if (strlen(text) >= size)
        return err_set(e, "%s: %s is longer than %zu bytes", file, key, size - 1);
    strcpy(to, text);
    return 0;
}

int sae_set_place(Sae *s, const char *hook, const char *take, Err *e)
{
    if ((hook && copy_text(s->hook, sizeof s->hook, s->id, "hook", hook, e))
        || (take && copy_text(s->take, sizeof s->take, s->id, "take", take, e)))
        return -1;
    if ((hook && json_object_set_new(s->cfg, "hook", json_string(hook)))
        || (take && json_object_set_new(s->cfg, "take", json_string(take))))
        return err_set(e, "out of memory");
    return 0;
}

/* The gate to the device, and into the hash. */
static int put_gate(Sae *s, const Host *h, uint64_t *hash, Err *e)
{
    float **to[] = {&s->threshold, &s->scale, &s->offset};
    const float *from[] = {h->threshold, h->scale, h->offset};
    for (int p = 0; p < 3; p++) {
        if (from[p] && sae_need_gate(s, to[p], e))
            return -1;
        if (from[p])
            *hash = put(*to[p], from[p], s->F, *hash);
    }
    return 0;
}

static int fill(Sae *s, const char *file, const SaeLayout *l, json_t *cfg, const SaeConfig *c, Host *h, Err *e)
{
    if (copy_text(s->hook, sizeof s->hook, file, "hook", c->hook, e)
        || copy_text(s->take, sizeof s->take, file, "take", c->take, e))
        return -1;
    s->capped = c->capped;
    json_t *ours = l->native ? json_incref(cfg) : sae_layout_config(l, cfg, c);
    if (!ours)
        return err_set(e, "out of memory");
    json_decref(s->cfg);
    s->cfg = ours;
    if (c->input_is_whole || c->scaled)
        fold(h, c);
    return 0;
}

int sae_load(Sae **out, const char *dir, Err *e)
{
    char folder[PATH_MAX], file[PATH_MAX + 32], path[PATH_MAX + 32], name[64];
    const SaeLayout *l = NULL;
    SaeConfig c = {0};
    Host h = {0};
    Weights *w = NULL;
    Sae *s = NULL;
    *out = NULL;
    if (find_folder(folder, &l, dir, e))
        return -1;
    snprintf(file, sizeof file, "%s/%s", folder, l->config);
    snprintf(path, sizeof path, "%s/%s", folder, l->weights);
    json_t *cfg = json_file_load(file, e);
    if (!cfg)
        return -1;
    const Weight *W;
    int failed = l->read_config(file, cfg, &c, e) || l->open(&w, path, e)
              || !(W = weights_need(w, full_name(name, w, c.tensors->W_enc), 2, (int64_t[]){-1, -1}, e))
              || check_sizes(file, W, &c, e)
              || read_weights(&h, w, &c, e)
              || sae_create(&s, (int)c.D, (int)c.F, (int)c.K, e)
              || fill(s, file, l, cfg, &c, &h, e);
    weights_close(w);
    json_decref(cfg);
    if (!failed) {
        uint64_t hash = put(s->W_enc, h.W_enc, c.F*c.D, FNV_BASIS);
        hash = put(s->b_enc, h.b_enc, c.F, hash);
        hash = put(s->W_dec, h.W_dec, c.F*c.D, hash);
        hash = put(s->b_dec, h.b_dec, c.D, hash);
        failed = put_gate(s, &h, &hash, e);
        make_id(s, folder, hash);
    }
    host_free(&h);
    if (failed) {
        sae_free(s);
        return -1;
    }
    *out = s;
    return 0;
}
