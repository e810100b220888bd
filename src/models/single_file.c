/* SPDX-License-Identifier: MIT */
/* single_file.c -- names of a part's tensors in checkpoints of one file.
 *
 *     model.diffusion_model.NAME                          UNet, LDM's names
 *     model_ema.diffusion_modelNAMEWITHOUTDOTS            its running means (LDM, modules/ema.py)
 *     first_stage_model.NAME                              VAE
 *     cond_stage_model.transformer.text_model.NAME        text encoder of Stable Diffusion 1, transformers' names
 *     cond_stage_model.model.NAME                         of Stable Diffusion 2, OpenCLIP's
 *
 * all of them also below "state_dict."; files of one part alone have its names bare. Which it is is told by how many of
 * the part's tensors are there under such names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/affix.h"
#include "formats/torch_zip.h"
#include "src/models/single_file.h"

enum { NAME_SIZE = 512 };

static const struct { PartKind kind; const char *prefix; Naming naming; } origins[] = {
    {PART_UNET, "model.diffusion_model.", NAMES_LDM}, {PART_UNET, "unet.", NAMES_DIFFUSERS},
    {PART_UNET, "", NAMES_LDM}, {PART_UNET, "", NAMES_DIFFUSERS},
    {PART_VAE, "first_stage_model.", NAMES_LDM}, {PART_VAE, "vae.", NAMES_LDM}, {PART_VAE, "vae.", NAMES_DIFFUSERS},
    {PART_VAE, "", NAMES_LDM}, {PART_VAE, "", NAMES_DIFFUSERS},
    {PART_TEXT, "cond_stage_model.transformer.text_model.", NAMES_DIFFUSERS},
    {PART_TEXT, "cond_stage_model.transformer.", NAMES_DIFFUSERS}, {PART_TEXT, "cond_stage_model.model.", NAMES_LDM},
    {PART_TEXT, "text_encoder.text_model.", NAMES_DIFFUSERS}, {PART_TEXT, "text_model.", NAMES_DIFFUSERS},
    {PART_TEXT, "", NAMES_DIFFUSERS}, {PART_TEXT, "", NAMES_LDM},
};
enum { ORIGINS = sizeof origins / sizeof *origins };
static const char state_dict[] = "state_dict.";

/* ---- sources ---- */

/* The name of an item in s, called `name` without its prefix. */
static void full_name(char full[NAME_SIZE], const Source *s, const char *name)
{
    if (!s->ema) {
        snprintf(full, NAME_SIZE, "%s%s", s->prefix, name);
        return;
    }
    size_t n = (size_t)snprintf(full, NAME_SIZE, "%smodel_ema.diffusion_model",
                                starts_with(s->prefix, state_dict) ? state_dict : "");
    for (; *name && n < NAME_SIZE - 1; name++)
        if (*name != '.')
            full[n++] = *name;
    full[n] = 0;
}

/* The file that has the tensor, NULL where none does; full is its name. */
static const Weights *holder(const Source *s, const Item *item, char full[NAME_SIZE])
{
    for (int old = 0; old <= (s->naming == NAMES_DIFFUSERS && item->old); old++) {
        full_name(full, s, old ? item->old : item->name[s->naming]);
        for (int i = 0; i < s->files; i++)
            if (weights_has(s->file[i], full))
                return s->file[i];
    }
    full_name(full, s, item->name[s->naming]);
    return NULL;
}

static size_t count_matches(const Source *s, const Inventory *v)
{
    char full[NAME_SIZE];
    size_t n = 0;
    for (size_t i = 0; i < v->count; i++)
        n += holder(s, &v->item[i], full) != NULL;
    return n;
}

void source_find(Source *found, const Inventory *v, Weights *const *file, int files)
{
    size_t most = 0;
    *found = (Source){0};
    for (int i = 0; i < ORIGINS; i++)
        for (int below = 0; below < 2 && origins[i].kind == v->kind; below++) {
            Source s = {.file = file, .files = files, .naming = origins[i].naming};
            snprintf(s.prefix, sizeof s.prefix, "%s%s", below ? state_dict : "", origins[i].prefix);
            const size_t matches = count_matches(&s, v);
            if (matches > most) {
                most = matches;
                *found = s;
            }
        }
}

int source_need(const Source *s, const Item *item, Found *found, Err *e)
{
    char full[NAME_SIZE];
    const Weights *in = holder(s, item, full);
    *found = (Found){.in = in};
    if (!in && item->optional)
        return 0;
    in = in ? in : s->file[0];
    const bool part = s->naming == NAMES_LDM && item->third >= 0;
    int64_t dim[4] = {item->dim[0]*(part ? 3 : 1), item->dim[1], item->dim[2], item->dim[3]};
    int ndim = item->ndim;
    const Weight *w = weights_find(in, full);
    if (item->pointwise && w && (w->ndim == 2 || w->ndim == 4)) {
        ndim = w->ndim;
        dim[2] = dim[3] = 1;
    }
    if (!(w = weights_need(in, full, ndim, dim, e)))
        return -1;
    found->w = *w;
    found->w.ndim = item->ndim;
    memcpy(found->w.dim, item->dim, sizeof item->dim);
    if (part)
        found->w.data = (const char *)w->data + (size_t)item->third*weight_count(&found->w)*dtype_size(w->type);
    return 0;
}

/* ---- a file ---- */

int single_file_open(SingleFile *f, const char *path, const Inventory v[PARTS], const bool wanted[PARTS], bool ema,
                     Err *e)
{
    bool any = false;
    char list[64] = "";
    if (weights_open_either(&f->w, path, e))
        return -1;
    for (int p = 0; p < PARTS; p++) {
        if (!wanted[p])
            continue;
        source_find(&f->source[p], &v[p], &f->w, 1);
        any = any || f->source[p].files;
        const size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", part_folders[p]);
    }
    if (!any)
        return err_set(e, "%s: none of its %zu tensors is one of %s, under any known name", path, weights_count(f->w),
                       list);
    if (!ema)
        return 0;
    Source *s = &f->source[PART_UNET];
    s->ema = s->files && s->naming == NAMES_LDM;
    return s->ema && count_matches(s, &v[PART_UNET])
         ? 0 : err_set(e, "%s: holds no running means (model_ema.*) of a UNet's weights, for --ema", path);
}

/* Constants of a trainer or sampler, and what torch once saved as a parameter, which no part reads. */
static bool is_constant(const char *name)
{
    static const char *const first[] = {
        "betas", "alphas_cumprod", "sqrt_", "log_one_minus_alphas_cumprod", "posterior_", "lvlb_weights", "logvar",
        "scale_factor", "model_ema.decay", "model_ema.num_updates", "first_stage_model.loss.", "loss.",
        "cond_stage_model.logit_scale", "cond_stage_model.model.logit_scale", "cond_stage_model.model.text_projection",
        "cond_stage_model.model.attn_mask", "optimizer_states.", "callbacks.",
    };
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        if (starts_with(name, first[i]))
            return true;
    return ends_with(name, ".position_ids");
}

/* A tensor of the layer after the last in an OpenCLIP text encoder. */
static bool is_last_layer(const char *name, const Inventory *v)
{
    char layer[80];
    snprintf(layer, sizeof layer, "cond_stage_model.model.transformer.resblocks.%d.", v->layers);
    return starts_with(name, layer);
}

/* The part before whose names that prefix stands, -1 where there is none. */
static int part_of(const char *name)
{
    for (int i = 0; i < ORIGINS; i++)
        if (*origins[i].prefix && starts_with(name, origins[i].prefix))
            return (int)origins[i].kind;
    return -1;
}

static int refuse(const SingleFile *f, const char *name, int p, const Part *part, Err *e)
{
    const char *path = weights_path(f->w);
    if (p < 0)
        return err_set(e, "%s: tensor %s: a checkpoint of SDXL; those of Stable Diffusion 1.x and 2.x are converted",
                       path, name);
    return err_set(e, "%s: tensor %s is in no layer of %s/config.json: a checkpoint of another model?", path, name,
                   part[p].path);
}

int single_file_check(SingleFile *f, const Inventory v[PARTS], const Part part[PARTS], const bool taken[PARTS], Err *e)
{
    const size_t count = weights_count(f->w);
    bool *used = calloc(count + 1, sizeof *used);
    f->left = calloc(count + 1, sizeof *f->left);
    int failed = !used || !f->left ? err_set(e, "out of memory") : 0;
    char full[NAME_SIZE];
    for (int p = 0; p < PARTS && !failed; p++)
        for (size_t i = 0; i < v[p].count && f->source[p].files; i++) {
            const Weights *in = holder(&f->source[p], &v[p].item[i], full);
            const Weight *w = in ? weights_find(in, full) : NULL;
            if (w)
                used[w - weights_at(f->w, 0)] = true;
        }
    for (size_t i = 0; i < count && !failed; i++) {
        const char *whole = weights_at(f->w, i)->name;
        const char *name = whole + (starts_with(whole, state_dict) ? strlen(state_dict) : 0);
        const int p = part_of(name);
        if (used[i] || is_constant(name) || is_last_layer(name, &v[PART_TEXT]))
            continue;
        if (starts_with(name, "conditioner.embedders."))
            failed = refuse(f, whole, -1, part, e);
        else if (starts_with(name, "model_ema."))
            f->means++;
        else if (p >= 0 && taken[p] && !f->source[p].ema)
            failed = refuse(f, whole, p, part, e);
        else if (p < 0)
            f->left[f->lefts++] = whole;
    }
    free(used);
    return failed;
}

void single_file_close(SingleFile *f)
{
    weights_close(f->w);
    free(f->left);
    *f = (SingleFile){0};
}
