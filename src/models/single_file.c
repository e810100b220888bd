/* SPDX-License-Identifier: MIT */
/* single_file.c -- which parts a checkpoint in one file holds, and what else it may and may not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/affix.h"
#include "formats/json_file.h"
#include "formats/weights_either.h"
#include "src/models/single_file.h"

/* Of SDXL's two encoders a file that holds one alone has the same names: the one is taken whose width it has. */
static void tell_encoders(Source source[PARTS], const Inventory v[PARTS])
{
    Source *first = &source[PART_TEXT], *second = &source[PART_TEXT_2];
    Found found;
    Err ignored = {0};
    if (first->files && second->files && strcmp(first->prefix, second->prefix) == 0) {
        const bool fits = source_need(first, &v[PART_TEXT].item[0], &found, &ignored) == 0;
        (fits ? second : first)->files = 0;
    }
}

/* The first tensor whose name, as source_bare has it, begins so; NULL: none. */
static const char *first_of(const SingleFile *f, const char *prefix)
{
    for (size_t i = 0; i < weights_count(f->w); i++)
        if (starts_with(source_bare(weights_at(f->w, i)->name), prefix))
            return weights_at(f->w, i)->name;
    return NULL;
}

/* Refuses what names alone tell to be another model than part[...] are of. */
static int refuse_names(const SingleFile *f, const Inventory v[PARTS], const Part part[PARTS], Err *e)
{
    enum { ONE, XL, SD3, KINDS };                               /* ONE: text encoder */
    static const char *const models[KINDS] = {"Stable Diffusion 1.x or 2.x", "SDXL", "Stable Diffusion 3"};
    static const char second[] = "cond_stage_model.1.";         /* as stable-diffusion.cpp renames SDXL's second */
    static const struct { const char *prefix, *model; bool goes[KINDS]; } others[] = {
        {"conditioner.embedders.0.model.", "SDXL's refiner", {false}},
        {"edm_mean", "Playground 2.5", {false}},
        {"edm_vpred.", "CosXL", {false}},
        {"model.diffusion_model.double_blocks.", "FLUX or another of its kind", {false}},
        {"double_blocks.", "FLUX or another of its kind", {false}},
        {"single_transformer_blocks.", "FLUX or another of its kind", {false}},
        {"model.diffusion_model.joint_blocks.", "Stable Diffusion 3", {[SD3] = true}},
        {"joint_blocks.", "Stable Diffusion 3", {[SD3] = true}},
        {"text_encoders.", "Stable Diffusion 3", {[SD3] = true}},
        {"model.diffusion_model.input_blocks.", "a model with a UNet", {[ONE] = true, [XL] = true}},
        {"input_blocks.", "a model with a UNet", {[ONE] = true, [XL] = true}},
        {"conditioner.embedders.", "SDXL", {[XL] = true}},
        {second, "SDXL", {[XL] = true}},
        {"cond_stage_model.", "Stable Diffusion 1.x or 2.x", {[ONE] = true}},
    };
    const int kind = v[PART_TRANSFORMER].count ? SD3 : v[PART_TEXT_2].count ? XL : ONE;
    const size_t count = sizeof others / sizeof *others - (first_of(f, second) ? 1 : 0);
    for (size_t o = 0; o < count; o++) {
        const char *name = others[o].goes[kind] ? NULL : first_of(f, others[o].prefix);
        if (name)
            return err_set(e, "%s: tensor %s: a checkpoint of %s, expected one of %s, as %s is of", weights_path(f->w),
                           name, others[o].model, models[kind],
                           part[kind == SD3 ? PART_TRANSFORMER : PART_UNET].path);
    }
    return 0;
}

/* Refuses eight-bit floats that are to be multiplied by scales. (ComfyUI comfy/ops.py.) */
static int refuse_scales(const SingleFile *f, Err *e)
{
    static const char *const last[] = {"scaled_fp8", ".scale_weight", ".weight_scale", ".comfy_quant"};
    for (size_t i = 0; i < weights_count(f->w); i++)
        for (size_t k = 0; k < sizeof last / sizeof *last; k++)
            if (ends_with(weights_at(f->w, i)->name, last[k]))
                return err_set(e, "%s: tensor %s: of weights that are scaled, which is not implemented; expected plain "
                               "ones (fp8 too)", weights_path(f->w), weights_at(f->w, i)->name);
    return 0;
}

int single_file_open(SingleFile *f, const char *path, const Inventory v[PARTS], const Part part[PARTS],
                     const bool wanted[PARTS], bool ema, Err *e)
{
    bool any = false;
    char list[96] = "";
    if (weights_open_any(&f->w, path, e) || refuse_scales(f, e)
        || ((wanted[PART_UNET] || wanted[PART_TRANSFORMER]) && refuse_names(f, v, part, e)))
        return -1;
    for (int p = 0; p < PARTS; p++) {
        if (!wanted[p] || !v[p].count)
            continue;
        source_find(&f->source[p], &v[p], &f->w, 1);
        f->source[p].single = true;
        any = any || f->source[p].files;
        const size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", part_folders[p]);
    }
    tell_encoders(f->source, v);
    if (!any)
        return err_set(e, "%s: none of its %zu tensors is one of %s, under any known name", path, weights_count(f->w),
                       list);
    if (!ema)
        return 0;
    Source *s = &f->source[PART_UNET];
    s->ema = s->files && s->naming == NAMES_LDM;
    return s->ema && source_count(s, &v[PART_UNET])
         ? 0 : err_set(e, "%s: holds no running means (model_ema.*) of a UNet's weights, for --ema", path);
}

/* Which Stable Diffusion 2 has and does not read, as stable-diffusion.cpp renames it. */
static const char renamed_projection[] = "cond_stage_model.transformer.text_model.text_projection";

/* Constants of a trainer or sampler, and what torch once saved as a parameter, which no part reads; T5's table of
 * tokens a second time. */
static bool is_constant(const char *name)
{
    static const char *const first[] = {
        "betas", "alphas_cumprod", "sqrt_", "log_one_minus_alphas_cumprod", "posterior_", "lvlb_weights", "logvar",
        "scale_factor", "denoiser.", "model_ema.decay", "model_ema.num_updates", "first_stage_model.loss.", "loss.",
        "cond_stage_model.model.text_projection", "conditioner.embedders.0.text_projection",
        "conditioner.embedders.0.transformer.text_projection.", "optimizer_states.", "callbacks.", "v_pred", "ztsnr",
        renamed_projection,
    };
    static const char *const last[] = {".position_ids", ".logit_scale", ".attn_mask", "encoder.embed_tokens.weight"};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        if (starts_with(name, first[i]))
            return true;
    for (size_t i = 0; i < sizeof last / sizeof *last; i++)
        if (ends_with(name, last[i]))
            return true;
    return false;
}

/* A tensor of the layer after the last in an OpenCLIP text encoder, which has a projection under any of its names. */
static bool is_last_layer(const SingleFile *f, const char *name, const Inventory *v)
{
    char layer[80], renamed[80];
    snprintf(layer, sizeof layer, "cond_stage_model.model.transformer.resblocks.%d.", v->layers);
    snprintf(renamed, sizeof renamed, "cond_stage_model.transformer.text_model.encoder.layers.%d.", v->layers);
    return starts_with(name, layer) || (starts_with(name, renamed) && weights_has(f->w, renamed_projection));
}

/* Refuses a UNet that reads more than the latent. */
static int refuse_inputs(const SingleFile *f, const Inventory *v, Err *e)
{
    static const struct { int more; const char *what; } kinds[] = {
        {4, "editing by instructions (InstructPix2Pix)"}, {5, "inpainting"},
    };
    const Source *s = &f->source[PART_UNET];
    size_t i = 0;
    while (i < v->count && strcmp(v->item[i].name[NAMES_DIFFUSERS], "conv_in.weight") != 0)
        i++;
    const Weight *w = i < v->count ? source_tensor(s, &v->item[i]) : NULL;
    for (size_t k = 0; w && w->ndim == 4 && k < sizeof kinds / sizeof *kinds; k++)
        if (w->dim[1] == v->item[i].dim[1] + kinds[k].more)
            return err_set(e, "%s: tensor %s reads %lld channels, expected %lld: a checkpoint for %s, which is not "
                           "implemented", weights_path(f->w), w->name, (long long)w->dim[1],
                           (long long)v->item[i].dim[1], kinds[k].what);
    return 0;
}

int single_file_check(SingleFile *f, const Inventory v[PARTS], const Part part[PARTS], const bool taken[PARTS], Err *e)
{
    const size_t count = weights_count(f->w);
    bool *used = calloc(count + 1, sizeof *used);
    f->left = calloc(count + 1, sizeof *f->left);
    int failed = !used || !f->left ? err_set(e, "out of memory") : 0;
    if (taken[PART_UNET])
        failed = failed || refuse_inputs(f, &v[PART_UNET], e);
    for (int p = 0; p < PARTS && !failed; p++)
        for (size_t i = 0; i < v[p].count && f->source[p].files; i++) {
            const Weight *w = source_tensor(&f->source[p], &v[p].item[i]);
            if (w)
                used[w - weights_at(f->w, 0)] = true;
        }
    for (size_t i = 0; i < count && !failed; i++) {
        const char *whole = weights_at(f->w, i)->name;
        const char *name = source_bare(whole);
        const PartKind p = source_part(name, v);
        if (used[i] || is_constant(name) || is_last_layer(f, name, &v[PART_TEXT]))
            continue;
        if (starts_with(name, "model_ema."))
            f->means++;
        else if (p < PARTS && taken[p] && !f->source[p].ema)
            failed = err_set(e, "%s: tensor %s is in no layer of %s/config.json: a checkpoint of another model?",
                             weights_path(f->w), whole, part[p].path);
        else if (p == PARTS)
            f->left[f->lefts++] = whole;
    }
    free(used);
    return failed;
}

/* Empty tensors are the marks of such files. (ComfyUI comfy/supported_models.py, SDXL.model_type.) */
int single_file_check_scheduler(const SingleFile *f, const char *base, Err *e)
{
    static const struct { const char *mark, *key, *value; } marks[] = {
        {"v_pred", "prediction_type", "\"v_prediction\""}, {"ztsnr", "rescale_betas_zero_snr", "true"},
    };
    char path[4200];
    snprintf(path, sizeof path, "%.4096s/scheduler/scheduler_config.json", base);
    json_t *config = json_file_load(path, e);
    int failed = config ? 0 : -1;
    for (size_t i = 0; i < sizeof marks / sizeof *marks && !failed; i++) {
        json_t *value = json_loads(marks[i].value, JSON_DECODE_ANY, NULL);
        if (weights_has(f->w, marks[i].mark) && !json_equal(json_object_get(config, marks[i].key), value))
            failed = err_set(e, "%s: tensor %s: a checkpoint for a scheduler whose \"%s\" is %s, and in %s it is not",
                             weights_path(f->w), marks[i].mark, marks[i].key, marks[i].value, path);
        json_decref(value);
    }
    json_decref(config);
    return failed;
}

void single_file_close(SingleFile *f)
{
    weights_close(f->w);
    free(f->left);
    *f = (SingleFile){0};
}
