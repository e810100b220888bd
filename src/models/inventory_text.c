/* SPDX-License-Identifier: MIT */
/* inventory_text.c -- the tensors of a CLIPTextModel by its config, and of the CLIPTextModelWithProjection that SDXL's
 * second encoder and both of Stable Diffusion 3 are.
 *
 * Checkpoints of Stable Diffusion 1 and XL's first encoder have them under transformers' names, 2's and XL's second one
 * under OpenCLIP's, where the projections of q, k and v are one tensor and text_projection is multiplied from the
 * right. 2's have a last layer more, whose output the model does not read. 3's have both under transformers' names;
 * what the first one pools is not projected there, which is the identity here. (open_clip/transformer.py; diffusers
 * loaders/single_file_utils.py, convert_open_clip_checkpoint, create_diffusers_clip_model_from_ldm.) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/clip_layers.h"
#include "src/models/inventory.h"

/* Item n is called PATH.name in OpenCLIP: what has no ".weight" or ".bias" there. */
static void rename_item(Inventory *v, size_t n, const Path *at, const char *name)
{
    char **ldm = &v->item[n].name[NAMES_LDM];
    const char *path = at->name[NAMES_LDM];
    free(*ldm);
    if (asprintf(ldm, "%s%s%s", path, *path ? "." : "", name) < 0) {
        *ldm = NULL;
        v->failed = true;
    }
}

/* What stable-diffusion.cpp calls item n, when it renames OpenCLIP's: PATH.name. */
static void add_other(Inventory *v, size_t n, const char *path, const char *name)
{
    char **other = &v->item[n].other[NAMES_DIFFUSERS];
    if (asprintf(other, "%s%s%s", path, *path ? "." : "", name) < 0) {
        *other = NULL;
        v->failed = true;
    }
}

/* q, k or v: a third of in_proj_weight and of in_proj_bias. */
static void add_third(Inventory *v, const Path *at, int third, int E)
{
    static const char *const names[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
    const size_t first = v->count;
    inventory_add(v, at, names[third], "attn", layer_linear(E, E));
    for (size_t n = first; n < v->count; n++) {
        v->item[n].third = third;
        rename_item(v, n, at, n == first ? "attn.in_proj_weight" : "attn.in_proj_bias");
        add_other(v, n, at->name[NAMES_DIFFUSERS], n == first ? "self_attn.in_proj.weight" : "self_attn.in_proj.bias");
    }
}

static void add_layer(Inventory *v, int i, int E, int hidden)
{
    Path at;
    snprintf(at.name[NAMES_DIFFUSERS], sizeof at.name[0], "encoder.layers.%d", i);
    snprintf(at.name[NAMES_LDM], sizeof at.name[0], "transformer.resblocks.%d", i);
    inventory_add(v, &at, "layer_norm1", "ln_1", layer_norm_of(E));
    for (int third = 0; third < 3; third++)
        add_third(v, &at, third, E);
    inventory_add(v, &at, "self_attn.out_proj", "attn.out_proj", layer_linear(E, E));
    inventory_add(v, &at, "layer_norm2", "ln_2", layer_norm_of(E));
    inventory_add(v, &at, "mlp.fc1", "mlp.c_fc", layer_linear(E, hidden));
    inventory_add(v, &at, "mlp.fc2", "mlp.c_proj", layer_linear(hidden, E));
}

/* text_projection is (E,P); text_projection.weight, as Playground 2 has it and ComfyUI reads it, a layer's (P,E). Of
 * Stable Diffusion 3 stable-diffusion.cpp renames the latter. */
static int add_projection(Inventory *v, const Part *part, int E, Err *e)
{
    static const Path top = {{"", ""}};
    const int width = 512;
    int P;
    if (part_int(part, "projection_dim", &width, &P, e))
        return -1;
    if (P < 1 || P > 1 << 16)
        return err_set(e, "%s/config.json: \"projection_dim\" is %d, expected 1 to %d", part->path, P, 1 << 16);
    inventory_add(v, &top, "text_projection", "text_projection", layer_table(P, E));
    if (v->failed)
        return 0;
    Item *i = &v->item[v->count - 1];
    i->outside = i->turned = true;
    i->alike = v->sd3;
    i->identity = v->sd3 && v->kind == PART_TEXT && P == E;
    i->other[NAMES_LDM] = i->name[NAMES_LDM];
    i->name[NAMES_LDM] = NULL;
    rename_item(v, v->count - 1, &top, "text_projection");
    add_other(v, v->count - 1, "", "text_projection");
    return 0;
}

int inventory_text(Inventory *v, const Part *part, Err *e)
{
    const int length = 77, size = 49408;
    static const Path top = {{"", ""}};
    ClipLayers c = {0};
    Part tower = *part;
    int S, vocab;
    json_t *inside = json_object_get(part->config, "text_config");          /* of a whole CLIPModel */
    if (json_is_object(inside))
        tower.config = inside;
    if (clip_layers_config(&c, &tower, false, e)
        || part_int(&tower, "max_position_embeddings", &length, &S, e)
        || part_int(&tower, "vocab_size", &size, &vocab, e))
        return -1;
    if (S < 1 || vocab < 1)
        return err_set(e, "%s/config.json: \"max_position_embeddings\" is %d and \"vocab_size\" %d, expected 1 at "
                       "least", part->path, S, vocab);
    v->layers = c.layers;
    inventory_add(v, &top, "embeddings.token_embedding", "token_embedding", layer_table(vocab, c.E));
    inventory_add(v, &top, "embeddings.position_embedding", "positional_embedding", layer_table(S, c.E));
    if (!v->failed)
        rename_item(v, v->count - 1, &top, "positional_embedding");
    for (int i = 0; i < c.layers; i++)
        add_layer(v, i, c.E, c.hidden);
    inventory_add(v, &top, "final_layer_norm", "ln_final", layer_norm_of(c.E));
    return v->sd3 || v->kind == PART_TEXT_2 ? add_projection(v, part, c.E, e) : 0;
}
