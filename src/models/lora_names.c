/* SPDX-License-Identifier: MIT */
/* lora_names.c -- which layer a LoRA file's tensor belongs to, and what it is there, by its name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/affix.h"
#include "src/models/lora_parts.h"

static int name_order(const void *x, const void *y)
{
    const LoraName *a = x, *b = y;
    return a->part != b->part ? (a->part > b->part) - (a->part < b->part) : strcmp(a->text, b->text);
}

static bool is_same(const LoraName *a, const LoraName *b)
{
    return name_order(a, b) == 0;
}

static void flatten(char *text)
{
    for (; *text; text++)
        if (*text == '.')
            *text = '_';
}

static int add_name(Loras *l, const Inventory *v, size_t item, Naming naming, Err *e)
{
    const char *name = v->item[item].name[naming];
    const size_t n = strlen(name) - strlen(".weight");
    LoraName *new = &l->name[l->names];
    *new = (LoraName){strndup(name, n), v->kind, item, naming};
    if (!new->text)
        return err_set(e, "out of memory");
    flatten(new->text);
    l->names++;
    return 0;
}

/* What a LoRA may change: weights of two dimensions or more. */
static bool is_layer(const Item *item)
{
    return item->ndim >= 2 && ends_with(item->name[NAMES_DIFFUSERS], ".weight");
}

/* LDM's names of the layers of a UNet or transformer are known too. */
static bool is_known(const Item *item, int part, Naming naming)
{
    return naming == NAMES_DIFFUSERS
        || ((part == PART_UNET || part == PART_TRANSFORMER)
            && strcmp(item->name[NAMES_LDM], item->name[NAMES_DIFFUSERS]) != 0);
}

int lora_names_list(Loras *l, const Inventory v[PARTS], Err *e)
{
    size_t most = 0;
    for (int p = 0; p < PARTS; p++)
        most += 2*v[p].count;
    if (!(l->name = calloc(most + 1, sizeof *l->name)))
        return err_set(e, "out of memory");
    for (int p = 0; p < PARTS; p++)
        for (size_t i = 0; i < v[p].count && p != PART_VAE; i++)
            for (int n = 0; n < NAMINGS && is_layer(&v[p].item[i]); n++)
                if (is_known(&v[p].item[i], p, (Naming)n) && add_name(l, &v[p], i, (Naming)n, e))
                    return -1;
    qsort(l->name, l->names, sizeof *l->name, name_order);
    return 0;
}

void lora_names_free(Loras *l)
{
    for (size_t i = 0; i < l->names; i++)
        free(l->name[i].text);
    free(l->name);
}

/* ---- one tensor's name ---- */

/* Cuts `end` off text; whether it was there. */
static bool cut(char *text, const char *end)
{
    const bool there = ends_with(text, end);
    if (there)
        text[strlen(text) - strlen(end)] = 0;
    return there;
}

int lora_take_role(char *name, Role *role, bool *projection)
{
    static const struct { const char *end; Role role; } ends[] = {
        {".lora_down.weight", ROLE_DOWN}, {".lora_up.weight", ROLE_UP}, {".lora_A.weight", ROLE_DOWN},
        {".lora_B.weight", ROLE_UP}, {".alpha", ROLE_ALPHA},
    };
    static const char *const layers[] = {".lora", ".lora_linear_layer"};
    *projection = false;
    size_t i = 0;
    while (i < sizeof ends / sizeof *ends && !cut(name, ends[i].end))
        i++;
    const bool named = i < sizeof ends / sizeof *ends;
    if (named && ends[i].role != ROLE_ALPHA) {
        *role = ends[i].role;
        return 0;
    }
    *role = named ? ROLE_ALPHA : cut(name, ".down.weight") ? ROLE_DOWN : cut(name, ".up.weight") ? ROLE_UP : ROLES;
    if (*role == ROLES)
        return -1;
    if (cut(name, layers[0]) || cut(name, layers[1]))
        return 0;
    *projection = cut(name, "_lora");
    return *projection || *role == ROLE_ALPHA ? 0 : -1;
}

const LoraName *lora_find_module(const Loras *l, char *name, bool projection, size_t *count)
{
    const PartKind network = l->items[PART_TRANSFORMER] ? PART_TRANSFORMER : PART_UNET;
    const struct { const char *prefix; PartKind part; } prefixes[] = {
        {"lora_unet_", network}, {"lora_te_", PART_TEXT}, {"lora_te1_", PART_TEXT}, {"lora_te2_", PART_TEXT_2},
        {"lora_te3_", PART_TEXT_3}, {"unet_", PART_UNET}, {"transformer_", PART_TRANSFORMER},
        {"diffusion_model_", network}, {"text_encoder_2_", PART_TEXT_2}, {"text_encoder_3_", PART_TEXT_3},
        {"text_encoder_", PART_TEXT}, {"", network},
    };
    static const char *const projections[2][4][2] = {       /* of the UNet, of a text encoder */
        {{"to_q", "to_q"}, {"to_k", "to_k"}, {"to_v", "to_v"}, {"to_out", "to_out_0"}},
        {{"to_q", "q_proj"}, {"to_k", "k_proj"}, {"to_v", "v_proj"}, {"to_out", "out_proj"}},
    };
    size_t i = 0;
    flatten(name);
    char *processor = strstr(name, "_processor_");
    if (processor)
        memmove(processor, processor + strlen("_processor"), strlen(processor + strlen("_processor")) + 1);
    while (!starts_with(name, prefixes[i].prefix))
        i++;
    char *module = name + strlen(prefixes[i].prefix);
    const bool text = prefixes[i].part >= PART_TEXT;
    if (text && starts_with(module, "text_model_"))
        module += strlen("text_model_");
    for (int k = 0; k < 4 && projection; k++)
        if (cut(module, projections[text][k][0])) {
            strcat(module, projections[text][k][1]);
            break;
        }
    const LoraName key = {.text = module, .part = prefixes[i].part}, *end = l->name + l->names;
    const LoraName *first = bsearch(&key, l->name, l->names, sizeof key, name_order);
    for (*count = 0; first && first > l->name && is_same(first - 1, &key);)
        first--;
    while (first && first + *count < end && is_same(first + *count, &key))
        ++*count;
    return first;
}
