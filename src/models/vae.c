/* SPDX-License-Identifier: MIT */
/* vae.c -- AutoencoderKL from its folder: configuration, weights, and the public calls.
 *
 * config.json gives block_out_channels, layers_per_block, norm_num_groups, latent_channels, scaling_factor,
 * shift_factor and whether quant_conv, post_quant_conv and the attention are there. Files written before diffusers 0.15
 * call the attention's layers query, key, value and proj_attn. The encoder is loaded when a picture is first encoded.
 * diffusers models/autoencoders/autoencoder_kl.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/json_file.h"
#include "src/models/pipeline.h"
#include "src/models/vae_parts.h"

/* ---- loading ---- */

static int attention_load(VaeAttention *a, const Vae *v, const char *prefix, int C, Err *e)
{
    static const char *const names[2][5] = {{"group_norm", "to_q", "to_k", "to_v", "to_out.0"},
                                            {"group_norm", "query", "key", "value", "proj_attn"}};
    char text[5][256];
    snprintf(text[0], sizeof text[0], "%s.to_q.weight", prefix);
    const char *const *chosen = names[part_find(&v->part, text[0]) == NULL];
    for (int i = 0; i < 5; i++)
        snprintf(text[i], sizeof text[i], "%s.%s", prefix, chosen[i]);
    const char *const qkv[] = {text[1], text[2], text[3]};
    return norm_load(&a->norm, &v->part, text[0], C, v->groups, 1e-6f, e)
        || conv_load_stacked(&a->qkv, &v->part, qkv, (const int[]){C, C, C}, 3,
                             conv_spec(C, 3*C, 1, v->type, v->type), BIAS, e)
        || conv_load(&a->out, &v->part, text[4], conv_spec(C, C, 1, v->type, F32), e) ? -1 : 0;
}

static int mid_load(VaeSide *s, const Vae *v, const char *side, int C, Err *e)
{
    char name[128];
    for (int j = 0; j < 2; j++) {
        snprintf(name, sizeof name, "%s.mid_block.resnets.%d", side, j);
        if (resnet_load(&s->mid[j], &v->part, name, C, C, v->groups, 1e-6f, v->type, F32, e))
            return -1;
    }
    snprintf(name, sizeof name, "%s.mid_block.attentions.0", side);
    s->has_attention = v->mid_attention;
    return v->mid_attention ? attention_load(&s->attention, v, name, C, e) : 0;
}

/* Level i of a side in the order of computation: resnets from in to C, and the convolution at its end. */
static int level_load(VaeSide *s, const Vae *v, const char *path, int i, int in, int C, int resnets, const char *sample,
                      Err *e)
{
    VaeLevel *l = &s->level[i];
    char name[160];
    l->C = C;
    l->resnet = calloc((size_t)resnets, sizeof *l->resnet);
    if (!l->resnet)
        return err_set(e, "out of memory");
    for (int j = 0; j < resnets; j++) {
        snprintf(name, sizeof name, "%s.%d.resnets.%d", path, i, j);
        l->resnets = j + 1;
        if (resnet_load(&l->resnet[j], &v->part, name, j ? C : in, C, v->groups, 1e-6f, v->type, F32, e))
            return -1;
    }
    if (i == v->levels - 1)
        return 0;
    ConvSpec spec = conv_spec(C, C, 3, v->type, F32);
    if (strcmp(sample, "downsamplers") == 0) {          /* a row and a column of zeros below and right */
        spec.stride = 2;
        spec.pad_before = 0;
    }
    snprintf(name, sizeof name, "%s.%d.%s.0.conv", path, i, sample);
    return conv_load(&l->sample, &v->part, name, spec, e);
}

static int decoder_load(Vae *v, Err *e)
{
    VaeSide *s = &v->decoder;
    const int last = v->levels - 1, c = v->latent;
    if ((v->has_post_quant && conv_load(&v->post_quant, &v->part, "post_quant_conv", conv_spec(c, c, 1, F32, F32), e))
        || conv_load(&s->conv_in, &v->part, "decoder.conv_in", conv_spec(c, v->C[last], 3, F32, F32), e)
        || mid_load(s, v, "decoder", v->C[last], e))
        return -1;
    for (int i = 0; i <= last; i++)
        if (level_load(s, v, "decoder.up_blocks", i, v->C[i ? last - i + 1 : last], v->C[last - i], v->layers + 1,
                       "upsamplers", e))
            return -1;
    return norm_load(&s->norm_out, &v->part, "decoder.conv_norm_out", v->C[0], v->groups, 1e-6f, e)
        || conv_load(&s->conv_out, &v->part, "decoder.conv_out", conv_spec(v->C[0], 3, 3, v->type, F32), e) ? -1 : 0;
}

static int encoder_load(Vae *v, Err *e)
{
    VaeSide *s = &v->encoder;
    const int last = v->levels - 1, c = v->latent;
    if (conv_load(&s->conv_in, &v->part, "encoder.conv_in", conv_spec(3, v->C[0], 3, F32, F32), e))
        return -1;
    for (int i = 0; i <= last; i++)
        if (level_load(s, v, "encoder.down_blocks", i, v->C[i ? i - 1 : 0], v->C[i], v->layers, "downsamplers", e))
            return -1;
    if (mid_load(s, v, "encoder", v->C[last], e)
        || norm_load(&s->norm_out, &v->part, "encoder.conv_norm_out", v->C[last], v->groups, 1e-6f, e)
        || conv_load(&s->conv_out, &v->part, "encoder.conv_out", conv_spec(v->C[last], 2*c, 3, v->type, F32), e))
        return -1;
    return v->has_quant ? conv_load(&v->quant, &v->part, "quant_conv", conv_spec(2*c, 2*c, 1, F32, F32), e) : 0;
}

static int check_types(const Part *part, const char *key, const char *only, int n, Err *e)
{
    const json_t *list = json_object_get(part->config, key), *one;
    size_t i;
    if (json_array_size(list) != (size_t)n)
        return err_set(e, "%s/config.json: \"%s\" has %zu values, expected %d, as \"block_out_channels\" has",
                       part->path, key, json_array_size(list), n);
    json_array_foreach(list, i, one)
        if (!json_is_string(one) || strcmp(json_string_value(one), only) != 0)
            return err_set(e, "%s/config.json: \"%s\" has a block that is not %s, the only one implemented", part->path,
                           key, only);
    return 0;
}

/* xl: of Stable Diffusion XL, whose VAE leaves f16's range, as force_upcast says. */
int vae_config_read(Vae *v, bool xl, Err *e)
{
    const Part *p = &v->part;
    const json_t *channels = json_object_get(p->config, "block_out_channels");
    const char *class;
    int in, out;
    if (part_text(p, "_class_name", "AutoencoderKL", &class, e))
        return -1;
    if (strcmp(class, "AutoencoderKL") != 0)
        return err_set(e, "%s/config.json: \"_class_name\" is %.60s; only AutoencoderKL is implemented", p->path,
                       class);
    static const char *const unread[] = {"latents_mean", "latents_std"};
    for (int i = 0; i < 2; i++) {
        const json_t *value = json_object_get(p->config, unread[i]);
        if (value && !json_is_null(value))
            return err_set(e, "%s/config.json: \"%s\" is %s; only null is implemented", p->path, unread[i],
                           json_type_text(value));
    }
    if (part_check_silu(p, e))
        return -1;
    v->levels = (int)json_array_size(channels);
    if (v->levels < 1 || v->levels > VAE_LEVELS)
        return err_set(e, "%s/config.json: \"block_out_channels\" has %d values, expected 1 to %d", p->path, v->levels,
                       VAE_LEVELS);
    for (int i = 0; i < v->levels; i++) {
        const json_int_t C = json_integer_value(json_array_get(channels, (size_t)i));
        if (C < 1 || C > 1 << 16)
            return err_set(e, "%s/config.json: \"block_out_channels\" has a value that is not a positive whole number",
                           p->path);
        v->C[i] = (int)C;
    }
    if (check_types(p, "down_block_types", "DownEncoderBlock2D", v->levels, e)
        || check_types(p, "up_block_types", "UpDecoderBlock2D", v->levels, e)
        || part_int(p, "in_channels", &(int){3}, &in, e) || part_int(p, "out_channels", &(int){3}, &out, e)
        || part_int(p, "latent_channels", &(int){4}, &v->latent, e)
        || part_int(p, "layers_per_block", &(int){1}, &v->layers, e)
        || part_int(p, "norm_num_groups", &(int){32}, &v->groups, e)
        || part_number(p, "scaling_factor", &(double){0.18215}, &v->scaling, e)
        || part_number(p, "shift_factor", &(double){0}, &v->shift, e))
        return -1;
    if (in != 3 || out != 3)
        return err_set(e, "%s/config.json: \"in_channels\" is %d and \"out_channels\" %d, expected 3", p->path, in,
                       out);
    if (v->latent < 1 || v->latent > 1024 || v->layers < 1 || v->layers > 64 || v->groups < 1
        || !(v->scaling > 0 && v->scaling < 1e9) || !(fabs(v->shift) < 1e9))
        return err_set(e, "%s/config.json: \"latent_channels\", \"layers_per_block\", \"norm_num_groups\" or "
                       "\"scaling_factor\" or \"shift_factor\" is out of range", p->path);
    bool upcast;
    if (part_bool(p, "use_quant_conv", true, &v->has_quant, e)
        || part_bool(p, "use_post_quant_conv", true, &v->has_post_quant, e)
        || part_bool(p, "mid_block_add_attention", true, &v->mid_attention, e)
        || part_bool(p, "force_upcast", true, &upcast, e))
        return -1;
    if (xl && v->type == F16 && upcast)
        v->type = F32;
    return 0;
}

int vae_cell(int *pixels, const char *dir, Err *e)
{
    char file[4200];
    snprintf(file, sizeof file, "%.4096s/vae/config.json", dir);
    *pixels = 8;
    if (access(file, F_OK))
        return 0;
    json_t *config = json_file_load(file, e);
    const size_t levels = json_array_size(json_object_get(config, "block_out_channels"));
    if (levels >= 1 && levels <= VAE_LEVELS)            /* vae_load says what is wrong with others */
        *pixels = 1 << (levels - 1);
    json_decref(config);
    return config ? 0 : -1;
}

int vae_load(Vae **out, const char *dir, DType type, Err *e)
{
    Pipeline pipeline;
    *out = NULL;
    if (pipeline_read(&pipeline, dir, e))
        return -1;
    Vae *v = calloc(1, sizeof *v);
    if (!v)
        return err_set(e, "out of memory");
    v->type = type;
    if (part_open(&v->part, dir, "vae", e) || vae_config_read(v, pipeline.xl, e) || decoder_load(v, e)) {
        vae_free(v);
        return -1;
    }
    *out = v;
    return 0;
}

static void side_free(VaeSide *s)
{
    for (int i = 0; i < VAE_LEVELS; i++) {
        for (int j = 0; j < s->level[i].resnets; j++)
            resnet_free(&s->level[i].resnet[j]);
        free(s->level[i].resnet);
        op->conv_free(s->level[i].sample);
    }
    resnet_free(&s->mid[0]);
    resnet_free(&s->mid[1]);
    norm_free(&s->attention.norm);
    op->conv_free(s->attention.qkv);
    op->conv_free(s->attention.out);
    norm_free(&s->norm_out);
    op->conv_free(s->conv_in);
    op->conv_free(s->conv_out);
}

void vae_free(Vae *v)
{
    if (!v)
        return;
    side_free(&v->encoder);
    side_free(&v->decoder);
    op->conv_free(v->quant);
    op->conv_free(v->post_quant);
    workspace_free(&v->work);
    part_close(&v->part);
    free(v);
}

int vae_load_encoder(Vae *v, Err *e)
{
    if (v->encoder.conv_in || encoder_load(v, e) == 0)
        return 0;
    side_free(&v->encoder);
    v->encoder = (VaeSide){0};
    return -1;
}

int vae_scale(const Vae *v)
{
    return 1 << (v->levels - 1);
}

int vae_channels(const Vae *v)
{
    return v->latent;
}

int vae_takes(const Vae *v, int channels, Err *e)
{
    return channels == v->latent ? 0
        : err_set(e, "%s/config.json: \"latent_channels\" is %d, the latents drawn have %d", v->part.path, v->latent,
                  channels);
}

/* ---- pictures, one at a time ---- */

int vae_decode(Vae *v, const float *latent, int64_t B, int64_t h, int64_t w, float *pixels, Err *e)
{
    const int64_t scale = vae_scale(v), n = h*w*v->latent, m = h*scale*w*scale*3;
    float *scaled = malloc((size_t)n*sizeof *scaled);
    int failed = scaled ? 0 : err_set(e, "out of memory");
    for (int64_t b = 0; b < B && !failed; b++) {
        for (int64_t i = 0; i < n; i++)
            scaled[i] = latent[b*n + i]/(float)v->scaling + (float)v->shift;
        failed = vae_decode_one(v, scaled, h, w, pixels + b*m, e);
    }
    free(scaled);
    return failed;
}

int vae_encode(Vae *v, const float *pixels, int64_t B, int64_t H, int64_t W, float *mean, float *log_variance, Err *e)
{
    const int64_t scale = vae_scale(v), n = H/scale*(W/scale), c = v->latent;
    if (H < scale || W < scale)
        return err_set(e, "a picture of %lldx%lld pixels, expected %lld at least", (long long)W, (long long)H,
                       (long long)scale);
    if (vae_load_encoder(v, e))
        return -1;
    float *moments = malloc((size_t)(n*2*c)*sizeof *moments);           /* mean and log of variance of each cell */
    int failed = moments ? 0 : err_set(e, "out of memory");
    for (int64_t b = 0; b < B && !failed; b++) {
        failed = vae_encode_one(v, pixels + b*H*W*3, H, W, moments, e);
        for (int64_t i = 0; i < n && !failed; i++) {
            memcpy(mean + (b*n + i)*c, moments + i*2*c, (size_t)c*sizeof *mean);
            if (log_variance)
                memcpy(log_variance + (b*n + i)*c, moments + (i*2 + 1)*c, (size_t)c*sizeof *mean);
        }
    }
    free(moments);
    return failed;
}

void vae_scale_latent(const Vae *v, float *latent, size_t n)
{
    for (size_t i = 0; i < n; i++)
        latent[i] = (latent[i] - (float)v->shift)*(float)v->scaling;
}

void vae_to_u8(uint8_t *image, const float *pixels, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float x = pixels[i]*0.5f + 0.5f;
        image[i] = (uint8_t)nearbyintf((x > 0 ? x < 1 ? x : 1 : 0)*255);        /* a NaN is black */
    }
}
