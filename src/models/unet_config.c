/* SPDX-License-Identifier: MIT */
/* unet_config.c -- config.json of a UNet2DConditionModel, with diffusers' defaults for the keys that old files lack.
 *
 * attention_head_dim is the number of heads: so did the first models spell it, and so is it read to this day
 * (github.com/huggingface/diffusers/issues/2011). dropout and upcast_attention change nothing here: attention sums in
 * f32. Of what is added to the time embedding only Stable Diffusion XL's is there, "text_time", and the guidance of
 * models that were distilled with it, "time_cond_proj_dim". */
#include <string.h>
#include "src/models/unet_parts.h"

/* Keys whose other values ask for what is not implemented. null counts as missing, but for "mid_block_type", where it
 * means none. */
static const struct { const char *key, *only; } fixed[] = {
    {"_class_name", "\"UNet2DConditionModel\""}, {"mid_block_type", "\"UNetMidBlock2DCrossAttn\""},
    {"time_embedding_type", "\"positional\""}, {"resnet_time_scale_shift", "\"default\""},
    {"attention_type", "\"default\""},
    {"center_input_sample", "false"}, {"only_cross_attention", "false"}, {"mid_block_only_cross_attention", "false"},
    {"dual_cross_attention", "false"}, {"resnet_skip_time_act", "false"}, {"class_embeddings_concat", "false"},
    {"mid_block_scale_factor", "1"}, {"resnet_out_scale_factor", "1"}, {"num_attention_heads", "null"},
    {"class_embed_type", "null"}, {"num_class_embeds", "null"}, {"encoder_hid_dim", "null"},
    {"encoder_hid_dim_type", "null"}, {"cross_attention_norm", "null"}, {"time_embedding_act_fn", "null"},
    {"timestep_post_act", "null"}, {"reverse_transformer_layers_per_block", "null"},
};

static bool same(const json_t *found, const json_t *only)
{
    if (json_is_array(found)) {                         /* a value for each level */
        size_t i;
        const json_t *one;
        json_array_foreach(found, i, one)
            if (!json_equal(one, only))
                return false;
        return true;
    }
    return json_is_number(found) && json_is_number(only) ? json_number_value(found) == json_number_value(only)
                                                         : json_equal(found, only);
}

static int check_fixed(const Part *part, Err *e)
{
    for (size_t i = 0; i < sizeof fixed/sizeof *fixed; i++) {
        const json_t *found = json_object_get(part->config, fixed[i].key);
        if (!found || (json_is_null(found) && strcmp(fixed[i].key, "mid_block_type") != 0))
            continue;
        json_t *only = json_loads(fixed[i].only, JSON_DECODE_ANY, NULL);
        const bool good = same(found, only);
        json_decref(only);
        if (good)
            continue;
        char *text = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);
        err_set(e, "%s/config.json: \"%s\" is %.60s; only %s is implemented", part->path, fixed[i].key,
                text ? text : "?", fixed[i].only);
        free(text);
        return -1;
    }
    return part_check_silu(part, e);
}

/* A number from 1 to `most` for each of n levels (or sides): a list of n, or one for all. */
static int read_list(const Part *part, const char *key, const int *fallback, int n, int *value, int most, Err *e)
{
    const json_t *found = json_object_get(part->config, key), *one;
    size_t i;
    if (!json_is_array(found)) {
        if (part_int(part, key, fallback, value, e))
            return -1;
        for (int k = 1; k < n; k++)
            value[k] = value[0];
    } else {
        if (json_array_size(found) != (size_t)n)
            return err_set(e, "%s/config.json: \"%s\" has %zu values, expected %d or one for all", part->path, key,
                           json_array_size(found), n);
        json_array_foreach(found, i, one)
            value[i] = json_is_integer(one) && json_integer_value(one) <= most ? (int)json_integer_value(one) : 0;
    }
    for (int k = 0; k < n; k++)
        if (value[k] < 1 || value[k] > most)
            return err_set(e, "%s/config.json: \"%s\" has a value that is not a whole number from 1 to %d", part->path,
                           key, most);
    return 0;
}

/* Which levels have transformers. kinds: the type without, the type with. */
static int read_types(const Part *part, const char *key, const char *const kinds[2], int n, bool *attention, Err *e)
{
    const json_t *list = json_object_get(part->config, key);
    if (json_array_size(list) != (size_t)n)
        return err_set(e, "%s/config.json: \"%s\" has %zu values, expected %d, as \"block_out_channels\" has",
                       part->path, key, json_array_size(list), n);
    for (int k = 0; k < n; k++) {
        const char *type = json_string_value(json_array_get(list, (size_t)k));
        attention[k] = type && strcmp(type, kinds[1]) == 0;
        if (!attention[k] && (!type || strcmp(type, kinds[0]) != 0))
            return err_set(e, "%s/config.json: \"%s\" has a block of type %.60s; only %s and %s are implemented",
                           part->path, key, type ? type : "(not a text)", kinds[0], kinds[1]);
    }
    return 0;
}

/* The added embedding reads the pooled one and the sinusoids of UNET_SIZES numbers. */
static int read_addition(UNetConfig *c, const Part *part, Err *e)
{
    static const char *const dim = "addition_time_embed_dim", *const all = "projection_class_embeddings_input_dim";
    const char *type;
    int into;
    if (part_text(part, "addition_embed_type", "", &type, e))
        return -1;
    if (!*type)
        return 0;
    if (strcmp(type, "text_time") != 0)
        return err_set(e, "%s/config.json: \"addition_embed_type\" is \"%.40s\"; only \"text_time\" is implemented",
                       part->path, type);
    if (part_int(part, dim, NULL, &c->size_width, e) || part_in_range(part, dim, c->size_width, 1, UNET_WAVES, e)
        || part_int(part, all, NULL, &into, e)
        || part_in_range(part, all, into, UNET_SIZES*c->size_width + 1, 1 << 20, e))
        return -1;
    c->P = into - UNET_SIZES*c->size_width;
    return 0;
}

/* A width below 4 has one frequency, and diffusers divides by their number less 1. */
static int read_guidance(UNetConfig *c, const Part *part, Err *e)
{
    static const char *const dim = "time_cond_proj_dim";
    const json_t *found = json_object_get(part->config, dim);
    if (!found || json_is_null(found))
        return 0;
    return part_int(part, dim, NULL, &c->guidance_width, e)
        || part_in_range(part, dim, c->guidance_width, 4, UNET_WAVES, e) ? -1 : 0;
}

int unet_config_read(UNetConfig *c, const Part *part, Err *e)
{
    static const char *const down[] = {"DownBlock2D", "CrossAttnDownBlock2D"},
        *const up[] = {"UpBlock2D", "CrossAttnUpBlock2D"};
    int out, width[UNET_LEVELS];
    *c = (UNetConfig){.levels = (int)json_array_size(json_object_get(part->config, "block_out_channels"))};
    if (c->levels < 1 || c->levels > UNET_LEVELS)
        return err_set(e, "%s/config.json: \"block_out_channels\" has %d values, expected 1 to %d", part->path,
                       c->levels, UNET_LEVELS);
    if (check_fixed(part, e)
        || read_list(part, "block_out_channels", NULL, c->levels, c->C, 1 << 20, e)
        || read_list(part, "layers_per_block", &(int){2}, c->levels, c->layers, UNET_SKIPS, e)
        || read_list(part, "attention_head_dim", &(int){8}, c->levels, c->heads, 1 << 20, e)
        || read_list(part, "transformer_layers_per_block", &(int){1}, c->levels, c->depth, UNET_DEPTH, e)
        || read_list(part, "cross_attention_dim", &(int){1280}, c->levels, width, 1 << 20, e)
        || read_types(part, "down_block_types", down, c->levels, c->down_attention, e)
        || read_types(part, "up_block_types", up, c->levels, c->up_attention, e)
        || part_int(part, "in_channels", &(int){4}, &c->in, e)
        || part_in_range(part, "in_channels", c->in, 1, 1 << 16, e)
        || part_int(part, "out_channels", &(int){4}, &out, e)
        || read_list(part, "sample_size", &(int){64}, 2, c->sample, 1 << 20, e)
        || part_in_range(part, "sample_size", c->sample[0], 1, 1 << 14, e)
        || part_in_range(part, "sample_size", c->sample[1], 1, 1 << 14, e)
        || part_int(part, "norm_num_groups", &(int){32}, &c->groups, e)
        || part_in_range(part, "norm_num_groups", c->groups, 1, 1 << 16, e)
        || part_epsilon(part, "norm_eps", &c->eps, e)
        || part_int(part, "conv_in_kernel", &(int){3}, &c->conv_in_kernel, e)
        || part_in_range(part, "conv_in_kernel", c->conv_in_kernel, 1, 31, e)
        || part_int(part, "conv_out_kernel", &(int){3}, &c->conv_out_kernel, e)
        || part_in_range(part, "conv_out_kernel", c->conv_out_kernel, 1, 31, e)
        || part_int(part, "downsample_padding", &(int){1}, &c->downsample_padding, e)
        || part_in_range(part, "downsample_padding", c->downsample_padding, 0, 1, e)
        || part_number(part, "freq_shift", &(double){0}, &c->freq_shift, e)
        || part_int(part, "time_embedding_dim", &(int){4*c->C[0]}, &c->time_width, e)
        || part_in_range(part, "time_embedding_dim", c->time_width, 1, 1 << 20, e) || read_addition(c, part, e)
        || read_guidance(c, part, e))
        return -1;
    if (out != c->in)
        return err_set(e, "%s/config.json: \"in_channels\" is %d and \"out_channels\" %d; only equal ones are "
                       "implemented", part->path, c->in, out);
    if (c->conv_in_kernel%2 == 0 || c->conv_out_kernel%2 == 0)
        return err_set(e, "%s/config.json: \"conv_in_kernel\" and \"conv_out_kernel\" must be odd", part->path);
    for (int i = 1; i < c->levels; i++)
        if (width[i] != width[0])
            return err_set(e, "%s/config.json: \"cross_attention_dim\" has several values; only equal ones are "
                           "implemented", part->path);
    int skips = 1;
    for (int i = 0; i < c->levels; i++)
        skips += c->layers[i] + 1;
    if (skips > UNET_SKIPS)
        return err_set(e, "%s/config.json: \"layers_per_block\" gives %d skip connections, at most %d are implemented",
                       part->path, skips, UNET_SKIPS);
    if (!(c->freq_shift < c->C[0]/2))
        return err_set(e, "%s/config.json: \"freq_shift\" is %g, expected less than half of %d", part->path,
                       c->freq_shift, c->C[0]);
    c->E = width[0];
    return part_bool(part, "flip_sin_to_cos", true, &c->flip_sin_to_cos, e);
}
