/* SPDX-License-Identifier: MIT */
/* clip_layers.c -- pre-norm transformer layers, as CLIP has them.
 *
 *     x += O attention(q, k, v of norm1(x))      x += W2 act(W1 norm2(x))
 *
 *   x (B*S, E) f32      q, k, v (B*S, E) each, as one product      W1 (hidden, E), W2 (E, hidden), all with biases
 *
 * act is quick_gelu (OpenAI's weights, Stable Diffusion 1) or gelu (OpenCLIP's, Stable Diffusion 2; vision
 * transformers). Sums into x run inside the products. transformers models/clip/modeling_clip.py, CLIPEncoderLayer. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/clip_layers.h"

static int read_activation(ClipLayers *c, const Part *part, Err *e)
{
    const char *name;
    if (part_text(part, "hidden_act", "quick_gelu", &name, e))
        return -1;
    if (strcmp(name, "quick_gelu") == 0)
        c->act = ACT_QUICK_GELU;
    else if (strcmp(name, "gelu") == 0)
        c->act = ACT_GELU;
    else
        return err_set(e, "%s/config.json: \"hidden_act\" is \"%s\", expected quick_gelu or gelu", part->path, name);
    return 0;
}

int clip_layers_config(ClipLayers *c, const Part *part, bool vision, Err *e)
{
    const int width = vision ? 768 : 512, hidden = vision ? 3072 : 2048, layers = 12, heads = vision ? 12 : 8;
    if (part_int(part, "hidden_size", &width, &c->E, e) || part_int(part, "intermediate_size", &hidden, &c->hidden, e)
        || part_int(part, "num_hidden_layers", &layers, &c->layers, e)
        || part_int(part, "num_attention_heads", &heads, &c->heads, e)
        || part_epsilon(part, "layer_norm_eps", &c->eps, e) || read_activation(c, part, e))
        return -1;
    if (c->E < 1 || c->E > 1 << 16 || c->hidden < 1 || c->hidden > 1 << 18 || c->layers < 1 || c->layers > 1000)
        return err_set(e, "%s/config.json: a width of %d, hidden width of %d and %d layers are not a model", part->path,
                       c->E, c->hidden, c->layers);
    if (c->heads < 1 || c->E % c->heads != 0 || c->E / c->heads > 256)
        return err_set(e, "%s/config.json: %d heads do not divide a width of %d into heads of at most 256", part->path,
                       c->heads, c->E);
    return 0;
}

static int layer_load(ClipLayer *l, const ClipLayers *c, const Part *part, const char *base, const ClipNames *names,
                      Err *e)
{
    const char *const suffix[] = {names->norm1, names->norm2, names->out, names->fc1, names->fc2,
                                  names->qkv[0], names->qkv[1], names->qkv[2]};
    const int parts = names->qkv[1] ? 3 : 1;
    char name[8][200];
    for (int i = 0; i < 5 + parts; i++)
        snprintf(name[i], sizeof name[i], "%s.%s", base, suffix[i]);
    const char *const qkv[] = {name[5], name[6], name[7]};
    const int outs[] = {3 * c->E / parts, c->E, c->E};
    ConvSpec fc1 = conv_spec(c->E, c->hidden, 1, c->type, c->type);
    fc1.act = c->act;
    return norm_load(&l->norm1, part, name[0], c->E, 0, c->eps, e)
        || norm_load(&l->norm2, part, name[1], c->E, 0, c->eps, e)
        || conv_load_stacked(&l->qkv, part, qkv, outs, parts, conv_spec(c->E, 3 * c->E, 1, c->type, c->type), BIAS, e)
        || conv_load(&l->out, part, name[2], conv_spec(c->E, c->E, 1, c->type, F32), e)
        || conv_load(&l->fc1, part, name[3], fc1, e)
        || conv_load(&l->fc2, part, name[4], conv_spec(c->hidden, c->E, 1, c->type, F32), e) ? -1 : 0;
}

int clip_layers_read(ClipLayers *c, const Part *part, const char *prefix, const ClipNames *names, Err *e)
{
    c->layer = calloc(c->layers, sizeof *c->layer);
    if (!c->layer)
        return err_set(e, "out of memory");
    for (int i = 0; i < c->layers; i++) {
        char base[160];
        snprintf(base, sizeof base, "%s.%d", prefix, i);
        if (layer_load(&c->layer[i], c, part, base, names, e))
            return -1;
    }
    return 0;
}

int clip_layers_load(ClipLayers *c, const Part *part, const char *prefix, bool vision, DType type, Err *e)
{
    static const ClipNames names = {"layer_norm1", "layer_norm2",
                                    {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, "self_attn.out_proj",
                                    "mlp.fc1", "mlp.fc2"};
    char layers[140];
    *c = (ClipLayers){.type = type};
    snprintf(layers, sizeof layers, "%s.layers", prefix);
    return clip_layers_config(c, part, vision, e) || clip_layers_read(c, part, layers, &names, e) ? -1 : 0;
}

void clip_layers_free(ClipLayers *c)
{
    for (int i = 0; c->layer && i < c->layers; i++) {
        ClipLayer *l = &c->layer[i];
        norm_free(&l->norm1);
        norm_free(&l->norm2);
        op->conv_free(l->qkv);
        op->conv_free(l->out);
        op->conv_free(l->fc1);
        op->conv_free(l->fc2);
    }
    free(c->layer);
    *c = (ClipLayers){0};
}

int clip_layers_run(const ClipLayers *c, int first, int end, float *x, int64_t B, int64_t S, bool causal,
                    Workspace *work, Err *e)
{
    const int64_t N = B * S;
    const int E = c->E, head_dim = E / c->heads;
    const size_t size = dtype_size(c->type);
    const int wide = 3 * E > c->hidden ? 3 * E : c->hidden;
    const WorkspaceMark mark = workspace_mark(work);
    char *z = workspace_take(work, N * E * size, e);
    char *h = workspace_take(work, N * wide * size, e);         /* q, k and v; then W1's */
    if (!h)
        return -1;
    for (int i = first; i < end; i++) {
        const ClipLayer *l = &c->layer[i];
        op->layer_norm(z, c->type, x, F32, l->norm1.gamma, l->norm1.beta, N, E, c->eps);
        op->conv_run(l->qkv, h, z, 1, N, 1, false);
        op->attention(z, E, h, 3 * E, h + E * size, 3 * E, h + 2 * E * size, 3 * E, c->type, B, c->heads, head_dim, S,
                      S, NULL, 1 / sqrtf((float)head_dim), causal);
        op->conv_run(l->out, x, z, 1, N, 1, true);
        op->layer_norm(z, c->type, x, F32, l->norm2.gamma, l->norm2.beta, N, E, c->eps);
        op->conv_run(l->fc1, h, z, 1, N, 1, false);
        op->conv_run(l->fc2, x, h, 1, N, 1, true);
    }
    workspace_release(work, mark);
    return 0;
}

int clip_pick_rows(const ClipLayers *c, float *y, const float *x, const int32_t *row, int64_t n, Workspace *work,
                   Err *e)
{
    const WorkspaceMark mark = workspace_mark(work);
    int32_t *ids = workspace_take(work, n * sizeof *ids, e);
    if (!ids)
        return -1;
    op->upload(ids, row, n * sizeof *ids);
    op->embed(y, x, NULL, ids, n, 1, c->E);
    workspace_release(work, mark);
    return 0;
}

int clip_projection_load(Conv **projection, const ClipLayers *c, const Part *part, const char *prefix, int P, Err *e)
{
    if (P < 1 || P > 1 << 16)
        return err_set(e, "%s/config.json: \"projection_dim\" is %d, expected 1 to %d", part->path, P, 1 << 16);
    return conv_load_stacked(projection, part, &prefix, &P, 1, conv_spec(c->E, P, 1, c->type, F32), BIAS_MAYBE, e);
}

int clip_project(const ClipLayers *c, Conv *projection, int P, float *embedding, const float *y, int64_t n,
                 Workspace *work, Err *e)
{
    const WorkspaceMark mark = workspace_mark(work);
    void *z = workspace_take(work, n * c->E * dtype_size(c->type), e);
    float *p = workspace_take(work, n * P * sizeof *p, e);
    if (!p)
        return -1;
    op->convert(z, c->type, y, F32, n * c->E);
    op->conv_run(projection, p, z, 1, n, 1, false);
    op->download(embedding, p, n * P * sizeof *p);
    workspace_release(work, mark);
    return 0;
}
