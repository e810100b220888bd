/* SPDX-License-Identifier: MIT */
/* inventory_unet.c -- the tensors of a UNet2DConditionModel by its config.
 *
 * LDM numbers what it computes in a row: input_blocks.0 is conv_in, then comes one for each resnet of a level (with its
 * transformer) and one for the convolution that ends the level; output_blocks the same, where that convolution is the
 * last member of the level's last block. The guidance's layer is not LDM's, and keeps its name. (openaimodel.py of LDM,
 * UNetModel; diffusers loaders/single_file_utils.py.) */
#include <stdio.h>
#include "src/models/inventory.h"
#include "src/models/unet_parts.h"

static const Path top = {{"", ""}};

static void add_resnet(Inventory *v, const Path *at, int in, int out, int time)
{
    inventory_add(v, at, "norm1", "in_layers.0", layer_norm_of(in));
    inventory_add(v, at, "conv1", "in_layers.2", layer_conv(in, out, 3));
    inventory_add(v, at, "time_emb_proj", "emb_layers.1", layer_linear(time, out));
    inventory_add(v, at, "norm2", "out_layers.0", layer_norm_of(out));
    inventory_add(v, at, "conv2", "out_layers.3", layer_conv(out, out, 3));
    if (in != out)
        inventory_add(v, at, "conv_shortcut", "skip_connection", layer_conv(in, out, 1));
}

/* Within a transformer both call everything alike. */
static void add_same(Inventory *v, const Path *at, const char *name, Layer layer)
{
    inventory_add(v, at, name, name, layer);
}

static void add_attention(Inventory *v, const Path *at, const char *which, int C, int E)
{
    static const char *const qkv[] = {"to_q", "to_k", "to_v"};
    char name[64];
    for (int i = 0; i < 3; i++) {
        Layer layer = layer_linear(i ? E : C, C);
        layer.maybe_bias = true;
        snprintf(name, sizeof name, "%s.%s", which, qkv[i]);
        add_same(v, at, name, layer);
    }
    snprintf(name, sizeof name, "%s.to_out.0", which);
    add_same(v, at, name, layer_linear(C, C));
}

static void add_transformer(Inventory *v, const Path *at, int C, int depth, int E, bool as_linear)
{
    const Layer around = as_linear ? layer_linear(C, C) : layer_conv(C, C, 1);
    add_same(v, at, "norm", layer_norm_of(C));
    add_same(v, at, "proj_in", around);
    for (int k = 0; k < depth; k++) {
        Path block;
        for (int n = 0; n < NAMINGS; n++)
            snprintf(block.name[n], sizeof block.name[n], "%.120s.transformer_blocks.%d", at->name[n], k);
        add_same(v, &block, "norm1", layer_norm_of(C));
        add_attention(v, &block, "attn1", C, C);
        add_same(v, &block, "norm2", layer_norm_of(C));
        add_attention(v, &block, "attn2", C, E);
        add_same(v, &block, "norm3", layer_norm_of(C));
        add_same(v, &block, "ff.net.0.proj", layer_linear(C, 8*C));
        add_same(v, &block, "ff.net.2", layer_linear(4*C, C));
    }
    add_same(v, at, "proj_out", around);
}

typedef struct Shared { const UNetConfig *c; bool as_linear; } Shared;      /* by all levels */

static void add_down(Inventory *v, const Shared *s, int i, int *block)
{
    const UNetConfig *c = s->c;
    Path p;
    for (int j = 0; j < c->layers[i]; j++, ++*block) {
        snprintf(p.name[0], sizeof p.name[0], "down_blocks.%d.resnets.%d", i, j);
        snprintf(p.name[1], sizeof p.name[1], "input_blocks.%d.0", *block);
        add_resnet(v, &p, c->C[j || !i ? i : i - 1], c->C[i], c->time_width);
        snprintf(p.name[0], sizeof p.name[0], "down_blocks.%d.attentions.%d", i, j);
        snprintf(p.name[1], sizeof p.name[1], "input_blocks.%d.1", *block);
        if (c->down_attention[i])
            add_transformer(v, &p, c->C[i], c->depth[i], c->E, s->as_linear);
    }
    if (i == c->levels - 1)
        return;
    snprintf(p.name[0], sizeof p.name[0], "down_blocks.%d.downsamplers.0", i);
    snprintf(p.name[1], sizeof p.name[1], "input_blocks.%d.0", (*block)++);
    inventory_add(v, &p, "conv", "op", layer_conv(c->C[i], c->C[i], 3));
}

static void add_mid(Inventory *v, const Shared *s)
{
    const int last = s->c->levels - 1, C = s->c->C[last];
    add_resnet(v, &(Path){{"mid_block.resnets.0", "middle_block.0"}}, C, C, s->c->time_width);
    add_transformer(v, &(Path){{"mid_block.attentions.0", "middle_block.1"}}, C, s->c->depth[last], s->c->E,
                    s->as_linear);
    add_resnet(v, &(Path){{"mid_block.resnets.1", "middle_block.2"}}, C, C, s->c->time_width);
}

/* Level i from above: its resnets read the stream joined with what its own resnets, or for the last what the level
 * above, gave on the way down. */
static void add_up(Inventory *v, const Shared *s, int i, int *block)
{
    const UNetConfig *c = s->c;
    const int level = c->levels - 1 - i, C = c->C[level], resnets = c->layers[level] + 1;
    Path p;
    for (int j = 0; j < resnets; j++, ++*block) {
        const int in = j ? C : c->C[i ? level + 1 : level], skip = c->C[j < resnets - 1 || !level ? level : level - 1];
        snprintf(p.name[0], sizeof p.name[0], "up_blocks.%d.resnets.%d", i, j);
        snprintf(p.name[1], sizeof p.name[1], "output_blocks.%d.0", *block);
        add_resnet(v, &p, in + skip, C, c->time_width);
        snprintf(p.name[0], sizeof p.name[0], "up_blocks.%d.attentions.%d", i, j);
        snprintf(p.name[1], sizeof p.name[1], "output_blocks.%d.1", *block);
        if (c->up_attention[i])
            add_transformer(v, &p, C, c->depth[level], c->E, s->as_linear);
    }
    if (level == 0)
        return;
    snprintf(p.name[0], sizeof p.name[0], "up_blocks.%d.upsamplers.0", i);
    snprintf(p.name[1], sizeof p.name[1], "output_blocks.%d.%d", *block - 1, c->up_attention[i] ? 2 : 1);
    inventory_add(v, &p, "conv", "conv", layer_conv(C, C, 3));
}

int inventory_unet(Inventory *v, const Part *part, Err *e)
{
    UNetConfig c;
    if (unet_config_read(&c, part, e))
        return -1;
    const Shared s = {&c, json_is_true(json_object_get(part->config, "use_linear_projection"))};
    int block = 0;
    inventory_add(v, &top, "time_embedding.linear_1", "time_embed.0", layer_linear(c.C[0], c.time_width));
    inventory_add(v, &top, "time_embedding.linear_2", "time_embed.2", layer_linear(c.time_width, c.time_width));
    if (c.guidance_width) {
        Layer layer = layer_linear(c.guidance_width, c.C[0]);
        layer.maybe_bias = true;
        inventory_add(v, &top, "time_embedding.cond_proj", "time_embedding.cond_proj", layer);
    }
    if (c.P) {
        const int in = c.P + UNET_SIZES*c.size_width;
        inventory_add(v, &top, "add_embedding.linear_1", "label_emb.0.0", layer_linear(in, c.time_width));
        inventory_add(v, &top, "add_embedding.linear_2", "label_emb.0.2", layer_linear(c.time_width, c.time_width));
    }
    inventory_add(v, &top, "conv_in", "input_blocks.0.0", layer_conv(c.in, c.C[0], c.conv_in_kernel));
    block = 1;
    for (int i = 0; i < c.levels; i++)
        add_down(v, &s, i, &block);
    add_mid(v, &s);
    block = 0;
    for (int i = 0; i < c.levels; i++)
        add_up(v, &s, i, &block);
    inventory_add(v, &top, "conv_norm_out", "out.0", layer_norm_of(c.C[0]));
    inventory_add(v, &top, "conv_out", "out.2", layer_conv(c.C[0], c.in, c.conv_out_kernel));
    return 0;
}
