/* SPDX-License-Identifier: MIT */
/* mmdit_load.c -- builds Stable Diffusion 3's transformer from its folder, and the path of every module.
 *
 *   norm1.linear, norm1_context.linear   D -> 6D each: shift, scale and gate of attention, then those of ff; with an
 *                                        attn2 three more for it; of the last block's text a scale and a shift
 *   attn      q, k and v of the image and, by other weights, of the text      ff, ff_context      D -> 4D -> D
 *
 * What is told of t and the pooled embedding sees one row an image and stays in f32, but for the blocks' modulations,
 * which are a third of all weights. diffusers models/transformers/transformer_sd3.py, models/attention.py
 * (JointTransformerBlock), models/normalization.py. */
#include <stdio.h>
#include <stdlib.h>
#include "src/models/mmdit_parts.h"

enum { NAME_SIZE = 96, OF_SIDE = 6, OF_DUAL = 9, OF_LAST = 2 };       /* rows of modulation */

static const struct SideNames {
    const char *q[1], *kv[2], *out[1], *ff1[1], *ff2[1], *norm_q, *norm_k;
} image_names = {{"attn.to_q"}, {"attn.to_k", "attn.to_v"}, {"attn.to_out.0"}, {"ff.net.0.proj"}, {"ff.net.2"},
                 "attn.norm_q", "attn.norm_k"},
  text_names = {{"attn.add_q_proj"}, {"attn.add_k_proj", "attn.add_v_proj"}, {"attn.to_add_out"},
                {"ff_context.net.0.proj"}, {"ff_context.net.2"}, "attn.norm_added_q", "attn.norm_added_k"};

/* The weight of a norm of q or k, where the model has them. */
static int load_gamma(const MMDiT *m, float **gamma, const char *prefix, const char *suffix, Err *e)
{
    const int64_t dim[1] = {m->config.head_dim};
    char name[NAME_SIZE];
    if (!m->config.qk_norm)
        return 0;
    snprintf(name, sizeof name, "%s.%s.weight", prefix, suffix);
    return (*gamma = part_upload(&m->part, name, 1, dim, e)) ? 0 : -1;
}

static int load_side(const MMDiT *m, MMDiTSide *s, const char *prefix, const struct SideNames *names, bool kv_alone,
                     Err *e)
{
    const Part *part = &m->part;
    const int D = m->config.D, one[] = {D, D}, wide = 4*D;
    const ConvSpec product = conv_spec(D, 0, 1, m->type, m->type), sum = conv_spec(D, 0, 1, m->type, F32);
    const ConvSpec last = conv_spec(wide, 0, 1, m->type, F32);
    ConvSpec first = product;
    first.act = ACT_GELU_TANH;
    if (linear_load(&s->kv, part, prefix, names->kv, one, 2, product, BIAS, e)
        || load_gamma(m, &s->gamma_k, prefix, names->norm_k, e))
        return -1;
    if (kv_alone)
        return 0;
    return linear_load(&s->q, part, prefix, names->q, one, 1, product, BIAS, e)
        || load_gamma(m, &s->gamma_q, prefix, names->norm_q, e)
        || linear_load(&s->out, part, prefix, names->out, one, 1, sum, BIAS, e)
        || linear_load(&s->ff1, part, prefix, names->ff1, &wide, 1, first, BIAS, e)
        || linear_load(&s->ff2, part, prefix, names->ff2, one, 1, last, BIAS, e) ? -1 : 0;
}

static int load_dual(const MMDiT *m, MMDiTBlock *b, const char *prefix, Err *e)
{
    static const char *const qkv[] = {"attn2.to_q", "attn2.to_k", "attn2.to_v"}, *const out[] = {"attn2.to_out.0"};
    const int D = m->config.D, three[] = {D, D, D};
    return linear_load(&b->qkv2, &m->part, prefix, qkv, three, 3, conv_spec(D, 0, 1, m->type, m->type), BIAS, e)
        || load_gamma(m, &b->gamma_q2, prefix, "attn2.norm_q", e)
        || load_gamma(m, &b->gamma_k2, prefix, "attn2.norm_k", e)
        || linear_load(&b->out2, &m->part, prefix, out, three, 1, conv_spec(D, 0, 1, m->type, F32), BIAS, e) ? -1 : 0;
}

/* A layer that sees a row an image: the guided pair's, or a few more. */
static ConvSpec told_spec(int in, int out, DType x_type)
{
    ConvSpec spec = conv_spec(in, out, 1, x_type, F32);
    spec.rows = 2;
    return spec;
}

static int load_block(MMDiT *m, int i, Err *e)
{
    static const char *const norms[] = {"norm1.linear", "norm1_context.linear"};
    const MMDiTConfig *c = &m->config;
    const bool last = i == c->layers - 1;
    MMDiTBlock *b = &m->block[i];
    char prefix[NAME_SIZE/2];
    snprintf(prefix, sizeof prefix, "transformer_blocks.%d", i);
    b->text_at = c->dual[i] ? OF_DUAL : OF_SIDE;
    const int out[] = {b->text_at*c->D, (last ? OF_LAST : OF_SIDE)*c->D};
    b->width = out[0] + out[1];
    if (linear_load(&b->modulation, &m->part, prefix, norms, out, 2, told_spec(c->D, 0, m->type), BIAS, e)
        || load_side(m, &b->image, prefix, &image_names, false, e)
        || load_side(m, &b->text, prefix, &text_names, last, e) || (c->dual[i] && load_dual(m, b, prefix, e)))
        return -1;
    return (b->module = hooks_add_module(&m->hooks, e, "%s", prefix)) < 0
        || (b->module_attn = hooks_add_module(&m->hooks, e, "%s.attn", prefix)) < 0
        || (c->dual[i] && (b->module_attn2 = hooks_add_module(&m->hooks, e, "%s.attn2", prefix)) < 0)
        || (b->module_ff = hooks_add_module(&m->hooks, e, "%s.ff", prefix)) < 0 ? -1 : 0;
}

static int load_embeddings(MMDiT *m, Err *e)
{
    const MMDiTConfig *c = &m->config;
    const Part *part = &m->part;
    const int64_t dim[3] = {1, (int64_t)c->most*c->most, c->D};
    ConvSpec patches = conv_spec(c->C, c->D, c->patch, F32, F32);       /* too few channels to be worth converting */
    ConvSpec waves = told_spec(MMDIT_WAVES, c->D, F32), pooled = told_spec(c->P, c->D, F32);
    const ConvSpec second = told_spec(c->D, c->D, F32);
    patches.stride = c->patch;
    patches.pad_before = patches.pad_after = 0;
    waves.act = pooled.act = ACT_SILU;
    return conv_load(&m->patches, part, "pos_embed.proj", patches, e)
        || !(m->positions = part_need(part, "pos_embed.pos_embed", 3, dim, e))
        || conv_load(&m->time1, part, "time_text_embed.timestep_embedder.linear_1", waves, e)
        || conv_load(&m->time2, part, "time_text_embed.timestep_embedder.linear_2", second, e)
        || conv_load(&m->pooled1, part, "time_text_embed.text_embedder.linear_1", pooled, e)
        || conv_load(&m->pooled2, part, "time_text_embed.text_embedder.linear_2", second, e)
        || conv_load(&m->context, part, "context_embedder", conv_spec(c->E, c->D, 1, m->type, F32), e) ? -1 : 0;
}

static int build(MMDiT *m, Err *e)
{
    const MMDiTConfig *c = &m->config;
    if (load_embeddings(m, e))
        return -1;
    m->block = calloc((size_t)c->layers, sizeof *m->block);
    if (!m->block)
        return err_set(e, "out of memory");
    for (int i = 0; i < c->layers; i++)
        if (load_block(m, i, e))
            return -1;
    return conv_load(&m->norm_out, &m->part, "norm_out.linear", told_spec(c->D, 2*c->D, m->type), e)
        || conv_load(&m->proj_out, &m->part, "proj_out", conv_spec(c->D, c->patch*c->patch*c->C, 1, m->type, F32), e)
        || !(m->waves = op->alloc(MMDIT_WAVES*sizeof *m->waves, e)) ? -1 : 0;
}

int mmdit_load(MMDiT **out, const char *dir, DType type, Err *e)
{
    *out = NULL;
    MMDiT *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(e, "out of memory");
    m->type = type;
    if (part_open(&m->part, dir, "transformer", e) || mmdit_config_read(&m->config, &m->part, e) || build(m, e)) {
        mmdit_free(m);
        return -1;
    }
    *out = m;
    return 0;
}

static void free_side(const MMDiTSide *s)
{
    Conv *const conv[] = {s->q, s->kv, s->out, s->ff1, s->ff2};
    for (size_t i = 0; i < sizeof conv/sizeof *conv; i++)
        op->conv_free(conv[i]);
}

void mmdit_free(MMDiT *m)
{
    if (!m)
        return;
    tapes_free(&m->tapes);
    for (int i = 0; m->block && i < m->config.layers; i++) {
        const MMDiTBlock *b = &m->block[i];
        float *const gamma[] = {b->image.gamma_q, b->image.gamma_k, b->text.gamma_q, b->text.gamma_k, b->gamma_q2,
                                b->gamma_k2};
        for (size_t k = 0; k < sizeof gamma/sizeof *gamma; k++)
            if (gamma[k])
                op->free(gamma[k]);
        free_side(&b->image);
        free_side(&b->text);
        op->conv_free(b->modulation);
        op->conv_free(b->qkv2);
        op->conv_free(b->out2);
    }
    free(m->block);
    Conv *const conv[] = {m->patches, m->time1, m->time2, m->pooled1, m->pooled2, m->context, m->norm_out, m->proj_out};
    for (size_t i = 0; i < sizeof conv/sizeof *conv; i++)
        op->conv_free(conv[i]);
    void *const device[] = {m->position, m->state, m->state_rows, m->pooled, m->pooled_rows, m->waves};
    for (size_t i = 0; i < sizeof device/sizeof *device; i++)
        if (device[i])
            op->free(device[i]);
    workspace_free(&m->work);
    hooks_free(&m->hooks);
    part_close(&m->part);
    free(m);
}

int mmdit_channels(const MMDiT *m)
{
    return m->config.C;
}

void mmdit_sample_size(const MMDiT *m, int *height, int *width)
{
    *height = *width = m->config.sample;
}

int mmdit_check_size(const MMDiT *m, int64_t height, int64_t width, Err *e)
{
    const int p = m->config.patch, most = m->config.most*p;
    if (height%p == 0 && width%p == 0 && height <= most && width <= most)
        return 0;
    return err_set(e, "a latent of %lld x %lld: the transformer takes sides that are multiples of %d (\"patch_size\"), "
                   "to %d (\"pos_embed_max_size\" times that)", (long long)height, (long long)width, p, most);
}

int mmdit_text_width(const MMDiT *m)
{
    return m->config.E;
}

int mmdit_pooled_width(const MMDiT *m)
{
    return m->config.P;
}

Hooks *mmdit_hooks(MMDiT *m)
{
    return &m->hooks;
}

const char *mmdit_usual_hook(const MMDiT *m)
{
    return m->hooks.module[m->block[m->config.layers/2].module];
}
