/* SPDX-License-Identifier: MIT */
/* inventory.c -- a list of tensors, a layer at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/inventory.h"

const char *const part_folders[PARTS] = {"unet", "transformer", "vae", "text_encoder", "text_encoder_2",
                                         "text_encoder_3"};
const char *const part_prefixes[PARTS] = {"", "", "", "text_model.", "text_model.", ""};

bool inventory_wants(const Pipeline *p, PartKind kind)
{
    switch (kind) {
    case PART_UNET:        return !p->sd3;
    case PART_TRANSFORMER: return p->sd3;
    case PART_TEXT_2:      return p->xl || p->sd3;
    case PART_TEXT_3:      return p->t5;
    default:               return true;
    }
}

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

Layer layer_table(int rows, int columns)
{
    return (Layer){.kind = LAYER_TABLE, .out = rows, .in = columns};
}

Layer layer_gamma(int C)
{
    return (Layer){.kind = LAYER_GAMMA, .out = C};
}

static char *join(const char *at, const char *suffix, const char *end)
{
    char *name;
    return asprintf(&name, "%s%s%s.%s", at, *at ? "." : "", suffix, end) < 0 ? NULL : name;
}

static Item *add_item(Inventory *v, char *diffusers, char *ldm)
{
    if (v->count == v->room) {
        const size_t room = v->room ? 2*v->room : 256;
        Item *grown = realloc(v->item, room*sizeof *grown);
        if (!grown) {
            free(diffusers);
            free(ldm);
            v->failed = true;
            return NULL;
        }
        v->item = grown;
        v->room = room;
    }
    Item *i = &v->item[v->count++];
    *i = (Item){.name = {diffusers, ldm}, .third = -1};
    v->failed = v->failed || !diffusers || !ldm;
    return i;
}

static Item *add_end(Inventory *v, const Path *at, const char *diffusers, const char *ldm, const char *end)
{
    return add_item(v, join(at->name[NAMES_DIFFUSERS], diffusers, end), join(at->name[NAMES_LDM], ldm, end));
}

Item *inventory_add_tensor(Inventory *v, const char *diffusers, const char *ldm, int ndim, const int64_t *dim)
{
    Item *i = add_item(v, strdup(diffusers), strdup(ldm));
    if (i) {
        i->ndim = ndim;
        memcpy(i->dim, dim, (size_t)ndim*sizeof *dim);
    }
    return i;
}

void inventory_add(Inventory *v, const Path *at, const char *diffusers, const char *ldm, Layer layer)
{
    Item *i = add_end(v, at, diffusers, ldm, "weight");
    if (!i)
        return;
    const bool norm = layer.kind == LAYER_NORM || layer.kind == LAYER_GAMMA;
    i->ndim = norm ? 1 : layer.kind == LAYER_CONV ? 4 : 2;
    memcpy(i->dim, (int64_t[]){layer.out, layer.in, layer.kernel, layer.kernel}, sizeof i->dim);
    i->pointwise = layer.kind == LAYER_LINEAR || (layer.kind == LAYER_CONV && layer.kernel == 1);
    if (layer.kind == LAYER_TABLE || layer.kind == LAYER_GAMMA || !(i = add_end(v, at, diffusers, ldm, "bias")))
        return;
    i->ndim = 1;
    i->dim[0] = layer.out;
    i->optional = layer.maybe_bias;
}

int inventory_read(Inventory *v, PartKind kind, const Pipeline *p, const Part *part, Err *e)
{
    static int (*const of[PARTS])(Inventory *, const Part *, Err *) = {
        inventory_unet, inventory_mmdit, inventory_vae, inventory_text, inventory_text, inventory_t5,
    };
    *v = (Inventory){.kind = kind, .sd3 = p->sd3};
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
