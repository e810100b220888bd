/* SPDX-License-Identifier: MIT */
/* text_encoder.c -- CLIPTextModel, CLIPTextModelWithProjection, and the text tower of CLIPModel with its projection.
 *
 *     x = token[ids] + position      layers with causal attention      state = final_layer_norm(x)
 *     embedding = W_projection state[end token]      penultimate = x before the last layer
 *     with layers skipped: state of x before the last ones, or penultimate as many layers earlier
 *
 *   ids (B,S) in [0, vocab)   x, state (B,S,E)   embedding (B,P)
 *
 * Tensor names with and without "text_model." in front (transformers 4 and 5). No mask of padding, as Stable Diffusion
 * and get_text_features(input_ids) call it. transformers models/clip/modeling_clip.py. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/clip_layers.h"
#include "src/models/text_encoder.h"

struct TextEncoder {
    ClipLayers layers;
    int S, vocab, P, eos;
    float *token, *position;        /* device (vocab + learned, E), (S,E) */
    int32_t first;                  /* id of the first learned token */
    int learned;
    int32_t *row;                   /* [CLIP_CHUNK*S] of the table; NULL where it is the id */
    Norm final;
    const Hooks *hooks;             /* NULL: none */
    int module, watched;            /* of layer 0 in hooks; layers that are there */
    bool norm_watched;              /* the final norm is there, behind them */
    Conv *projection;               /* NULL: none */
    Workspace work;
};

static int load(TextEncoder *t, const Part *part, const char *dot, DType type, Err *e)
{
    const int length = 77, vocab = 49408, eos = 49407;
    char encoder[32], norm[48], token[64], position[64];
    snprintf(encoder, sizeof encoder, "%sencoder", dot);
    snprintf(norm, sizeof norm, "%sfinal_layer_norm", dot);
    snprintf(token, sizeof token, "%sembeddings.token_embedding.weight", dot);
    snprintf(position, sizeof position, "%sembeddings.position_embedding.weight", dot);
    if (clip_layers_load(&t->layers, part, encoder, false, type, e)
        || part_int(part, "max_position_embeddings", &length, &t->S, e)
        || part_int(part, "vocab_size", &vocab, &t->vocab, e) || part_int(part, "eos_token_id", &eos, &t->eos, e))
        return -1;
    if (t->S < 1 || t->vocab < 1)
        return err_set(e, "%s/config.json: \"max_position_embeddings\" is %d and \"vocab_size\" %d, expected 1 at "
                       "least", part->path, t->S, t->vocab);
    const int E = t->layers.E;
    t->token = part_upload(part, token, 2, (const int64_t[]){t->vocab, E}, e);
    t->position = t->token ? part_upload(part, position, 2, (const int64_t[]){t->S, E}, e) : NULL;
    return t->position ? norm_load(&t->final, part, norm, E, 0, t->layers.eps, e) : -1;
}

/* The text encoder of a pipeline: a CLIPTextModel, or the text tower of a CLIPModel, whose config lies inside. */
static int load_part(TextEncoder *t, const Part *part, DType type, Err *e)
{
    const char *kind = json_string_value(json_object_get(part->config, "model_type"));
    if (kind && strcmp(kind, "clip_text_model") != 0 && strcmp(kind, "clip") != 0)
        return err_set(e, "%s/config.json: \"model_type\" is \"%.60s\"; only clip_text_model is implemented",
                       part->path, kind);
    if (json_is_true(json_object_get(part->config, "use_attention_mask")))
        return err_set(e, "%s/config.json: \"use_attention_mask\" is true; padding is not masked here, expected false",
                       part->path);
    Part tower = *part;
    json_t *inside = json_object_get(part->config, "text_config");
    if (json_is_object(inside))
        tower.config = inside;
    const bool named = part_find(part, "text_model.embeddings.token_embedding.weight");
    return load(t, &tower, named ? "text_model." : "", type, e);
}

static int load_projection(TextEncoder *t, const Part *part, Err *e)
{
    const int width = 512;
    if (part_int(part, "projection_dim", &width, &t->P, e))
        return -1;
    return clip_projection_load(&t->projection, &t->layers, part, "text_projection", t->P, e);
}

/* The text tower of a whole CLIP with its projection, whose width lies outside its config. */
static int load_tower(TextEncoder *t, const Part *clip, DType type, Err *e)
{
    Part tower = *clip;
    tower.config = json_object_get(clip->config, "text_config");
    if (!json_is_object(tower.config))
        return err_set(e, "%s/config.json: no \"text_config\", so this is not a CLIPModel", clip->path);
    return load(t, &tower, "text_model.", type, e) || load_projection(t, clip, e) ? -1 : 0;
}

int text_encoder_load(TextEncoder **out, const char *dir, TextPart which, DType type, Err *e)
{
    static const char *const folder[] = {"text_encoder", "clip", "text_encoder_2", "text_encoder"};
    Part part;
    *out = NULL;
    TextEncoder *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, "out of memory");
    int failed = part_open(&part, dir, folder[which], e);
    if (!failed) {
        failed = which == TEXT_CLIP ? load_tower(t, &part, type, e)
            : load_part(t, &part, type, e) || (which != TEXT_ENCODER && load_projection(t, &part, e)) ? -1 : 0;
        part_close(&part);
    }
    if (failed)
        text_encoder_free(t);
    else
        *out = t;
    return failed;
}

void text_encoder_free(TextEncoder *t)
{
    if (!t)
        return;
    clip_layers_free(&t->layers);
    if (t->token)
        op->free(t->token);
    if (t->position)
        op->free(t->position);
    free(t->row);
    norm_free(&t->final);
    op->conv_free(t->projection);
    workspace_free(&t->work);
    free(t);
}

int text_encoder_width(const TextEncoder *t)
{
    return t->layers.E;
}

int text_encoder_length(const TextEncoder *t)
{
    return t->S;
}

int text_encoder_projection(const TextEncoder *t)
{
    return t->P;
}

int text_encoder_layers(const TextEncoder *t)
{
    return t->layers.layers;
}

int text_encoder_learn(TextEncoder *t, int32_t first, int count, const float *rows, Err *e)
{
    const size_t known = sizeof *rows * (size_t)t->vocab * (size_t)t->layers.E,
        added = sizeof *rows * (size_t)count * (size_t)t->layers.E;
    float *table = op->alloc(known + added, e);
    if (!table)
        return -1;
    op->copy(table, t->token, known);
    op->upload(table + (size_t)t->vocab * (size_t)t->layers.E, rows, added);
    op->free(t->token);
    t->token = table;
    t->first = first;
    t->learned = count;
    t->row = malloc(sizeof *t->row * CLIP_CHUNK * (size_t)t->S);
    return t->row ? 0 : err_set(e, "out of memory");
}

static bool is_learned(const TextEncoder *t, int32_t id)
{
    return id >= t->first && id - t->first < t->learned;
}

/* x (B,S,E) = token[ids] + position on the device, taken from the workspace. NULL on error. */
static float *embed_ids(TextEncoder *t, const int32_t *ids, int64_t B, Err *e)
{
    const int64_t N = B * t->S;
    const int E = t->layers.E;
    for (int64_t i = 0; i < N; i++)
        if (!is_learned(t, ids[i]) && (ids[i] < 0 || ids[i] >= t->vocab)) {
            err_set(e, "token %d of a text is outside the text encoder's vocabulary of %d: whose tokenizer is it?",
                    ids[i], t->vocab);
            return NULL;
        }
    float *x = workspace_take(&t->work, N * E * sizeof *x, e);
    int32_t *device_ids = workspace_take(&t->work, N * sizeof *device_ids, e);
    if (!device_ids)
        return NULL;
    for (int64_t i = 0; i < N && t->row; i++)
        t->row[i] = is_learned(t, ids[i]) ? t->vocab + ids[i] - t->first : ids[i];
    op->upload(device_ids, t->row ? t->row : ids, N * sizeof *ids);
    op->embed(x, t->token, t->position, device_ids, N, t->S, E);
    return x;
}

/* The final norm stands behind the last layer. */
static int run_module(TextEncoder *t, int i, float *x, int64_t B, Err *e)
{
    if (i < t->layers.layers)
        return clip_layers_run(&t->layers, i, i + 1, x, B, t->S, true, &t->work, e);
    op->layer_norm(x, F32, x, F32, t->final.gamma, t->final.beta, B * t->S, t->layers.E, t->layers.eps);
    return 0;
}

/* x (B,S,E) through layers first to end - 1, and the final norm where end says so, with the hooks on the way. */
static int run_modules(TextEncoder *t, float *x, int first, int end, int64_t B, Err *e)
{
    const WorkspaceMark mark = workspace_mark(&t->work);
    const Run run = {.type = t->layers.type, .B = B, .H = 1, .W = t->S, .work = &t->work, .hooks = t->hooks};
    for (int i = first; i < end; i++) {
        const bool norm = i == t->layers.layers, there = norm ? t->norm_watched : i < t->watched;
        const int module = t->module + (norm ? t->watched : i);
        float *input = NULL;
        if ((there && run_keep_input(&run, module, x, F32, t->layers.E, &input, e)) || run_module(t, i, x, B, e)
            || (there && run_hook(&run, module, x, input, t->layers.E, e)))
            return -1;
        workspace_release(&t->work, mark);
    }
    return 0;
}

/* The end token's place: its first, or with the old configs' id 2 that of the largest id, as transformers does, which
 * takes a learned token's, too, though it has no such text's embedding there. */
static int end_place(const TextEncoder *t, const int32_t *ids)
{
    int place = 0;
    for (int s = 0; s < t->S; s++) {
        if (t->eos != 2 && ids[s] == t->eos)
            return s;
        if (t->eos == 2 && !is_learned(t, ids[s]) && ids[s] > ids[place])
            place = s;
    }
    return place;
}

/* embedding (B,P) of x (B,S,E), last_hidden_state on the device. */
static int project_end(TextEncoder *t, const int32_t *ids, const float *x, int64_t B, float *embedding, Err *e)
{
    int32_t row[CLIP_CHUNK];
    for (int64_t b = 0; b < B; b++)
        row[b] = (int32_t)(b * t->S) + end_place(t, ids + b * t->S);
    float *y = workspace_take(&t->work, B * t->layers.E * sizeof *y, e);
    return !y || clip_pick_rows(&t->layers, y, x, row, B, &t->work, e)
        || clip_project(&t->layers, t->projection, t->P, embedding, y, B, &t->work, e) ? -1 : 0;
}

/* What is computed of a chunk of texts, `skip` layers earlier, to state and embedding, of which it may want one. */
typedef int ChunkFn(TextEncoder *t, const int32_t *ids, int64_t B, int skip, float *state, float *embedding, Err *e);

static int last_chunk(TextEncoder *t, const int32_t *ids, int64_t B, int skip, float *state, float *embedding, Err *e)
{
    const int layers = t->layers.layers;
    float *x = embed_ids(t, ids, B, e);
    if (!x || run_modules(t, x, 0, layers - skip, B, e) || run_modules(t, x, layers, layers + 1, B, e))
        return -1;
    if (state)
        op->download(state, x, B * t->S * t->layers.E * sizeof *x);
    return embedding ? project_end(t, ids, x, B, embedding, e) : 0;
}

static int penultimate_chunk(TextEncoder *t, const int32_t *ids, int64_t B, int skip, float *state, float *embedding,
                             Err *e)
{
    const int layers = t->layers.layers, taken = layers - 1 - skip;
    float *x = embed_ids(t, ids, B, e);
    if (!x || run_modules(t, x, 0, taken, B, e))
        return -1;
    op->download(state, x, B * t->S * t->layers.E * sizeof *x);
    if (!embedding)
        return 0;
    return run_modules(t, x, taken, layers + 1, B, e) || project_end(t, ids, x, B, embedding, e) ? -1 : 0;
}

static int in_chunks(TextEncoder *t, const int32_t *ids, int64_t B, int skip, float *state, float *embedding,
                     ChunkFn *chunk, Err *e)
{
    const size_t size = (size_t)t->S * t->layers.E;
    int failed = 0;
    if (embedding && !t->projection)
        return err_set(e, "this text encoder has no projection; load the text tower of clip/");
    for (int64_t b = 0; b < B && !failed; b += CLIP_CHUNK) {
        const WorkspaceMark mark = workspace_mark(&t->work);
        failed = chunk(t, ids + b * t->S, B - b < CLIP_CHUNK ? B - b : CLIP_CHUNK, skip,
                       state ? state + b * size : NULL, embedding ? embedding + b * t->P : NULL, e);
        workspace_release(&t->work, mark);
        failed = failed || workspace_settle(&t->work, e) ? -1 : 0;
    }
    return failed;
}

int text_encode(TextEncoder *t, const int32_t *ids, int64_t B, float *state, Err *e)
{
    return text_encode_skip(t, ids, B, 0, state, e);
}

int text_encode_skip(TextEncoder *t, const int32_t *ids, int64_t B, int skip, float *state, Err *e)
{
    return in_chunks(t, ids, B, skip, state, NULL, last_chunk, e);
}

int text_embed(TextEncoder *t, const int32_t *ids, int64_t B, float *embedding, Err *e)
{
    return in_chunks(t, ids, B, 0, NULL, embedding, last_chunk, e);
}

int text_encode_penultimate(TextEncoder *t, const int32_t *ids, int64_t B, int skip, float *state, float *embedding,
                            Err *e)
{
    return in_chunks(t, ids, B, skip, state, embedding, penultimate_chunk, e);
}

int text_encoder_watch(TextEncoder *t, Hooks *h, const char *prefix, int layers, bool norm, Err *e)
{
    t->module = h->modules;
    for (int i = 0; i < layers; i++)
        if (hooks_add_module(h, e, "%s.text_model.encoder.layers.%d", prefix, i) < 0)
            return -1;
    if (norm && hooks_add_module(h, e, "%s.text_model.final_layer_norm", prefix) < 0)
        return -1;
    t->watched = layers;
    t->norm_watched = norm;
    t->hooks = h;
    return 0;
}
