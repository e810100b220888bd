/* SPDX-License-Identifier: MIT */
/* prompt_encoder.c -- text states as StableDiffusionPipeline, StableDiffusionXLPipeline and StableDiffusion3Pipeline
 * make them.
 *
 *     one encoder:   state = last_hidden_state
 *     SDXL:          state = [penultimate state of the first, that of the second]      pooled = embedding of the second
 *     SD3:           state = [those two, zeros]      pooled = [embedding of the first, that of the second]
 *                            [last_hidden_state of T5]
 *
 *   state (B,R,E), for SDXL E = 768 + 1280, for SD3 4096, R = 77 + 256      pooled (B,P), P = 1280, for SD3 768 + 1280
 *
 * Where SD3's T5 is left out its rows are zeros, as wide as the transformer takes them. With clip_skip the state is
 * taken as many layers of CLIP's encoders earlier, of one encoder still through its final norm; of negative prompts it
 * is not, and pooled never. The tokenizers differ in what they pad with. diffusers pipelines/stable_diffusion,
 * stable_diffusion_xl and stable_diffusion_3, encode_prompt. */
#include <stdlib.h>
#include <string.h>
#include "formats/affix.h"
#include "formats/fnv.h"
#include "src/models/model.h"
#include "src/models/pipeline.h"
#include "src/models/prompt_encoder.h"
#include "src/models/t5_encoder.h"
#include "src/models/text_encoder.h"
#include "src/models/textual_inversion.h"
#include "src/models/unigram.h"

enum { CHUNK = 32, T5_CHUNK = 8 };  /* texts encoded at once by the two of CLIP, and with T5 */

struct PromptEncoder {
    Pipeline pipeline;
    int count, S, I, R, E, P;       /* of CLIP */
    int T;                          /* rows of T5 */
    int skip;                       /* layers */
    Tokenizer *tokenizer[2];
    TextEncoder *encoder[2];
    Unigram *unigram;               /* NULL: T5 is left out */
    T5Encoder *t5;
    Hooks hooks;
    json_t *words;                  /* ids of those that were learned */
    int32_t first;                  /* of the first tokenizer's ids for them */
    int *tokens;                    /* [words] that each is */
    int32_t *ids;                   /* [CHUNK][S] of one encoder, or [T5_CHUNK][T] */
    float *part, *embedding;        /* [CHUNK][S, E of one] or [T5_CHUNK][T, E], [CHUNK][P] */
};

static int load_one(PromptEncoder *p, int i, const char *dir, DType type, Err *e)
{
    static const char *const tokenizer[] = {"tokenizer", "tokenizer_2"},
        *const part_name[] = {"text_encoder", "text_encoder_2"};
    const TextPart part = i == 1 ? TEXT_ENCODER_2 : p->pipeline.sd3 ? TEXT_ENCODER_PROJECTED : TEXT_ENCODER;
    if (tokenizer_load_part(&p->tokenizer[i], dir, tokenizer[i], e)
        || text_encoder_load(&p->encoder[i], dir, part, type, e))
        return -1;
    const int layers = text_encoder_layers(p->encoder[i]), last = p->count == 1 ? 0 : 1;
    if (p->skip > layers - last)
        return err_set(e, "%s: %d layers to skip of the %d of %s: expected %d at most", dir, p->skip, layers,
                       part_name[i], layers - last);
    const bool pools = text_encoder_projection(p->encoder[i]) > 0;          /* of all layers */
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
    p->P += text_encoder_projection(p->encoder[i]);
    return 0;
}

/* E of the rows of a T5 that is not there. */
static int read_text_width(int *E, const char *dir, Err *e)
{
    enum { USUAL = 4096, MOST = 1 << 16 };
    Part transformer;
    int failed = part_open_config(&transformer, dir, "transformer", e)
              || part_int(&transformer, "joint_attention_dim", &(int){USUAL}, E, e) ? -1 : 0;
    if (!failed && (*E < 1 || *E > MOST))
        failed = err_set(e, "%s/config.json: \"joint_attention_dim\" is %d, expected 1 to %d", transformer.path, *E,
                         MOST);
    part_close(&transformer);
    return failed;
}

/* Tokens of a text that T5 takes: it, or zeros in its place. */
static int load_t5(PromptEncoder *p, const char *dir, DType type, int tokens, Err *e)
{
    const int clip = p->E;
    p->T = tokens;
    if (!p->pipeline.t5 && read_text_width(&p->E, dir, e))
        return -1;
    if (p->pipeline.t5) {
        if (unigram_load(&p->unigram, dir, "tokenizer_3", e)
            || t5_encoder_load(&p->t5, dir, "text_encoder_3", type, e)
            || t5_encoder_watch(p->t5, &p->hooks, "text_encoder_3", e))
            return -1;
        p->E = t5_encoder_width(p->t5);
    }
    return p->E >= clip ? 0 : err_set(e, "%s: states of text_encoder and text_encoder_2 are %d wide together, those of "
                                      "T5 %d, expected as many or more", dir, clip, p->E);
}

static size_t more(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int load_all(PromptEncoder *p, const char *dir, DType type, int t5, Err *e)
{
    size_t wide = 0;
    if (pipeline_read(&p->pipeline, dir, e))
        return -1;
    p->count = p->pipeline.xl || p->pipeline.sd3 ? 2 : 1;
    for (int i = 0; i < p->count; i++) {
        if (load_one(p, i, dir, type, e))
            return -1;
        wide = more(wide, (size_t)text_encoder_width(p->encoder[i]));
    }
    if (p->pipeline.sd3 && load_t5(p, dir, type, t5, e))
        return -1;
    const size_t S = (size_t)p->S, T = p->t5 ? (size_t)p->T : 0;
    p->I = p->count*p->S + (int)T;
    p->R = p->S + p->T;
    if (p->count == 1)
        return 0;
    p->ids = malloc(sizeof *p->ids*more(CHUNK*S, T5_CHUNK*T));
    p->part = malloc(sizeof *p->part*more(CHUNK*S*wide, T5_CHUNK*T*(size_t)p->E));
    p->embedding = malloc(sizeof *p->embedding*CHUNK*(size_t)p->P);
    return p->ids && p->part && p->embedding ? 0 : err_set(e, "out of memory for text states");
}

int prompt_encoder_load(PromptEncoder **out, const char *dir, DType type, int skip, int t5, Err *e)
{
    *out = NULL;
    PromptEncoder *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, "out of memory");
    p->skip = skip;
    p->hooks.why_few = skip ? " that prompts go through with --clip-skip" : NULL;
    if (load_all(p, dir, type, t5, e)) {
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
    unigram_free(p->unigram);
    t5_encoder_free(p->t5);
    hooks_free(&p->hooks);
    json_decref(p->words);
    free(p->tokens);
    free(p->ids);
    free(p->part);
    free(p->embedding);
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

TextTokens prompt_encoder_tokens(const PromptEncoder *p, const char *module)
{
    if (starts_with(module, "text_encoder_3."))
        return (TextTokens){p->T, p->E, 0};
    return (TextTokens){p->S, prompt_encoder_columns(p, starts_with(module, "text_encoder_2.")), 1};
}

int prompt_encoder_length(const PromptEncoder *p)
{
    return p->S;
}

int prompt_encoder_count(const PromptEncoder *p)
{
    return p->count;
}

int prompt_encoder_ids(const PromptEncoder *p)
{
    return p->I;
}

int prompt_encoder_rows(const PromptEncoder *p)
{
    return p->R;
}

int prompt_encoder_most(const PromptEncoder *p)
{
    return p->t5 ? p->T - 1 : p->S - 2;
}

int prompt_encoder_at_once(const PromptEncoder *p)
{
    return p->T ? T5_CHUNK : CHUNK;
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

int prompt_encoder_t5_ids(const PromptEncoder *p, const char *text, int32_t *ids, long *left, Err *e)
{
    return p->t5 ? unigram_encode(p->unigram, text, ids, p->T, left, e) : 0;
}

/* n ids of each text from `at` on. */
static void take_ids(PromptEncoder *p, const int32_t *ids, int64_t B, int at, int n)
{
    for (int64_t b = 0; b < B; b++)
        memcpy(p->ids + n*b, ids + p->I*b + at, (size_t)n*sizeof *ids);
}

/* Columns of CLIP's rows from `column` on, and of the pooled embeddings from `place` on, by encoder i. */
static int encode_part(PromptEncoder *p, int i, const int32_t *ids, int64_t B, int skip, float *state, int column,
                       float *pooled, int place, Err *e)
{
    const size_t S = (size_t)p->S, E = (size_t)text_encoder_width(p->encoder[i]),
        P = (size_t)text_encoder_projection(p->encoder[i]);
    take_ids(p, ids, B, p->S*i, p->S);
    if (text_encode_penultimate(p->encoder[i], p->ids, B, skip, p->part, P ? p->embedding : NULL, e))
        return -1;
    for (size_t b = 0; b < (size_t)B; b++) {
        for (size_t s = 0; s < S; s++)
            memcpy(state + ((size_t)p->R*b + s)*(size_t)p->E + column, p->part + (S*b + s)*E, E*sizeof *state);
        memcpy(pooled + (size_t)p->P*b + place, p->embedding + P*b, P*sizeof *pooled);
    }
    return 0;
}

/* T5's rows. */
static int encode_t5(PromptEncoder *p, const int32_t *ids, int64_t B, float *state, Err *e)
{
    const size_t E = (size_t)p->E, S = (size_t)p->S, T = (size_t)p->T, R = (size_t)p->R;
    for (int64_t at = 0; at < B && p->t5; at += T5_CHUNK) {
        const int64_t n = B - at < T5_CHUNK ? B - at : T5_CHUNK;
        take_ids(p, ids + p->I*at, n, p->count*p->S, p->T);
        if (t5_encode(p->t5, p->ids, n, p->T, p->part, e))
            return -1;
        for (size_t b = 0; b < (size_t)n; b++)
            memcpy(state + (R*((size_t)at + b) + S)*E, p->part + T*E*b, T*E*sizeof *state);
    }
    return 0;
}

int prompt_encode(PromptEncoder *p, const int32_t *ids, int64_t B, bool whole, float *state, float *pooled, Err *e)
{
    const int skip = whole ? 0 : p->skip;
    if (p->count == 1)
        return text_encode_skip(p->encoder[0], ids, B, skip, state, e);
    const int E = text_encoder_width(p->encoder[0]), P = text_encoder_projection(p->encoder[0]);
    if (p->T)
        memset(state, 0, sizeof *state*(size_t)B*(size_t)p->R*(size_t)p->E);
    for (int64_t b = 0; b < B; b += CHUNK) {
        const int64_t n = B - b < CHUNK ? B - b : CHUNK;
        const int32_t *from = ids + p->I*b;
        float *to = state + (size_t)p->R*(size_t)p->E*(size_t)b, *embedding = pooled + p->P*b;
        if (encode_part(p, 0, from, n, skip, to, 0, embedding, 0, e)
            || encode_part(p, 1, from, n, skip, to, E, embedding, P, e) || encode_t5(p, from, n, to, e))
            return -1;
    }
    return 0;
}
