/* SPDX-License-Identifier: MIT */
/* image_encoder_vit.c -- a vision transformer by timm's names, its sizes from its tensors.
 *
 *     x = [cls_token; patch_embed.proj of pixels] + pos_embed      blocks      embedding = norm(x[class])      head
 *
 *   cls_token (1,1,E)   patch_embed.proj (E,3,p,p)   pos_embed (1,1+G*G,E)   blocks.I.attn.qkv (3E,E)   head (n,E)
 *
 * Layer norms add 1e-6, GELU is exact, pictures of G*p are stretched and their colours brought to -1 to 1, as for
 * vit_*_patch*_*.augreg_in21k. A tensor that this has no use for (layer scale, register tokens, a norm before the
 * blocks, ...) is refused: it would change what comes out. Dosovitskiy et al. 2020 (arXiv 2010.11929); timm
 * models/vision_transformer.py, VisionTransformer. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/weights_either.h"
#include "src/models/image_encoder_parts.h"

enum { NAME_SIZE = 160, LAYERS_MAX = 1000, HEAD_WIDTH = 64, KNOWN_WIDTH = 1024 };

typedef struct Source {
    Part part;                      /* of one file */
    Weights *w;
    char prefix[64];                /* before the names of all its tensors */
} Source;

static const char *full(const Source *s, char name[NAME_SIZE], const char *rest)
{
    snprintf(name, NAME_SIZE, "%s%s", s->prefix, rest);
    return name;
}

/* The dict in which the tensors lie, by where the class token is. */
static int find_prefix(Source *s, Err *e)
{
    static const char *const dicts[] = {"", "model_state_dict.", "state_dict.", "model."};
    static const char *const inner[] = {"", "module."};         /* torch's DataParallel */
    char name[NAME_SIZE];
    for (int d = 0; d < 4; d++)
        for (int i = 0; i < 2; i++) {
            snprintf(s->prefix, sizeof s->prefix, "%s%s", dicts[d], inner[i]);
            if (weights_has(s->w, full(s, name, "cls_token")))
                return 0;
        }
    return err_set(e, "%s: neither a judge's network (no metadata 'conv') nor a vision transformer (no tensor "
                   "cls_token, be it in model_state_dict, state_dict or model)", weights_path(s->w));
}

/* The block that a name is of, and in *rest what follows "blocks.I."; -1 when it is of none. */
static int block_of(const char *name, const char **rest)
{
    int block = -1, used = 0;
    if (sscanf(name, "blocks.%4d.%n", &block, &used) != 1 || used == 0 || block >= LAYERS_MAX)
        return -1;
    *rest = name + used;
    return block;
}

static bool is_read(const char *name)
{
    static const char *const alone[] = {"cls_token", "pos_embed"};
    static const char *const top[] = {"patch_embed.proj", "norm", "head", NULL};
    static const char *const inner[] = {"norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", NULL};
    const char *rest = name;
    for (int i = 0; i < 2; i++)
        if (strcmp(name, alone[i]) == 0)
            return true;
    for (const char *const *layer = block_of(name, &rest) >= 0 ? inner : top; *layer; layer++) {
        const size_t n = strlen(*layer);
        if (strncmp(rest, *layer, n) == 0 && (strcmp(rest + n, ".weight") == 0 || strcmp(rest + n, ".bias") == 0))
            return true;
    }
    return false;
}

/* Counts the blocks, and refuses tensors that are none of a plain vision transformer. */
static int read_names(const Source *s, ClipLayers *c, Err *e)
{
    const size_t n = strlen(s->prefix);
    for (size_t i = 0; i < weights_count(s->w); i++) {
        const char *name = weights_at(s->w, i)->name, *rest;
        if (strncmp(name, s->prefix, n) != 0)
            continue;
        if (!is_read(name + n))
            return err_set(e, "%s: tensor %s is none of a plain vision transformer, and would change what it says",
                           weights_path(s->w), name);
        const int block = block_of(name + n, &rest);
        if (block >= c->layers)
            c->layers = block + 1;
    }
    return c->layers ? 0 : err_set(e, "%s: tensor %sblocks.0.norm1.weight is missing", weights_path(s->w), s->prefix);
}

static int read_heads(const Source *s, ClipLayers *c, int heads, Err *e)
{
    if (!heads && (c->E % HEAD_WIDTH || c->E > KNOWN_WIDTH))
        return err_set(e, "%s: how many heads a width of %d has, its tensors do not say (timm's of multiples of %d up "
                       "to %d have heads of %d): give --heads", weights_path(s->w), c->E, HEAD_WIDTH, KNOWN_WIDTH,
                       HEAD_WIDTH);
    c->heads = heads ? heads : c->E / HEAD_WIDTH;
    return c->E % c->heads == 0 && c->E / c->heads <= 256 ? 0
        : err_set(e, "%s: %d heads do not divide a width of %d into heads of at most 256", weights_path(s->w), c->heads,
                  c->E);
}

static int read_sizes(ImageEncoder *t, const Source *s, int heads, Err *e)
{
    char name[NAME_SIZE];
    ClipLayers *c = &t->layers;
    const char *path = weights_path(s->w);
    const Weight *class = weights_need(s->w, full(s, name, "cls_token"), 3, (int64_t[]){1, 1, -1}, e);
    if (!class)
        return -1;
    if (class->dim[2] < 1 || class->dim[2] > 1 << 16)
        return err_set(e, "%s: a width of %lld is no model", path, (long long)class->dim[2]);
    t->P = c->E = (int)class->dim[2];
    const Weight *patch = weights_need(s->w, full(s, name, "patch_embed.proj.weight"), 4,
                                       (int64_t[]){c->E, 3, -1, -1}, e);
    const Weight *position = patch ? weights_need(s->w, full(s, name, "pos_embed"), 3, (int64_t[]){1, -1, c->E}, e)
                                   : NULL;
    const Weight *fc1 = position ? weights_need(s->w, full(s, name, "blocks.0.mlp.fc1.weight"), 2,
                                                (int64_t[]){-1, c->E}, e) : NULL;
    if (!fc1)
        return -1;
    const int64_t S = position->dim[1], p = patch->dim[2], G = (int64_t)(sqrt((double)S - 1) + 0.5);
    if (p < 1 || patch->dim[3] != p || S < 2 || G * G + 1 != S || G > 8192 || p > 8192 / G)
        return err_set(e, "%s: patches of %lld x %lld and %lld positions are no vision transformer of square pictures "
                       "up to 8192 with a class token", path, (long long)p, (long long)patch->dim[3], (long long)S);
    if (fc1->dim[0] < 1 || fc1->dim[0] > 1 << 18)
        return err_set(e, "%s: a hidden width of %lld is no model", path, (long long)fc1->dim[0]);
    c->hidden = (int)fc1->dim[0];
    t->patch = (int)p;
    t->S = (int)S;
    t->form = (ImageForm){.size = (int)(G * p), .mean = {0.5f, 0.5f, 0.5f}, .std = {0.5f, 0.5f, 0.5f},
                          .fit = FIT_STRETCH};
    return read_heads(s, c, heads, e);
}

static int read_head(ImageEncoder *t, const Source *s, Err *e)
{
    char name[NAME_SIZE];
    if (!weights_has(s->w, full(s, name, "head.weight")))
        return 0;
    const Weight *head = weights_need(s->w, name, 2, (int64_t[]){-1, t->P}, e);
    if (!head)
        return -1;
    if (head->dim[0] < 1 || head->dim[0] > 1 << 16)
        return err_set(e, "%s: tensor %s has %lld rows, expected 1 to %d", weights_path(s->w), name,
                       (long long)head->dim[0], 1 << 16);
    t->classes = (int)head->dim[0];
    return conv_load(&t->head, &s->part, full(s, name, "head"), conv_spec(t->P, t->classes, 1, F32, F32), e);
}

static int load(ImageEncoder *t, Source *s, int heads, DType type, Err *e)
{
    static const ClipNames names = {"norm1", "norm2", {"attn.qkv"}, "attn.proj", "mlp.fc1", "mlp.fc2"};
    char name[NAME_SIZE];
    ClipLayers *c = &t->layers;
    *c = (ClipLayers){.eps = 1e-6f, .act = ACT_GELU, .type = type};
    if (find_prefix(s, e) || read_names(s, c, e) || read_sizes(t, s, heads, e))
        return -1;
    const ConvSpec patches = {.in = 3, .out = c->E, .kernel = t->patch, .stride = t->patch, .x_type = type,
                              .y_type = F32};
    t->class = part_upload(&s->part, full(s, name, "cls_token"), 3, (int64_t[]){1, 1, c->E}, e);
    if (t->class)
        t->position = part_upload(&s->part, full(s, name, "pos_embed"), 3, (int64_t[]){1, t->S, c->E}, e);
    return !t->position || conv_load(&t->patches, &s->part, full(s, name, "patch_embed.proj"), patches, e)
        || clip_layers_read(c, &s->part, full(s, name, "blocks"), &names, e)
        || norm_load(&t->after, &s->part, full(s, name, "norm"), c->E, 0, c->eps, e) || read_head(t, s, e) ? -1 : 0;
}

int image_encoder_open(ImageEncoder **out, const char *path, int heads, DType type, Err *e)
{
    Source s = {0};
    *out = NULL;
    ImageEncoder *t = calloc(1, sizeof *t);
    int failed = t ? weights_open_either(&s.w, path, e) : err_set(e, "out of memory");
    if (!failed) {
        snprintf(s.part.path, sizeof s.part.path, "%s", path);
        s.part.files = &s.w;
        s.part.count = 1;
        failed = load(t, &s, heads, type, e);
    }
    weights_close(s.w);
    if (failed)
        image_encoder_free(t);
    else
        *out = t;
    return failed;
}
