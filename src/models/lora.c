/* SPDX-License-Identifier: MIT */
/* lora.c -- reads LoRA files: of each layer the two factors and what they are multiplied by. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/affix.h"
#include "formats/json_file.h"
#include "formats/weights_either.h"
#include "src/models/lora_parts.h"

int loras_begin(Loras *l, const Inventory v[PARTS], Err *e)
{
    *l = (Loras){0};
    for (int p = 0; p < PARTS; p++) {
        if (!(l->first[p] = calloc(v[p].count + 1, sizeof *l->first[p])))
            return err_set(e, "out of memory");
        l->items[p] = v[p].count;
    }
    return lora_names_list(l, v, e);
}

typedef struct Triple {
    const Weight *tensor[ROLES];
    bool part, swapped;             /* the rows are a third of up's, or its halves the other way round */
} Triple;

typedef struct File {
    Loras *l;
    const Inventory *v;
    const Weights *w;
    Triple *of[PARTS];              /* [items] */
    json_t *adapter;                /* what PEFT was told, NULL: the file does not say */
    double strength;
} File;

static int refuse_kind(const Weights *w, const char *name, Err *e)
{
    static const struct { const char *mark, *kind; } kinds[] = {
        {"lora_mid", "a Tucker decomposition (lora_mid)"}, {"dora_scale", "DoRA"}, {"lora_magnitude_vector", "DoRA"},
        {".hada_", "LoHa"}, {".lokr_", "LoKr"}, {".oft_", "OFT"}, {".boft_", "BOFT"}, {".diff", "a full difference"},
        {".w_norm", "a norm"}, {".b_norm", "a norm"}, {"lora_B.bias", "a bias"}, {"lora_embedding_", "an embedding"},
        {"bundle_emb", "an embedding"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strstr(name, kinds[i].mark))
            return err_set(e, "%s: tensor %s: of %s; of its kind only LoRA is added (up and down)", weights_path(w),
                           name, kinds[i].kind);
    return err_set(e, "%s: tensor %s: no name of a LoRA's (NAME.lora_down.weight, .lora_up.weight, .alpha; "
                   ".lora_A.weight, .lora_B.weight; lora.down.weight, lora.up.weight)", weights_path(w), name);
}

static int sort_in(const File *f, const Weight *t, Err *e)
{
    char name[LORA_NAME_SIZE];
    Role role;
    bool projection;
    size_t count;
    const char *path = weights_path(f->w);
    if (strlen(t->name) >= LORA_NAME_SIZE - LORA_NAME_GROWS)
        return err_set(e, "%s: tensor %.60s...: a name of %zu letters", path, t->name, strlen(t->name));
    strcpy(name, t->name);
    if (!f->v[PART_TEXT_2].count && (starts_with(name, "lora_te2_") || starts_with(name, "text_encoder_2.")))
        return err_set(e, "%s: tensor %s: of a second text encoder: a LoRA for SDXL or Stable Diffusion 3, expected "
                       "one for Stable Diffusion 1.x or 2.x", path, t->name);
    if (lora_take_role(name, &role, &projection))
        return refuse_kind(f->w, t->name, e);
    const LoraName *module = lora_find_module(f->l, name, projection, &count);
    if (!module)
        return err_set(e, "%s: tensor %s: the model has no such layer: a LoRA for another one, %s say?", path, t->name,
                       f->v[PART_TEXT_2].count ? "Stable Diffusion 1.x" : "SDXL");
    for (size_t i = 0; i < count; i++) {
        const Item *item = &f->v[module[i].part].item[module[i].item];
        Triple *triple = &f->of[module[i].part][module[i].item];
        const Weight **place = &triple->tensor[role];
        if (*place)
            return err_set(e, "%s: tensors %s and %s are for the same layer", path, (*place)->name, t->name);
        *place = t;
        if (role == ROLE_UP) {
            triple->part = module[i].naming == NAMES_LDM && item->third >= 0;
            triple->swapped = module[i].naming == NAMES_LDM && item->swapped;
        }
    }
    return 0;
}

static bool has_shape(const Weight *t, int64_t first, int64_t second, int64_t kernel)
{
    return (t->ndim == 4 && t->dim[0] == first && t->dim[1] == second && t->dim[2] == kernel && t->dim[3] == kernel)
        || (t->ndim == 2 && t->dim[0] == first && t->dim[1] == second && kernel == 1);
}

static int check_shapes(const File *f, const Item *item, const Triple *t, Err *e)
{
    const Weight *down = t->tensor[ROLE_DOWN], *up = t->tensor[ROLE_UP];
    const int64_t rank = down->ndim ? down->dim[0] : 0, kernel = item->ndim == 4 ? item->dim[2] : 1;
    const int64_t rows = item->dim[0]*(t->part ? 3 : 1);
    if (rank >= 1 && has_shape(down, rank, item->dim[1], kernel) && has_shape(up, rows, rank, 1))
        return 0;
    char shape[3][SHAPE_SIZE];
    shape_text(shape[0], down->ndim, down->dim);
    shape_text(shape[1], up->ndim, up->dim);
    shape_text(shape[2], item->ndim, item->dim);
    return err_set(e, "%s: tensors %s %s and %s %s do not make a change of the model's %s: a LoRA for another one?",
                   weights_path(f->w), down->name, shape[0], up->name, shape[1], shape[2]);
}

/* What a tensor of `rank` is multiplied by, as PEFT was told for the part, which save_lora_weights writes into the file
 * (peft LoraConfig): alpha/rank, with use_rslora alpha/sqrt(rank). */
static int adapter_scale(const File *f, PartKind part, int64_t rank, double *scale, Err *e)
{
    const json_t *value, *alpha = NULL;
    const char *key, *folder = part_folders[part];
    bool root = false;
    json_object_foreach(f->adapter, key, value) {
        if (!starts_with(key, folder) || key[strlen(folder)] != '.')
            continue;
        const char *name = key + strlen(folder) + 1;
        const bool on = json_is_true(value);
        if (strcmp(name, "lora_alpha") == 0)
            alpha = value;
        else if (strcmp(name, "use_rslora") == 0)
            root = on;
        else if ((on && (starts_with(name, "use_") || strcmp(name, "lora_bias") == 0))
                 || (strcmp(name, "alpha_pattern") == 0 && json_object_size(value) > 0))
            return err_set(e, "%s: lora_adapter_metadata: \"%s\" is set, which is not implemented", weights_path(f->w),
                           key);
    }
    if (!alpha)
        return 0;
    *scale = json_number_value(alpha)/(root ? sqrt((double)rank) : (double)rank);
    return json_is_number(alpha) && isfinite(*scale) ? 0
        : err_set(e, "%s: lora_adapter_metadata: \"%s.lora_alpha\" is no number", weights_path(f->w), folder);
}

static int read_scale(const File *f, PartKind part, const Triple *t, double *scale, Err *e)
{
    const Weight *alpha = t->tensor[ROLE_ALPHA];
    float value;
    *scale = 1;
    if (!alpha)
        return adapter_scale(f, part, t->tensor[ROLE_DOWN]->dim[0], scale, e);
    if (weight_count(alpha) != 1)
        return err_set(e, "%s: tensor %s has %zu values, expected 1", weights_path(f->w), alpha->name,
                       weight_count(alpha));
    dtype_to_f32(&value, alpha->data, alpha->type, 1);
    *scale = value/(double)t->tensor[ROLE_DOWN]->dim[0];
    return isfinite(value) ? 0 : err_set(e, "%s: tensor %s is %g", weights_path(f->w), alpha->name, (double)value);
}

static int add_delta(const File *f, PartKind part, size_t item, Err *e)
{
    const Triple *t = &f->of[part][item];
    const Weight *down = t->tensor[ROLE_DOWN], *up = t->tensor[ROLE_UP];
    if (!down && !up && !t->tensor[ROLE_ALPHA])
        return 0;
    if (!down || !up)
        return err_set(e, "%s: tensor %s has no other half, expected both up and down", weights_path(f->w),
                       (down ? down : up ? up : t->tensor[ROLE_ALPHA])->name);
    for (int r = ROLE_DOWN; r <= ROLE_UP; r++)
        if (!dtype_is_float(t->tensor[r]->type))
            return err_set(e, "%s: tensor %s is %s, expected f32, f16 or bf16", weights_path(f->w), t->tensor[r]->name,
                           dtype_name(t->tensor[r]->type));
    double scale;
    const Item *layer = &f->v[part].item[item];
    if (check_shapes(f, layer, t, e) || weights_finite(f->w, down, e) || weights_finite(f->w, up, e)
        || read_scale(f, part, t, &scale, e))
        return -1;
    Delta **last = &f->l->first[part][item];
    while (*last)
        last = &(*last)->next;
    if (!(*last = malloc(sizeof **last)))
        return err_set(e, "out of memory");
    const int64_t rows = layer->dim[0];
    **last = (Delta){down, up, t->part ? layer->third*rows : t->swapped ? rows/2 : 0, f->strength*scale, NULL};
    return 0;
}

static int open_file(File *f, const char *path, Err *e)
{
    Weights **grown = realloc(f->l->file, (size_t)(f->l->files + 1)*sizeof *grown), *w;
    if (!grown)
        return err_set(e, "out of memory");
    f->l->file = grown;
    if (weights_open_either(&w, path, e))
        return -1;
    grown[f->l->files++] = w;
    f->w = w;
    const json_t *text = json_object_get(weights_metadata(w), "lora_adapter_metadata");
    if (text && !(f->adapter = json_loads(json_string_value(text) ? json_string_value(text) : "", 0, NULL)))
        return err_set(e, "%s: lora_adapter_metadata is no JSON", path);
    for (int p = 0; p < PARTS; p++)
        if (!(f->of[p] = calloc(f->v[p].count + 1, sizeof *f->of[p])))
            return err_set(e, "out of memory");
    const char *unread = weights_unread(w);
    if (unread)
        return err_set(e, "%s: tensor %s is of a type that is not read, expected f32, f16 or bf16", path, unread);
    return weights_count(w) ? 0 : err_set(e, "%s: holds no tensor", path);
}

int loras_add(Loras *l, const Inventory v[PARTS], const char *path, double strength, Err *e)
{
    File f = {.l = l, .v = v, .strength = strength};
    int failed = open_file(&f, path, e);
    for (size_t i = 0; !failed && i < weights_count(f.w); i++)
        failed = sort_in(&f, weights_at(f.w, i), e);
    for (int p = 0; p < PARTS; p++)
        for (size_t i = 0; !failed && i < v[p].count; i++)
            failed = add_delta(&f, (PartKind)p, i, e);
    for (int p = 0; p < PARTS; p++)
        free(f.of[p]);
    json_decref(f.adapter);
    return failed ? -1 : 0;
}

void loras_free(Loras *l)
{
    for (int p = 0; p < PARTS; p++) {
        for (size_t i = 0; i < l->items[p]; i++)
            for (Delta *d = l->first[p][i], *next; d; d = next) {
                next = d->next;
                free(d);
            }
        free(l->first[p]);
    }
    lora_names_free(l);
    for (int i = 0; i < l->files; i++)
        weights_close(l->file[i]);
    free(l->file);
    *l = (Loras){0};
}
