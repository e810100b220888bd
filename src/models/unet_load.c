/* SPDX-License-Identifier: MIT */
/* unet_load.c -- builds the UNet from its folder: levels, their parts, and the path of every module.
 *
 *   down_blocks.I   layers resnets C[I-1] -> C[I], transformers, a convolution of stride 2 (all but the last)
 *   mid_block       resnet, transformer, resnet of C[last]
 *   up_blocks.I     of level L = last - I: layers + 1 resnets on the stream joined with a skip, transformers,
 *                   upsampling (all but the last)
 *
 * diffusers models/unets/unet_2d_condition.py, unet_2d_blocks.py. */
#include <stdio.h>
#include <stdlib.h>
#include "src/models/unet_parts.h"

typedef struct Plan {               /* a level before it is built */
    const char *path;
    int in, C, heads, depth;        /* depth 0: no transformers */
    int resnets, attentions;
    const int *skip;                /* [resnets] channels joined before each resnet, NULL: none */
} Plan;

static int add_resnet(UNet *u, UNetLevel *l, const Part *part, const Plan *p, int j, Err *e)
{
    char name[128];
    const int in = (j ? p->C : p->in) + (p->skip ? p->skip[j] : 0);
    Resnet *n = &l->resnet[j];
    snprintf(name, sizeof name, "%s.resnets.%d", p->path, j);
    l->resnets = j + 1;
    if (resnet_load(n, part, name, in, p->C, u->config.groups, u->config.eps, u->type, u->residual, e)
        || (n->module = hooks_add_module(&u->hooks, e, "%s", name)) < 0)
        return -1;
    n->temb = u->temb;
    u->temb += p->C;
    return 0;
}

static int add_transformer(UNet *u, UNetLevel *l, const Part *part, const Plan *p, int j, Err *e)
{
    char name[128];
    Transformer *t = &l->attention[j];
    snprintf(name, sizeof name, "%s.attentions.%d", p->path, j);
    l->attentions = j + 1;
    if (transformer_load(t, part, name, p->C, p->heads, p->depth, u->config.E, u->config.groups, u->type, u->residual,
                         e)
        || (t->module = hooks_add_module(&u->hooks, e, "%s", name)) < 0)
        return -1;
    for (int k = 0; k < p->depth; k++) {
        TransformerBlock *b = &t->block[k];
        const int first = hooks_add_module(&u->hooks, e, "%s.transformer_blocks.%d", name, k);
        if (first < 0 || hooks_add_module(&u->hooks, e, "%s.transformer_blocks.%d.attn1", name, k) < 0
            || hooks_add_module(&u->hooks, e, "%s.transformer_blocks.%d.attn2", name, k) < 0
            || hooks_add_module(&u->hooks, e, "%s.transformer_blocks.%d.ff", name, k) < 0)
            return -1;
        b->module = first;
        b->module_attn1 = first + 1;
        b->module_attn2 = first + 2;
        b->module_ff = first + 3;
    }
    return 0;
}

static int level_build(UNet *u, UNetLevel *l, const Part *part, const Plan *p, Err *e)
{
    l->C = p->C;
    l->module_sample = -1;
    l->resnet = calloc((size_t)p->resnets, sizeof *l->resnet);
    l->attention = p->depth ? calloc((size_t)p->attentions, sizeof *l->attention) : NULL;
    if (!l->resnet || (p->depth && !l->attention))
        return err_set(e, "out of memory");
    if ((l->module = hooks_add_module(&u->hooks, e, "%s", p->path)) < 0)
        return -1;
    for (int j = 0; j < p->resnets; j++)
        if (add_resnet(u, l, part, p, j, e) || (p->depth && j < p->attentions && add_transformer(u, l, part, p, j, e)))
            return -1;
    return 0;
}

/* The convolution that ends a level: PATH.KIND.0.conv. */
static int add_sample(UNet *u, UNetLevel *l, const Part *part, const char *path, const char *kind, ConvSpec spec,
                      Err *e)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s.0.conv", path, kind);
    if (conv_load(&l->sample, part, name, spec, e))
        return -1;
    l->module_sample = hooks_add_module(&u->hooks, e, "%s.%s.0", path, kind);
    return l->module_sample < 0 ? -1 : 0;
}

static int build_down(UNet *u, const Part *part, int i, Err *e)
{
    const UNetConfig *c = &u->config;
    char path[64];
    snprintf(path, sizeof path, "down_blocks.%d", i);
    const Plan p = {.path = path, .in = c->C[i ? i - 1 : 0], .C = c->C[i], .heads = c->heads[i],
                    .depth = c->down_attention[i] ? c->depth[i] : 0, .resnets = c->layers[i],
                    .attentions = c->layers[i]};
    if (level_build(u, &u->down[i], part, &p, e))
        return -1;
    if (i == c->levels - 1)
        return 0;
    ConvSpec spec = conv_spec(p.C, p.C, 3, type_as_is(u->type, u->residual), u->residual);
    spec.stride = 2;
    spec.pad_before = c->downsample_padding;            /* padding 0 stands for a row and a column below and right */
    return add_sample(u, &u->down[i], part, path, "downsamplers", spec, e);
}

static int build_mid(UNet *u, const Part *part, Err *e)
{
    const UNetConfig *c = &u->config;
    const int last = c->levels - 1;
    const Plan p = {.path = "mid_block", .in = c->C[last], .C = c->C[last], .heads = c->heads[last],
                    .depth = c->depth[last], .resnets = 2, .attentions = 1};
    return level_build(u, &u->mid, part, &p, e);
}

static int build_up(UNet *u, const Part *part, int i, Err *e)
{
    const UNetConfig *c = &u->config;
    const int level = c->levels - 1 - i, resnets = c->layers[level] + 1;
    int skip[UNET_SKIPS];                               /* the level's own, then what entered it */
    for (int j = 0; j < resnets; j++)
        skip[j] = c->C[j < resnets - 1 || level == 0 ? level : level - 1];
    char path[64];
    snprintf(path, sizeof path, "up_blocks.%d", i);
    const Plan p = {.path = path, .in = c->C[i ? level + 1 : level], .C = c->C[level], .heads = c->heads[level],
                    .depth = c->up_attention[i] ? c->depth[level] : 0, .resnets = resnets, .attentions = resnets,
                    .skip = skip};
    if (level_build(u, &u->up[i], part, &p, e))
        return -1;
    const ConvSpec spec = conv_spec(p.C, p.C, 3, type_as_is(u->type, u->residual), u->residual);
    return level == 0 ? 0 : add_sample(u, &u->up[i], part, path, "upsamplers", spec, e);
}

static UNetLevel *level_at(UNet *u, int i)              /* in the order of computation; NULL at the end */
{
    const int n = u->config.levels;
    return i < n ? &u->down[i] : i == n ? &u->mid : i <= 2*n ? &u->up[i - n - 1] : NULL;
}

static int common_divisor(int a, int b)
{
    return b ? common_divisor(b, a%b) : a;
}

/* Projections of the time embedding for all resnets as one layer, in the order of their offsets. They and the layers
 * before them see one row an evaluation, or one a text, and stay in f32. */
static int build_time(UNet *u, const Part *part, Err *e)
{
    const UNetConfig *c = &u->config;
    static const char *const side[] = {"down_blocks", "mid_block", "up_blocks"};
    char text[UNET_SKIPS*2][64];
    const char *name[UNET_SKIPS*2];
    int *const out = u->resnet_C, parts = 0;
    UNetLevel *l;
    for (int i = 0; (l = level_at(u, i)); i++)
        for (int j = 0; j < l->resnets; j++, parts++) {
            if (l == &u->mid)
                snprintf(text[parts], sizeof text[0], "mid_block.resnets.%d.time_emb_proj", j);
            else
                snprintf(text[parts], sizeof text[0], "%s.%d.resnets.%d.time_emb_proj", side[i < c->levels ? 0 : 2],
                         i < c->levels ? i : i - c->levels - 1, j);
            name[parts] = text[parts];
            out[parts] = l->C;
        }
    u->resnets = parts;
    u->piece = u->temb;
    for (int i = 0; i < parts; i++)
        u->piece = common_divisor(u->piece, out[i]);
    ConvSpec first = conv_spec(c->C[0], c->time_width, 1, F32, F32);
    ConvSpec second = conv_spec(c->time_width, c->time_width, 1, F32, F32);
    ConvSpec all = conv_spec(c->time_width, u->temb, 1, F32, F32);
    first.rows = second.rows = all.rows = 1;
    first.act = ACT_SILU;
    if (c->P) {
        ConvSpec into = conv_spec(c->P + UNET_SIZES*c->size_width, c->time_width, 1, F32, F32);
        into.rows = 2;
        into.act = ACT_SILU;
        if (conv_load(&u->added1, part, "add_embedding.linear_1", into, e)
            || conv_load(&u->added2, part, "add_embedding.linear_2", second, e))
            return -1;
    } else {
        second.act = ACT_SILU;      /* each resnet takes silu of the embedding: done once, here, or of the sum */
    }
    if (c->guidance_width
        && conv_load_stacked(&u->guidance_proj, part, (const char *[]){"time_embedding.cond_proj"}, c->C, 1,
                             conv_spec(c->guidance_width, c->C[0], 1, F32, F32), BIAS_MAYBE, e))
        return -1;
    return conv_load(&u->time1, part, "time_embedding.linear_1", first, e)
        || conv_load(&u->time2, part, "time_embedding.linear_2", second, e)
        || conv_load_stacked(&u->time_proj, part, name, out, parts, all, BIAS, e) ? -1 : 0;
}

static int build(UNet *u, const Part *part, Err *e)
{
    const UNetConfig *c = &u->config;
    if ((u->module_conv_in = hooks_add_module(&u->hooks, e, "conv_in")) < 0
        || conv_load(&u->conv_in, part, "conv_in", conv_spec(c->in, c->C[0], c->conv_in_kernel, F32, u->residual), e))
        /* conv_in reads the f32 latent: too few channels to be worth converting */
        return -1;
    for (int i = 0; i < c->levels; i++)
        if (build_down(u, part, i, e))
            return -1;
    if (build_mid(u, part, e))
        return -1;
    for (int i = 0; i < c->levels; i++)
        if (build_up(u, part, i, e))
            return -1;
    if (build_time(u, part, e) || norm_load(&u->norm_out, part, "conv_norm_out", c->C[0], c->groups, c->eps, e)
        || conv_load(&u->conv_out, part, "conv_out", conv_spec(c->C[0], c->in, c->conv_out_kernel, u->type, F32), e))
        return -1;
    return (u->module_conv_out = hooks_add_module(&u->hooks, e, "conv_out")) < 0 ? -1 : 0;
}

int unet_load(UNet **out, const char *dir, DType type, DType residual, Err *e)
{
    Part part;
    *out = NULL;
    if (part_open(&part, dir, "unet", e))
        return -1;
    UNet *u = calloc(1, sizeof *u);
    int failed = u ? 0 : err_set(e, "out of memory");
    if (u) {
        u->type = type;
        u->residual = type == F32 ? F32 : residual;
        failed = unet_config_read(&u->config, &part, e) || build(u, &part, e);
    }
    part_close(&part);
    if (failed)
        unet_free(u);
    else
        *out = u;
    return failed ? -1 : 0;
}

void unet_free(UNet *u)
{
    UNetLevel *l;
    if (!u)
        return;
    tapes_free(&u->tapes);              /* they play on what follows */
    for (int i = 0; (l = level_at(u, i)); i++) {
        for (int j = 0; j < l->resnets; j++)
            resnet_free(&l->resnet[j]);
        for (int j = 0; j < l->attentions; j++)
            transformer_free(&l->attention[j]);
        op->conv_free(l->sample);
        free(l->resnet);
        free(l->attention);
    }
    Conv *conv[] = {u->conv_in, u->conv_out, u->time1, u->time2, u->time_proj, u->added1, u->added2,
                    u->guidance_proj};
    for (size_t i = 0; i < sizeof conv/sizeof *conv; i++)
        op->conv_free(conv[i]);
    norm_free(&u->norm_out);
    void *device[] = {u->waves, u->kv, u->kv_index, u->shift_rows, u->added, u->added_rows};
    for (size_t i = 0; i < sizeof device/sizeof *device; i++)
        if (device[i])
            op->free(device[i]);
    workspace_free(&u->work);
    hooks_free(&u->hooks);
    free(u->guidance);
    free(u);
}

int unet_channels(const UNet *u)
{
    return u->config.in;
}

void unet_sample_size(const UNet *u, int *height, int *width)
{
    *height = u->config.sample[0];
    *width = u->config.sample[1];
}

int unet_text_width(const UNet *u)
{
    return u->config.E;
}

int unet_pooled_width(const UNet *u)
{
    return u->config.P;
}

bool unet_takes_guidance(const UNet *u)
{
    return u->guidance_proj != NULL;
}

Hooks *unet_hooks(UNet *u)
{
    return &u->hooks;
}

int unet_each_block(UNet *u, int (*fn)(void *context, const Transformer *t, TransformerBlock *b), void *context)
{
    UNetLevel *l;
    for (int i = 0; (l = level_at(u, i)); i++)
        for (int j = 0; j < l->attentions; j++)
            for (int k = 0; k < l->attention[j].layers; k++)
                if (fn(context, &l->attention[j], &l->attention[j].block[k]))
                    return -1;
    return 0;
}
