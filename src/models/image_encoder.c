/* SPDX-License-Identifier: MIT */
/* image_encoder.c -- CLIP's image tower with its projection, and how it and a vision transformer are computed.
 *
 *     x = pre_norm([class; patches of pixels] + position)      layers      embedding = W_projection post_norm(x[class])
 *     logits = W_head embedding + b_head
 *
 *   pixels (B,size,size,3)   x (B,1+G*G,E), G = size/patch   embedding (B,P)   logits (B,n)
 *
 * The patch product is a convolution whose kernel is its stride. CLIP has no head; a vision transformer neither the
 * first norm nor the projection. The published name is "pre_layrnorm". transformers models/clip/modeling_clip.py,
 * CLIPVisionTransformer. */
#include <stdlib.h>
#include "src/models/image_encoder_parts.h"

static int read_sizes(ImageEncoder *t, const Part *clip, const Part *tower, Err *e)
{
    const int standard = 224, patch = 32, channels = 3, width = 512;
    int size, colours;
    if (part_int(tower, "image_size", &standard, &size, e) || part_int(tower, "patch_size", &patch, &t->patch, e)
        || part_int(tower, "num_channels", &channels, &colours, e)
        || part_int(clip, "projection_dim", &width, &t->P, e))
        return -1;
    if (colours != 3)
        return err_set(e, "%s/config.json: \"num_channels\" is %d, expected 3", clip->path, colours);
    if (t->patch < 1 || size < t->patch || size > 8192)
        return err_set(e, "%s/config.json: pictures of %d pixels in patches of %d are not a model", clip->path, size,
                       t->patch);
    const int G = size / t->patch;
    t->S = 1 + G * G;
    return image_form_load(&t->form, clip->path, size, e);
}

static int load(ImageEncoder *t, const Part *clip, DType type, Err *e)
{
    Part tower = *clip;
    tower.config = json_object_get(clip->config, "vision_config");
    if (!json_is_object(tower.config))
        return err_set(e, "%s/config.json: no \"vision_config\", so this is not a CLIPModel", clip->path);
    if (read_sizes(t, clip, &tower, e) || clip_layers_load(&t->layers, &tower, "vision_model.encoder", true, type, e))
        return -1;
    const int E = t->layers.E;
    const float eps = t->layers.eps;
    const char *const embedding = "vision_model.embeddings.patch_embedding";
    const ConvSpec patches = {.in = 3, .out = E, .kernel = t->patch, .stride = t->patch, .x_type = type, .y_type = F32};
    t->class = part_upload(clip, "vision_model.embeddings.class_embedding", 1, (const int64_t[]){E}, e);
    if (t->class)
        t->position =
            part_upload(clip, "vision_model.embeddings.position_embedding.weight", 2, (const int64_t[]){t->S, E}, e);
    if (!t->position || norm_load(&t->before, clip, "vision_model.pre_layrnorm", E, 0, eps, e)
        || norm_load(&t->after, clip, "vision_model.post_layernorm", E, 0, eps, e)
        || conv_load_stacked(&t->patches, clip, &embedding, &E, 1, patches, BIAS_MAYBE, e)
        || clip_projection_load(&t->projection, &t->layers, clip, "visual_projection", t->P, e))
        return -1;
    return 0;
}

int image_encoder_load(ImageEncoder **out, const char *dir, DType type, Err *e)
{
    Part part;
    *out = NULL;
    ImageEncoder *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, "out of memory");
    int failed = part_open(&part, dir, "clip", e);
    if (!failed) {
        failed = load(t, &part, type, e);
        part_close(&part);
    }
    if (failed)
        image_encoder_free(t);
    else
        *out = t;
    return failed;
}

void image_encoder_free(ImageEncoder *t)
{
    if (!t)
        return;
    clip_layers_free(&t->layers);
    if (t->class)
        op->free(t->class);
    if (t->position)
        op->free(t->position);
    norm_free(&t->before);
    norm_free(&t->after);
    op->conv_free(t->patches);
    op->conv_free(t->projection);
    op->conv_free(t->head);
    workspace_free(&t->work);
    free(t);
}

const ImageForm *image_encoder_form(const ImageEncoder *t)
{
    return &t->form;
}

int image_encoder_projection(const ImageEncoder *t)
{
    return t->P;
}

int image_encoder_classes(const ImageEncoder *t)
{
    return t->classes;
}

/* x (B,S,E): rows of `rows` ((B*G*G + 1, E): patches, then the class), the class first in a picture, plus position. */
static int lay_out(ImageEncoder *t, float *x, const float *rows, int64_t B, Err *e)
{
    const int64_t N = B * t->S, patches = t->S - 1;
    int32_t *ids = malloc(N * sizeof *ids), *device_ids = workspace_take(&t->work, N * sizeof *device_ids, e);
    if (!ids || !device_ids) {
        free(ids);
        return err_set(e, "out of memory for %lld pictures", (long long)B);
    }
    for (int64_t i = 0; i < N; i++) {
        const int64_t b = i / t->S, s = i % t->S;
        ids[i] = (int32_t)(s == 0 ? B * patches : b * patches + s - 1);
    }
    op->upload(device_ids, ids, N * sizeof *ids);
    free(ids);
    op->embed(x, rows, t->position, device_ids, N, t->S, t->layers.E);
    return 0;
}

/* What the normalised class tokens y (B,E) say. The head is f32 whatever the layers are: it is small. */
static int describe(ImageEncoder *t, const float *y, int64_t B, float *embedding, float *logits, Err *e)
{
    if (t->projection)
        return clip_project(&t->layers, t->projection, t->P, embedding, y, B, &t->work, e);
    op->download(embedding, y, B * t->P * sizeof *y);
    if (!t->head || !logits)
        return 0;
    float *z = workspace_take(&t->work, B * t->classes * sizeof *z, e);
    if (!z)
        return -1;
    op->conv_run(t->head, z, y, 1, B, 1, false);
    op->download(logits, z, B * t->classes * sizeof *z);
    return 0;
}

static int embed_chunk(ImageEncoder *t, const float *pixels, int64_t B, float *embedding, float *logits, Err *e)
{
    const ClipLayers *c = &t->layers;
    const int E = c->E;
    const int64_t patches = B * (t->S - 1), values = B * t->form.size * t->form.size * 3;
    int32_t class_row[CLIP_CHUNK];
    Workspace *work = &t->work;
    const void *from = workspace_upload(work, pixels, (size_t)values, c->type, e);
    float *rows = workspace_take(work, (patches + 1) * E * sizeof *rows, e);
    float *x = workspace_take(work, B * t->S * E * sizeof *x, e);
    float *y = workspace_take(work, B * E * sizeof *y, e);
    if (!y)
        return -1;
    op->conv_run(t->patches, rows, from, B, t->form.size, t->form.size, false);
    op->copy(rows + patches * E, t->class, E * sizeof *rows);
    if (lay_out(t, x, rows, B, e))
        return -1;
    if (t->before.gamma)
        op->layer_norm(x, F32, x, F32, t->before.gamma, t->before.beta, B * t->S, E, c->eps);
    for (int64_t b = 0; b < B; b++)
        class_row[b] = (int32_t)(b * t->S);
    if (clip_layers_run(c, 0, c->layers, x, B, t->S, false, work, e)
        || clip_pick_rows(c, y, x, class_row, B, work, e))
        return -1;
    op->layer_norm(y, F32, y, F32, t->after.gamma, t->after.beta, B, E, c->eps);
    return describe(t, y, B, embedding, logits, e);
}

int image_embed(ImageEncoder *t, const float *pixels, int64_t B, float *embedding, float *logits, Err *e)
{
    const size_t picture = (size_t)t->form.size * t->form.size * 3;
    int failed = 0;
    for (int64_t b = 0; b < B && !failed; b += CLIP_CHUNK) {
        const WorkspaceMark mark = workspace_mark(&t->work);
        failed = embed_chunk(t, pixels + b * picture, B - b < CLIP_CHUNK ? B - b : CLIP_CHUNK, embedding + b * t->P,
                             logits ? logits + b * t->classes : NULL, e);
        workspace_release(&t->work, mark);
        failed = failed || workspace_settle(&t->work, e) ? -1 : 0;
    }
    return failed;
}
