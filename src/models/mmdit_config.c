/* SPDX-License-Identifier: MIT */
/* mmdit_config.c -- config.json of an SD3Transformer2DModel, with diffusers' defaults for keys that are missing.
 *
 * dual_attention_layers lists blocks that have an attn2; numbers beyond the last block mean nothing, as in diffusers.
 * "rms_norm" is the one qk_norm that models have. */
#include <string.h>
#include "formats/json_file.h"
#include "src/models/mmdit_parts.h"

static int read_size(const Part *part, const char *key, int fallback, int most, int *value, Err *e)
{
    return part_int(part, key, &fallback, value, e) || part_in_range(part, key, *value, 1, most, e) ? -1 : 0;
}

static int read_dual(MMDiTConfig *c, const Part *part, Err *e)
{
    static const char *const key = "dual_attention_layers";
    const json_t *list = json_object_get(part->config, key), *one;
    size_t i;
    if (list && !json_is_null(list) && !json_is_array(list))
        return err_set(e, "%s/config.json: \"%s\" is %s, expected a list of blocks", part->path, key,
                       json_type_text(list));
    json_array_foreach(list, i, one) {
        const json_int_t block = json_integer_value(one);
        if (!json_is_integer(one))
            return err_set(e, "%s/config.json: \"%s\" holds %s, expected numbers of blocks", part->path, key,
                           json_type_text(one));
        if (block >= 0 && block < c->layers)
            c->dual[block] = true;
    }
    return 0;
}

static int read_kind(MMDiTConfig *c, const Part *part, Err *e)
{
    static const char *const only = "SD3Transformer2DModel";
    const char *class, *norm;
    if (part_text(part, "_class_name", only, &class, e) || part_text(part, "qk_norm", "", &norm, e))
        return -1;
    if (strcmp(class, only) != 0)
        return err_set(e, "%s/config.json: \"_class_name\" is \"%.60s\"; only \"%s\" is implemented", part->path, class,
                       only);
    c->qk_norm = *norm;
    return !*norm || strcmp(norm, "rms_norm") == 0 ? 0
        : err_set(e, "%s/config.json: \"qk_norm\" is \"%.40s\"; only null and \"rms_norm\" are implemented", part->path,
                  norm);
}

int mmdit_config_read(MMDiTConfig *c, const Part *part, Err *e)
{
    int out, caption;
    *c = (MMDiTConfig){0};
    if (read_kind(c, part, e) || read_size(part, "sample_size", 128, 1 << 14, &c->sample, e)
        || read_size(part, "patch_size", 2, 32, &c->patch, e)
        || read_size(part, "in_channels", 16, 1 << 12, &c->C, e)
        || read_size(part, "out_channels", c->C, 1 << 12, &out, e)
        || read_size(part, "num_layers", 18, MMDIT_BLOCKS, &c->layers, e)
        || read_size(part, "attention_head_dim", 64, 1 << 10, &c->head_dim, e)
        || read_size(part, "num_attention_heads", 18, 1 << 10, &c->heads, e)
        || read_size(part, "joint_attention_dim", 4096, 1 << 20, &c->E, e)
        || read_size(part, "caption_projection_dim", 1152, 1 << 20, &caption, e)
        || read_size(part, "pooled_projection_dim", 2048, 1 << 20, &c->P, e)
        || read_size(part, "pos_embed_max_size", 96, 1 << 12, &c->most, e) || read_dual(c, part, e))
        return -1;
    c->D = c->heads*c->head_dim;
    if (c->D%8 || c->D > 1 << 16)           /* products of one image's rows begin at multiples of 16 bytes */
        return err_set(e, "%s/config.json: \"num_attention_heads\" * \"attention_head_dim\" is %d, expected a multiple "
                       "of 8, to %d", part->path, c->D, 1 << 16);
    if (caption != c->D)
        return err_set(e, "%s/config.json: \"caption_projection_dim\" is %d, and the blocks are %d wide "
                       "(\"num_attention_heads\" * \"attention_head_dim\"); only equal ones are implemented",
                       part->path, caption, c->D);
    return out == c->C ? 0
        : err_set(e, "%s/config.json: \"in_channels\" is %d and \"out_channels\" %d; only equal ones are implemented",
                  part->path, c->C, out);
}
