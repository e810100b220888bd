/* SPDX-License-Identifier: MIT */
/* inventory.c -- a list of tensors, a layer at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/inventory.h"

const char *const part_folders[PARTS] = {"unet", "vae", "text_encoder", "text_encoder_2"};
const char *const part_prefixes[PARTS] = {"", "", "text_model.", "text_model."};

Layer layer_norm_of(int C)
{
    return (Layer){.kind = LAYER_NORM, .out = C};
}

Layer layer_linear(int in, int out)
{
    return (Layer){.kind = LAYER_LINEAR, .out = out, .in = in};
}

Layer layer_conv(int in, int out, int kernel)
{
    return (Layer){.kind = LAYER_CONV, .out = out, .in = in, .kernel = kernel};
}

static char *join(const char *at, const char *suffix, const char *end)
{
    char *name;
    return asprintf(&name, "%s%s%s.%s", at, *at ? "." : "", suffix, end) < 0 ? NULL : name;
}

static Item *add_item(Inventory *v, const Path *at, const char *diffusers, const char *ldm, const char *end)
{
    if (v->count == v->room) {
        const size_t room = v->room ? 2*v->room : 256;
        Item *grown = realloc(v->item, room*sizeof *grown);
        if (!grown) {
            v->failed = true;
            return NULL;
        }
        v->item = grown;
        v->room = room;
    }
    Item *i = &v->item[v->count++];
    *i = (Item){.third = -1};
    i->name[NAMES_DIFFUSERS] = join(at->name[NAMES_DIFFUSERS], diffusers, end);
    i->name[NAMES_LDM] = join(at->name[NAMES_LDM], ldm, end);
    v->failed = v->failed || !i->name[NAMES_DIFFUSERS] || !i->name[NAMES_LDM];
    return i;
}

void inventory_add(Inventory *v, const Path *at, const char *diffusers, const char *ldm, Layer layer)
{
    Item *i = add_item(v, at, diffusers, ldm, "weight");
    if (!i)
        return;
    i->ndim = layer.kind == LAYER_NORM ? 1 : layer.kind == LAYER_CONV ? 4 : 2;
    memcpy(i->dim, (int64_t[]){layer.out, layer.in, layer.kernel, layer.kernel}, sizeof i->dim);
    i->pointwise = layer.kind == LAYER_LINEAR || (layer.kind == LAYER_CONV && layer.kernel == 1);
    if (layer.kind == LAYER_TABLE || !(i = add_item(v, at, diffusers, ldm, "bias")))
        return;
    i->ndim = 1;
    i->dim[0] = layer.out;
    i->optional = layer.maybe_bias;
}

int inventory_read(Inventory *v, PartKind kind, const Part *part, Err *e)
{
    static int (*const of[PARTS])(Inventory *, const Part *, Err *) = {inventory_unet, inventory_vae, inventory_text,
                                                                       inventory_text};
    *v = (Inventory){.kind = kind};
    if (of[kind](v, part, e))
        return -1;
    return v->failed ? err_set(e, "out of memory") : 0;
}

void inventory_free(Inventory *v)
{
    for (size_t i = 0; i < v->count; i++) {
        for (int n = 0; n < NAMINGS; n++) {
            free(v->item[i].name[n]);
            free(v->item[i].other[n]);
        }
    }
    free(v->item);
    *v = (Inventory){0};
}
