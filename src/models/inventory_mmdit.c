/* SPDX-License-Identifier: MIT */
/* inventory_mmdit.c -- the tensors of an SD3Transformer2DModel by its config.
 *
 * Stability's code keeps q, k and v of an attention in one tensor, calls the image's side of a block x_block and the
 * text's context_block, and where a norm has only a shift and a scale it has the shift's rows first. (sd3-ref,
 * mmditx.py; diffusers loaders/single_file_utils.py, convert_sd3_transformer_checkpoint_to_diffusers.) */
#include <stdio.h>
#include "src/models/inventory.h"
#include "src/models/mmdit_parts.h"

static const Path top = {{"", ""}};

typedef struct AttentionNames { const char *qkv[3], *norm_q, *norm_k, *out, *ldm; } AttentionNames;

static const AttentionNames image = {{"attn.to_q", "attn.to_k", "attn.to_v"}, "attn.norm_q", "attn.norm_k",
                                     "attn.to_out.0", "x_block.attn"},
    text = {{"attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"}, "attn.norm_added_q", "attn.norm_added_k",
            "attn.to_add_out", "context_block.attn"},
    second = {{"attn2.to_q", "attn2.to_k", "attn2.to_v"}, "attn2.norm_q", "attn2.norm_k", "attn2.to_out.0",
              "x_block.attn2"};

static void add_attention(Inventory *v, const MMDiTConfig *c, const Path *at, const AttentionNames *names, bool out)
{
    char ldm[64];
    for (int i = 0; i < 3; i++) {
        const size_t first = v->count;
        snprintf(ldm, sizeof ldm, "%s.qkv", names->ldm);
        inventory_add(v, at, names->qkv[i], ldm, layer_linear(c->D, c->D));
        for (size_t n = first; n < v->count; n++)
            v->item[n].third = i;
    }
    const char *const norms[2][2] = {{names->norm_q, "ln_q"}, {names->norm_k, "ln_k"}};
    for (int i = 0; i < 2 && c->qk_norm; i++) {
        snprintf(ldm, sizeof ldm, "%s.%s", names->ldm, norms[i][1]);
        inventory_add(v, at, norms[i][0], ldm, layer_gamma(c->head_dim));
    }
    snprintf(ldm, sizeof ldm, "%s.proj", names->ldm);
    if (out)
        inventory_add(v, at, names->out, ldm, layer_linear(c->D, c->D));
}

/* `parts` times D rows; those of two parts are a shift and a scale. */
static void add_modulation(Inventory *v, const Path *at, const char *diffusers, const char *ldm, int D, int parts)
{
    const size_t first = v->count;
    inventory_add(v, at, diffusers, ldm, layer_linear(D, parts*D));
    for (size_t n = first; n < v->count; n++)
        v->item[n].swapped = parts == 2;
}

static void add_block(Inventory *v, const MMDiTConfig *c, int i)
{
    const bool last = i == c->layers - 1;
    Path at;
    snprintf(at.name[NAMES_DIFFUSERS], sizeof at.name[0], "transformer_blocks.%d", i);
    snprintf(at.name[NAMES_LDM], sizeof at.name[0], "joint_blocks.%d", i);
    add_modulation(v, &at, "norm1.linear", "x_block.adaLN_modulation.1", c->D, c->dual[i] ? 9 : 6);
    add_modulation(v, &at, "norm1_context.linear", "context_block.adaLN_modulation.1", c->D, last ? 2 : 6);
    add_attention(v, c, &at, &image, true);
    add_attention(v, c, &at, &text, !last);
    if (c->dual[i])
        add_attention(v, c, &at, &second, true);
    inventory_add(v, &at, "ff.net.0.proj", "x_block.mlp.fc1", layer_linear(c->D, 4*c->D));
    inventory_add(v, &at, "ff.net.2", "x_block.mlp.fc2", layer_linear(4*c->D, c->D));
    if (last)
        return;
    inventory_add(v, &at, "ff_context.net.0.proj", "context_block.mlp.fc1", layer_linear(c->D, 4*c->D));
    inventory_add(v, &at, "ff_context.net.2", "context_block.mlp.fc2", layer_linear(4*c->D, c->D));
}

int inventory_mmdit(Inventory *v, const Part *part, Err *e)
{
    MMDiTConfig c;
    if (mmdit_config_read(&c, part, e))
        return -1;
    inventory_add(v, &top, "pos_embed.proj", "x_embedder.proj", layer_conv(c.C, c.D, c.patch));
    inventory_add_tensor(v, "pos_embed.pos_embed", "pos_embed", 3,
                         (const int64_t[]){1, (int64_t)c.most*c.most, c.D});
    inventory_add(v, &top, "time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0",
                  layer_linear(MMDIT_WAVES, c.D));
    inventory_add(v, &top, "time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2", layer_linear(c.D, c.D));
    inventory_add(v, &top, "time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0", layer_linear(c.P, c.D));
    inventory_add(v, &top, "time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2", layer_linear(c.D, c.D));
    inventory_add(v, &top, "context_embedder", "context_embedder", layer_linear(c.E, c.D));
    for (int i = 0; i < c.layers; i++)
        add_block(v, &c, i);
    add_modulation(v, &top, "norm_out.linear", "final_layer.adaLN_modulation.1", c.D, 2);
    inventory_add(v, &top, "proj_out", "final_layer.linear", layer_linear(c.D, c.patch*c.patch*c.C));
    return 0;
}
