/* SPDX-License-Identifier: MIT */
/* prompt_encoder.c -- text states as StableDiffusionPipeline and StableDiffusionXLPipeline make them.
 *
 *     one encoder:   state = last_hidden_state
 *     SDXL:          state = [penultimate state of the first, that of the second]      pooled = embedding of the second
 *
 *   state (B,S,E), for SDXL E = 768 + 1280      pooled (B,P), P = 1280
 *
 * With clip_skip the state is taken as many layers earlier, of one encoder still through its final norm; of negative
 * prompts it is not, and pooled never. The tokenizers differ in what they pad with. diffusers
 * pipelines/stable_diffusion and pipelines/stable_diffusion_xl, encode_prompt. */
#include <stdlib.h>
#include <string.h>
#include "formats/fnv.h"
#include "src/models/model.h"
#include "src/models/pipeline.h"
#include "src/models/prompt_encoder.h"
#include "src/models/text_encoder.h"
#include "src/models/textual_inversion.h"

enum { CHUNK = 32 };                /* texts of SDXL encoded at once */

struct PromptEncoder {
    Pipeline pipeline;
    int count, S, E, P;             /* encoders */
    int skip;                       /* layers */
    Tokenizer *tokenizer[2];
    TextEncoder *encoder[2];
    Hooks hooks;
    json_t *words;                  /* ids of those that were learned */
    int32_t first;                  /* of the first tokenizer's ids for them */
    int *tokens;                    /* [words] that each is */
    int32_t *ids;                   /* [CHUNK][S] of one encoder */
    float *part;                    /* [CHUNK][S, E of one] */
};

static int load_one(PromptEncoder *p, int i, const char *dir, DType type, Err *e)
{
    static const char *const tokenizer[] = {"tokenizer", "tokenizer_2"},
        *const part_name[] = {"text_encoder", "text_encoder_2"};
    static const TextPart part[] = {TEXT_ENCODER, TEXT_ENCODER_2};
    if (tokenizer_load_part(&p->tokenizer[i], dir, tokenizer[i], e)
        || text_encoder_load(&p->encoder[i], dir, part[i], type, e))
        return -1;
    const int layers = text_encoder_layers(p->encoder[i]), last = p->count == 1 ? 0 : 1;
    if (p->skip > layers - last)
        return err_set(e, "%s: %d layers to skip of the %d of %s: expected %d at most", dir, p->skip, layers,
                       part_name[i], layers - last);
    const bool pools = i == 1;                          /* of all layers */
    if (text_encoder_watch(p->encoder[i], &p->hooks, part_name[i], pools ? layers : layers - last - p->skip,
                           pools || p->count == 1, e))
        return -1;
    const int S = text_encoder_length(p->encoder[i]);
    if (tokenizer_length(p->tokenizer[i]) != S)
        return err_set(e, "%s: the %s gives %d tokens, the text encoder takes %d", dir, tokenizer[i],
                       tokenizer_length(p->tokenizer[i]), S);
    if (i > 0 && S != p->S)
        return err_set(e, "%s: text_encoder takes %d tokens and text_encoder_2 %d, expected as many", dir, p->S, S);
    p->S = S;
    p->E += text_encoder_width(p->encoder[i]);
    return 0;
}

static int load_all(PromptEncoder *p, const char *dir, DType type, Err *e)
{
    int wide = 0;
    if (pipeline_read(&p->pipeline, dir, e))
        return -1;
    p->count = p->pipeline.xl ? 2 : 1;
    for (int i = 0; i < p->count; i++) {
        if (load_one(p, i, dir, type, e))
            return -1;
        const int E = text_encoder_width(p->encoder[i]);
        wide = E > wide ? E : wide;
    }
    if (p->count == 1)
        return 0;
    p->P = text_encoder_projection(p->encoder[1]);
    p->ids = malloc(sizeof *p->ids * CHUNK * p->S);
    p->part = malloc(sizeof *p->part * CHUNK * p->S * wide);
    return p->ids && p->part ? 0 : err_set(e, "out of memory for text states");
}

int prompt_encoder_load(PromptEncoder **out, const char *dir, DType type, int skip, Err *e)
{
    *out = NULL;
    PromptEncoder *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, "out of memory");
    p->skip = skip;
    p->hooks.why_few = skip ? " that prompts go through with --clip-skip" : NULL;
    if (load_all(p, dir, type, e)) {
        prompt_encoder_free(p);
        return -1;
    }
    *out = p;
    return 0;
}

void prompt_encoder_free(PromptEncoder *p)
{
    if (!p)
        return;
    for (int i = 0; i < 2; i++) {
        tokenizer_free(p->tokenizer[i]);
        text_encoder_free(p->encoder[i]);
    }
    hooks_free(&p->hooks);
    json_decref(p->words);
    free(p->tokens);
    free(p->ids);
    free(p->part);
    free(p);
}

/* What tokenizer i calls the words, whose rows go to its encoder one after another. */
static int learn_by(PromptEncoder *p, int i, const LearnedWord *word, const char *const *said, int count, Err *e)
{
    const size_t E = (size_t)text_encoder_width(p->encoder[i]);
    int32_t first = 0, id;
    int tokens = 0;
    size_t at = 0;
    for (int k = 0; k < count; k++)
        tokens += word[k].count;
    float *rows = malloc(sizeof *rows * E * (size_t)tokens);
    if (!rows)
        return err_set(e, "out of memory for %d learned tokens", tokens);
    int failed = 0;
    for (int k = 0; k < count && !failed; k++) {
        Err why = {0};
        if (tokenizer_learn(p->tokenizer[i], word[k].name, word[k].count, &id, &why))
            failed = err_set(e, "--embedding %s: %s; NAME=FILE gives another word", said[k], why.text);
        first = k ? first : id;
        memcpy(rows + at, word[k].rows[i], sizeof *rows * E * (size_t)word[k].count);
        at += E * (size_t)word[k].count;
    }
    if (i == 0)
        p->first = first;
    failed = failed || text_encoder_learn(p->encoder[i], first, tokens, rows, e) ? -1 : 0;
    free(rows);
    return failed;
}

static void list_word(PromptEncoder *p, const LearnedWord *word, const int width[2])
{
    enum { MOST = 255 };
    char id[MOST + 14];
    uint64_t hash = FNV_BASIS;
    for (int i = 0; i < p->count; i++)
        hash = fnv_bytes(hash, word->rows[i], sizeof *word->rows[i] * (size_t)word->count * (size_t)width[i]);
    folder_id(id, MOST, word->name, hash);
    json_array_append_new(p->words, json_string(id));
}

int prompt_encoder_learn(PromptEncoder *p, const char *const *said, int count, Err *e)
{
    int width[2] = {0}, failed = 0;
    if (count == 0)
        return 0;
    LearnedWord *word = calloc((size_t)count, sizeof *word);
    if (!word || !(p->tokens = malloc((size_t)count * sizeof *p->tokens))) {
        free(word);
        return err_set(e, "out of memory");
    }
    for (int i = 0; i < p->count; i++)
        width[i] = text_encoder_width(p->encoder[i]);
    for (int k = 0; k < count && !failed; k++)
        failed = learned_word_read(&word[k], said[k], p->count, width, e);
    for (int i = 0; i < p->count && !failed; i++)
        failed = learn_by(p, i, word, said, count, e);
    p->words = failed ? NULL : json_array();
    for (int k = 0; k < count; k++) {
        p->tokens[k] = word[k].count;
        if (!failed)
            list_word(p, &word[k], width);
        learned_word_clear(&word[k]);
    }
    free(word);
    return failed;
}

int prompt_encoder_word(const PromptEncoder *p, int32_t id)
{
    const int words = (int)json_array_size(p->words);
    int64_t end = p->first;
    for (int k = 0; k < words && id >= p->first; k++)
        if (id < (end += p->tokens[k]))
            return k;
    return -1;
}

json_t *prompt_encoder_words(const PromptEncoder *p)
{
    return p->words;
}

Hooks *prompt_encoder_hooks(PromptEncoder *p)
{
    return &p->hooks;
}

int prompt_encoder_length(const PromptEncoder *p)
{
    return p->S;
}

int prompt_encoder_count(const PromptEncoder *p)
{
    return p->count;
}

int prompt_encoder_width(const PromptEncoder *p)
{
    return p->E;
}

int prompt_encoder_columns(const PromptEncoder *p, int i)
{
    return text_encoder_width(p->encoder[i]);
}

int prompt_encoder_pooled(const PromptEncoder *p)
{
    return p->P;
}

bool prompt_encoder_zeros(const PromptEncoder *p)
{
    return p->pipeline.xl && p->pipeline.zeros;
}

const Tokenizer *prompt_encoder_tokenizer(const PromptEncoder *p, int i)
{
    return p->tokenizer[i];
}

/* Columns of the states from `at` on, by encoder i. */
static int encode_part(PromptEncoder *p, int i, const int32_t *ids, int64_t B, int skip, float *state, int at,
                       float *pooled, Err *e)
{
    const size_t S = p->S, E = text_encoder_width(p->encoder[i]);
    for (int64_t b = 0; b < B; b++)
        memcpy(p->ids + S*b, ids + S*(2*b + i), S * sizeof *ids);
    if (text_encode_penultimate(p->encoder[i], p->ids, B, skip, p->part, pooled, e))
        return -1;
    for (size_t n = 0; n < S*B; n++)
        memcpy(state + (size_t)p->E*n + at, p->part + E*n, E * sizeof *state);
    return 0;
}

int prompt_encode(PromptEncoder *p, const int32_t *ids, int64_t B, bool whole, float *state, float *pooled, Err *e)
{
    const int skip = whole ? 0 : p->skip;
    if (p->count == 1)
        return text_encode_skip(p->encoder[0], ids, B, skip, state, e);
    for (int64_t b = 0; b < B; b += CHUNK) {
        const int64_t n = B - b < CHUNK ? B - b : CHUNK;
        float *to = state + (size_t)p->S*p->E*b;
        if (encode_part(p, 0, ids + 2*p->S*b, n, skip, to, 0, NULL, e)
            || encode_part(p, 1, ids + 2*p->S*b, n, skip, to, text_encoder_width(p->encoder[0]), pooled + p->P*b, e))
            return -1;
    }
    return 0;
}
