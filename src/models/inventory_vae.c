/* SPDX-License-Identifier: MIT */
/* inventory_vae.c -- the tensors of an AutoencoderKL by its config.
 *
 * LDM counts the decoder's levels from the finest on, diffusers in the order of computation. The attention's layers are
 * 1x1 convolutions there and linear here. (LDM, modules/diffusionmodules/model.py; diffusers autoencoder_kl.py.) */
#include <stdio.h>
#include <stdlib.h>
#include "src/models/inventory.h"
#include "src/models/vae_parts.h"

static const Path top = {{"", ""}};

static void add_resnet(Inventory *v, const Path *at, int in, int out)
{
    inventory_add(v, at, "norm1", "norm1", layer_norm_of(in));
    inventory_add(v, at, "conv1", "conv1", layer_conv(in, out, 3));
    inventory_add(v, at, "norm2", "norm2", layer_norm_of(out));
    inventory_add(v, at, "conv2", "conv2", layer_conv(out, out, 3));
    if (in != out)
        inventory_add(v, at, "conv_shortcut", "nin_shortcut", layer_conv(in, out, 1));
}

static void add_attention(Inventory *v, const char *side, int C)
{
    static const char *const names[5][3] = {{"group_norm", "norm", "group_norm"}, {"to_q", "q", "query"},
                                            {"to_k", "k", "key"}, {"to_v", "v", "value"},
                                            {"to_out.0", "proj_out", "proj_attn"}};
    Path at;
    snprintf(at.name[NAMES_DIFFUSERS], sizeof at.name[0], "%s.mid_block.attentions.0", side);
    snprintf(at.name[NAMES_LDM], sizeof at.name[0], "%s.mid.attn_1", side);
    for (int i = 0; i < 5; i++) {
        const size_t first = v->count;
        inventory_add(v, &at, names[i][0], names[i][1], i ? layer_linear(C, C) : layer_norm_of(C));
        for (size_t n = first; n < v->count; n++)
            if (asprintf(&v->item[n].other[NAMES_DIFFUSERS], "%s.%s.%s", at.name[NAMES_DIFFUSERS], names[i][2],
                         n == first ? "weight" : "bias") < 0) {
                v->item[n].other[NAMES_DIFFUSERS] = NULL;
                v->failed = true;
            }
    }
}

static void add_mid(Inventory *v, const char *side, int C, bool attention)
{
    Path at;
    for (int j = 0; j < 2; j++) {
        snprintf(at.name[NAMES_DIFFUSERS], sizeof at.name[0], "%s.mid_block.resnets.%d", side, j);
        snprintf(at.name[NAMES_LDM], sizeof at.name[0], "%s.mid.block_%d", side, j + 1);
        add_resnet(v, &at, C, C);
    }
    if (attention)
        add_attention(v, side, C);
}

/* Level i in the order of computation, which LDM calls level `ldm`. */
static void add_level(Inventory *v, bool decoder, int i, int ldm, int in, int C, int resnets, bool last)
{
    const char *side = decoder ? "decoder" : "encoder", *way = decoder ? "up" : "down";
    Path at;
    for (int j = 0; j < resnets; j++) {
        snprintf(at.name[NAMES_DIFFUSERS], sizeof at.name[0], "%s.%s_blocks.%d.resnets.%d", side, way, i, j);
        snprintf(at.name[NAMES_LDM], sizeof at.name[0], "%s.%s.%d.block.%d", side, way, ldm, j);
        add_resnet(v, &at, j ? C : in, C);
    }
    snprintf(at.name[NAMES_DIFFUSERS], sizeof at.name[0], "%s.%s_blocks.%d.%ssamplers.0", side, way, i, way);
    snprintf(at.name[NAMES_LDM], sizeof at.name[0], "%s.%s.%d.%ssample", side, way, ldm, way);
    if (!last)
        inventory_add(v, &at, "conv", "conv", layer_conv(C, C, 3));
}

/* What comes before and after the levels: in -> C[0], C[1] -> out. */
static void add_ends(Inventory *v, const char *side, int in, const int C[2], int out)
{
    Path at;
    for (int n = 0; n < NAMINGS; n++)
        snprintf(at.name[n], sizeof at.name[n], "%s", side);
    inventory_add(v, &at, "conv_in", "conv_in", layer_conv(in, C[0], 3));
    inventory_add(v, &at, "conv_norm_out", "norm_out", layer_norm_of(C[1]));
    inventory_add(v, &at, "conv_out", "conv_out", layer_conv(C[1], out, 3));
}

int inventory_vae(Inventory *v, const Part *part, Err *e)
{
    Vae vae = {.part = *part};
    if (vae_config_read(&vae, false, e))
        return -1;
    const int last = vae.levels - 1, c = vae.latent;
    add_ends(v, "encoder", 3, (const int[]){vae.C[0], vae.C[last]}, 2*c);
    add_ends(v, "decoder", c, (const int[]){vae.C[last], vae.C[0]}, 3);
    for (int i = 0; i <= last; i++)
        add_level(v, false, i, i, vae.C[i ? i - 1 : 0], vae.C[i], vae.layers, i == last);
    add_mid(v, "encoder", vae.C[last], vae.mid_attention);
    add_mid(v, "decoder", vae.C[last], vae.mid_attention);
    for (int i = 0; i <= last; i++)
        add_level(v, true, i, last - i, vae.C[i ? last - i + 1 : last], vae.C[last - i], vae.layers + 1, i == last);
    if (vae.has_quant)
        inventory_add(v, &top, "quant_conv", "quant_conv", layer_conv(2*c, 2*c, 1));
    if (vae.has_post_quant)
        inventory_add(v, &top, "post_quant_conv", "post_quant_conv", layer_conv(c, c, 1));
    return 0;
}
