/* SPDX-License-Identifier: MIT */
/* tensor_source.c -- names of a part's tensors in checkpoints of one file.
 *
 *     model.diffusion_model.NAME                          UNet or transformer, LDM's names
 *     model_ema.diffusion_modelNAMEWITHOUTDOTS            its running means (LDM, modules/ema.py)
 *     first_stage_model.NAME                              VAE
 *     cond_stage_model.transformer.text_model.NAME        text encoder of Stable Diffusion 1, transformers' names
 *     cond_stage_model.model.NAME                         of Stable Diffusion 2, OpenCLIP's
 *     conditioner.embedders.0.transformer.text_model.NAME first one of SDXL, transformers' names
 *     conditioner.embedders.1.model.NAME                  second one of SDXL, OpenCLIP's
 *     cond_stage_model.1.transformer.text_model.NAME      the same as stable-diffusion.cpp renames it, and all others
 *                                                         without ".1": OpenCLIP's tensors, transformers' names
 *     text_encoders.clip_l.transformer.text_model.NAME    first and
 *     text_encoders.clip_g.transformer.text_model.NAME    second one of Stable Diffusion 3, transformers' names, and
 *     text_encoders.t5xxl.transformer.NAME                T5
 *
 * all of them also below "state_dict."; files of one part alone have its names bare. Which it is is told by how many of
 * the part's tensors are there under such names. (CompVis/stable-diffusion, Stability-AI/generative-models; diffusers
 * loaders/single_file_utils.py; leejet/stable-diffusion.cpp src/name_conversion.cpp.) */
#include <stdio.h>
#include <string.h>
#include "formats/affix.h"
#include "src/models/tensor_source.h"

enum { NAME_SIZE = 512 };

static const struct { PartKind kind; const char *prefix; Naming naming; } origins[] = {
    {PART_UNET, "model.diffusion_model.", NAMES_LDM}, {PART_UNET, "unet.", NAMES_DIFFUSERS},
    {PART_UNET, "", NAMES_LDM}, {PART_UNET, "", NAMES_DIFFUSERS},
    {PART_TRANSFORMER, "model.diffusion_model.", NAMES_LDM}, {PART_TRANSFORMER, "transformer.", NAMES_DIFFUSERS},
    {PART_TRANSFORMER, "", NAMES_LDM}, {PART_TRANSFORMER, "", NAMES_DIFFUSERS},
    {PART_VAE, "first_stage_model.", NAMES_LDM}, {PART_VAE, "vae.", NAMES_LDM}, {PART_VAE, "vae.", NAMES_DIFFUSERS},
    {PART_VAE, "", NAMES_LDM}, {PART_VAE, "", NAMES_DIFFUSERS},
    {PART_TEXT, "cond_stage_model.transformer.text_model.", NAMES_DIFFUSERS},
    {PART_TEXT, "cond_stage_model.transformer.", NAMES_DIFFUSERS}, {PART_TEXT, "cond_stage_model.model.", NAMES_LDM},
    {PART_TEXT, "conditioner.embedders.0.transformer.text_model.", NAMES_DIFFUSERS},
    {PART_TEXT, "conditioner.embedders.0.transformer.", NAMES_DIFFUSERS},
    {PART_TEXT, "text_encoders.clip_l.transformer.text_model.", NAMES_DIFFUSERS},
    {PART_TEXT, "text_encoder.text_model.", NAMES_DIFFUSERS}, {PART_TEXT, "text_model.", NAMES_DIFFUSERS},
    {PART_TEXT, "", NAMES_DIFFUSERS}, {PART_TEXT, "", NAMES_LDM},
    {PART_TEXT_2, "conditioner.embedders.1.model.", NAMES_LDM},
    {PART_TEXT_2, "cond_stage_model.1.transformer.text_model.", NAMES_DIFFUSERS},
    {PART_TEXT_2, "text_encoders.clip_g.transformer.text_model.", NAMES_DIFFUSERS},
    {PART_TEXT_2, "text_encoder_2.text_model.", NAMES_DIFFUSERS}, {PART_TEXT_2, "text_model.", NAMES_DIFFUSERS},
    {PART_TEXT_2, "", NAMES_DIFFUSERS}, {PART_TEXT_2, "", NAMES_LDM},
    {PART_TEXT_3, "text_encoders.t5xxl.transformer.", NAMES_DIFFUSERS},
    {PART_TEXT_3, "text_encoder_3.", NAMES_DIFFUSERS},
    {PART_TEXT_3, "", NAMES_DIFFUSERS}, {PART_TEXT_3, "", NAMES_LDM},
};
enum { ORIGINS = sizeof origins / sizeof *origins };
static const char state_dict[] = "state_dict.", text_encoders[] = "text_encoders.";

/* The name of an item in s, called `name` without its prefix. */
static void full_name(char full[NAME_SIZE], const Source *s, const Item *item, const char *name)
{
    if (!s->ema) {
        const bool beside = item->outside && name == item->name[NAMES_DIFFUSERS] && ends_with(s->prefix, "text_model.");
        snprintf(full, NAME_SIZE, "%.*s%s", (int)(strlen(s->prefix) - (beside ? strlen("text_model.") : 0)), s->prefix,
                 name);
        return;
    }
    size_t n = (size_t)snprintf(full, NAME_SIZE, "%smodel_ema.diffusion_model",
                                starts_with(s->prefix, state_dict) ? state_dict : "");
    for (; *name && n < NAME_SIZE - 1; name++)
        if (*name != '.')
            full[n++] = *name;
    full[n] = 0;
}

/* The file that has the tensor, NULL where none does; full is its name, `other` whether that is the item's second,
 * under which it lies otherwise. */
static const Weights *holder(const Source *s, const Item *item, char full[NAME_SIZE], bool *other)
{
    const char *const name[] = {item->name[s->naming], item->other[s->naming]};
    for (int n = 0; n < 2 && name[n]; n++) {
        *other = n && !item->alike;
        full_name(full, s, item, name[n]);
        for (int i = 0; i < s->files; i++)
            if (weights_has(s->file[i], full))
                return s->file[i];
    }
    *other = false;
    full_name(full, s, item, name[0]);
    return NULL;
}

size_t source_count(const Source *s, const Inventory *v)
{
    char full[NAME_SIZE];
    bool other;
    size_t n = 0;
    for (size_t i = 0; i < v->count; i++)
        n += holder(s, &v->item[i], full, &other) != NULL;
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
            const size_t matches = source_count(&s, v);
            if (matches > most) {
                most = matches;
                *found = s;
            }
        }
}

const char *source_bare(const char *name)
{
    return name + (starts_with(name, state_dict) ? strlen(state_dict) : 0);
}

PartKind source_part(const char *name, const Inventory v[PARTS])
{
    name = source_bare(name);
    for (int i = 0; i < ORIGINS; i++)
        if (v[origins[i].kind].count && *origins[i].prefix && starts_with(name, origins[i].prefix))
            return origins[i].kind;
    return PARTS;
}

const Weight *source_tensor(const Source *s, const Item *item)
{
    char full[NAME_SIZE];
    bool other;
    const Weights *in = holder(s, item, full, &other);
    return in ? weights_find(in, full) : NULL;
}

int source_need(const Source *s, const Item *item, Found *found, Err *e)
{
    char full[NAME_SIZE];
    bool other;
    const Weights *in = holder(s, item, full, &other);
    const bool openclip = (s->naming == NAMES_LDM) != other, part = openclip && item->third >= 0;
    *found = (Found){.in = in, .turned = openclip && item->turned, .swapped = openclip && item->swapped};
    if (!in && item->optional)
        return 0;
    in = found->in = in ? in : s->file[0];
    if (s->single && item->identity && (!weights_has(in, full) || starts_with(source_bare(s->prefix), text_encoders))) {
        found->w = (Weight){.name = item->name[NAMES_DIFFUSERS], .type = F32, .ndim = item->ndim};
        memcpy(found->w.dim, item->dim, sizeof item->dim);
        return 0;
    }
    int64_t dim[4] = {item->dim[0]*(part ? 3 : 1), item->dim[1], item->dim[2], item->dim[3]};
    int ndim = item->ndim;
    const Weight *w = weights_find(in, full);
    if (item->pointwise && w && (w->ndim == 2 || w->ndim == 4)) {
        ndim = w->ndim;
        dim[2] = dim[3] = 1;
    }
    if (ndim == 3 && dim[0] == 1 && w && w->ndim == 2) {        /* as ggml has it */
        ndim = 2;
        memmove(dim, dim + 1, 2*sizeof *dim);
    }
    if (found->turned)
        memcpy(dim, (int64_t[]){item->dim[1], item->dim[0]}, 2*sizeof *dim);
    if (!(w = weights_need(in, full, ndim, dim, e)))
        return -1;
    found->w = *w;
    found->w.ndim = item->ndim;
    memcpy(found->w.dim, item->dim, sizeof item->dim);
    if (part)
        found->w.data = (const char *)w->data + (size_t)item->third*weight_bytes(&found->w);
    return 0;
}
