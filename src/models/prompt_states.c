/* SPDX-License-Identifier: MIT */
/* prompt_states.c -- encoded chunks by what was used last; texts joined of them, and weighted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/prompt_chunks.h"
#include "src/models/prompt_states.h"

enum { AT_ONCE = 32 };              /* chunks encoded together, at most */

typedef struct Chunk {
    int32_t *ids;                   /* (I); NULL: the place was never used */
    float *state, *pooled;          /* (R,E), (P) */
    float *watched;                 /* [watch.keeps], of a prompt's chunk */
    TextKind kind;
    long used;                      /* batch that used it last, 0: none */
    bool encoded, kept;
} Chunk;

struct PromptStates {
    PromptEncoder *encoder;
    int most, S, I, R, E, P;        /* chunks of a text; tokens of a chunk, its ids by all tokenizers, rows; widths */
    int at_once;                    /* AT_ONCE, or fewer */
    bool weights;
    PromptChunks chunks;            /* of the text being added */
    ChunkWatch watch;
    Chunk *place;                   /* where a text may have several, the first are the empty ones of each kind */
    int places, busy;               /* there, and of this batch or kept */
    long batch;
    int32_t *ids;                   /* (at_once,I), to encode */
    float *states, *pooled;         /* (at_once,R,E), (at_once,P), theirs */
};

/* The place of a chunk, which takes that of the longest unused where it is not there yet. -1 on error. */
static int place_chunk(PromptStates *s, const int32_t *ids, TextKind kind, bool keep, Err *e)
{
    int at = -1;
    for (int i = 0; i < s->places && at < 0; i++) {
        const Chunk *c = &s->place[i];
        if (c->used && c->kind == kind && memcmp(c->ids, ids, sizeof *ids*(size_t)s->I) == 0)
            at = i;
    }
    const bool known = at >= 0;
    for (int i = 0; i < s->places && !known; i++)
        if (!s->place[i].kept && s->place[i].used < s->batch && (at < 0 || s->place[i].used < s->place[at].used))
            at = i;
    Chunk *c = &s->place[at];       /* there is one: prompt_states_room */
    if (!c->ids) {
        c->ids = malloc(sizeof *c->ids*(size_t)s->I);
        c->state = malloc(sizeof *c->state*(size_t)s->R*(size_t)s->E);
        c->pooled = malloc(sizeof *c->pooled*(size_t)(s->P + 1));       /* one more: not nothing */
        if (!c->ids || !c->state || !c->pooled)
            return err_set(e, "out of memory for text states");
    }
    if (!known) {
        memcpy(c->ids, ids, sizeof *ids*(size_t)s->I);
        c->kind = kind;
        c->encoded = false;
    }
    s->busy += c->used < s->batch && !c->kept;
    c->used = s->batch;
    c->kept |= keep;
    return at;
}

int prompt_states_create(PromptStates **out, PromptEncoder *encoder, int chunks, int texts, bool weights, Err *e)
{
    PromptStates *s = *out = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, "out of memory");
    const int at_once = prompt_encoder_at_once(encoder);
    *s = (PromptStates){.encoder = encoder, .most = chunks, .S = prompt_encoder_length(encoder),
                        .I = prompt_encoder_ids(encoder), .R = prompt_encoder_rows(encoder),
                        .E = prompt_encoder_width(encoder), .P = prompt_encoder_pooled(encoder), .weights = weights,
                        .at_once = at_once < AT_ONCE ? at_once : AT_ONCE,
                        .places = 2*texts + 3*chunks + TEXT_KINDS, .batch = 1};
    s->place = calloc((size_t)s->places, sizeof *s->place);
    s->ids = malloc(sizeof *s->ids*(size_t)(s->at_once*s->I));
    s->states = malloc(sizeof *s->states*(size_t)s->at_once*(size_t)s->R*(size_t)s->E);
    s->pooled = malloc(sizeof *s->pooled*(size_t)(s->at_once*s->P + 1));
    int failed = !s->place || !s->ids || !s->states || !s->pooled ? err_set(e, "out of memory for text states") : 0;
    failed = failed || prompt_chunks_create(&s->chunks, encoder, chunks, e)
          || prompt_chunks_read(&s->chunks, "", false, e);
    for (int kind = 0; kind < TEXT_KINDS && chunks > 1 && !failed; kind++)
        failed = place_chunk(s, s->chunks.ids, (TextKind)kind, true, e) < 0;
    if (!failed)
        return 0;
    prompt_states_free(s);
    *out = NULL;
    return -1;
}

void prompt_states_free(PromptStates *s)
{
    if (!s)
        return;
    for (int i = 0; s->place && i < s->places; i++) {
        free(s->place[i].ids);
        free(s->place[i].state);
        free(s->place[i].pooled);
        free(s->place[i].watched);
    }
    prompt_chunks_clear(&s->chunks);
    free(s->place);
    free(s->ids);
    free(s->states);
    free(s->pooled);
    free(s);
}

bool prompt_states_room(const PromptStates *s, int texts)
{
    return s->busy + texts*s->most <= s->places;
}

int prompt_states_add(PromptStates *s, PromptText *t, const char *text, TextKind kind, bool keep, Err *e)
{
    *t = (PromptText){.chunks = 1, .kind = kind,
                      .zeros = kind == TEXT_NEGATIVE && !*text && prompt_encoder_zeros(s->encoder)};
    if (prompt_chunks_read(&s->chunks, text, s->weights, e))
        return -1;
    const size_t I = (size_t)s->I, bytes = sizeof *t->weight*I*(size_t)s->chunks.count;
    t->chunks = s->chunks.count;
    t->left = s->chunks.left;
    for (int i = 0; i < t->chunks; i++)
        if ((t->place[i] = place_chunk(s, s->chunks.ids + I*(size_t)i, kind, keep, e)) < 0)
            return -1;
    if (!s->chunks.weighted)
        return 0;
    if (!(t->weight = malloc(bytes)))
        return err_set(e, "out of memory for a text's weights");
    memcpy(t->weight, s->chunks.weight, bytes);
    return 0;
}

void prompt_text_clear(PromptText *t)
{
    free(t->weight);
    *t = (PromptText){0};
}

static int watch_chunk(PromptStates *s, Chunk *c, int n, Err *e)
{
    if (!s->watch.keeps || c->kind != TEXT_PROMPT)
        return 0;
    if (!c->watched && !(c->watched = malloc(sizeof *c->watched*s->watch.keeps)))
        return err_set(e, "out of memory for what is kept of a text");
    s->watch.keep(s->watch.context, n, c->watched);
    return 0;
}

static int encode_kind(PromptStates *s, TextKind kind, Err *e)
{
    const size_t I = (size_t)s->I, RE = (size_t)s->R*(size_t)s->E, P = (size_t)s->P;
    int place[AT_ONCE];
    for (int i = 0, n = 0; i < s->places; i++) {
        if (s->place[i].used && !s->place[i].encoded && s->place[i].kind == kind) {
            memcpy(s->ids + I*(size_t)n, s->place[i].ids, sizeof *s->ids*I);
            place[n++] = i;
        }
        if (n == 0 || (n < s->at_once && i + 1 < s->places))
            continue;
        if (prompt_encode(s->encoder, s->ids, n, kind == TEXT_NEGATIVE, s->states, s->pooled, e))
            return -1;
        for (int k = 0; k < n; k++) {
            Chunk *c = &s->place[place[k]];
            memcpy(c->state, s->states + RE*(size_t)k, sizeof *c->state*RE);
            memcpy(c->pooled, s->pooled + P*(size_t)k, sizeof *c->pooled*P);
            c->encoded = true;
            if (watch_chunk(s, c, k, e))
                return -1;
        }
        n = 0;
    }
    return 0;
}

int prompt_states_encode(PromptStates *s, Err *e)
{
    for (int kind = 0; kind < TEXT_KINDS; kind++) {
        if (s->watch.begin)
            s->watch.begin(s->watch.context, (TextKind)kind);
        if (encode_kind(s, (TextKind)kind, e))
            return -1;
    }
    return 0;
}

void prompt_states_watch(PromptStates *s, const ChunkWatch *watch)
{
    s->watch = *watch;
}

void prompt_states_forget(PromptStates *s, TextKind kind)
{
    for (int i = 0; i < s->places; i++) {
        Chunk *c = &s->place[i];
        if (c->kind != kind)
            continue;
        c->encoded = false;
        if (!c->kept && c->used < s->batch)
            c->used = 0;
    }
}

/* Mean and mean size of columns [at, at + width) of x (rows,E). */
static double mean_of(const float *x, size_t rows, size_t E, size_t at, size_t width, double *size)
{
    double sum = 0, sizes = 0;
    for (size_t n = 0; n < rows; n++)
        for (size_t k = at; k < at + width; k++) {
            sum += (double)x[n*E + k];
            sizes += fabs((double)x[n*E + k]);
        }
    *size = sizes/(double)(rows*width);
    return sum/(double)(rows*width);
}

/* What weighted states are multiplied by. */
static float restoring(double before, double before_size, double after, double after_size)
{
    const double least = 1e-5, most = 10, ratio = before/after;
    const bool says = fabs(before) >= least*before_size && fabs(after) >= least*after_size;
    return says && ratio >= 1/most && ratio <= most ? (float)ratio : 1;
}

static void weigh(const PromptStates *s, const PromptText *t, int chunks, float *state)
{
    const size_t S = (size_t)s->S, E = (size_t)s->E, rows = S*(size_t)chunks, own = S*(size_t)t->chunks;
    size_t at = 0;
    for (int i = 0; i < prompt_encoder_count(s->encoder); i++) {
        const size_t width = (size_t)prompt_encoder_columns(s->encoder, i);
        double before_size, after_size;
        const double before = mean_of(state, rows, E, at, width, &before_size);
        for (size_t n = 0; n < own; n++)
            for (size_t k = at; k < at + width; k++)
                state[n*E + k] *= t->weight[n/S*(size_t)s->I + (size_t)i*S + n%S];
        const double after = mean_of(state, rows, E, at, width, &after_size);
        const float by = restoring(before, before_size, after, after_size);
        for (size_t n = 0; n < rows; n++)
            for (size_t k = at; k < at + width; k++)
                state[n*E + k] *= by;
        at += width;
    }
}

/* The place of a text's chunk. */
static const Chunk *chunk_of(const PromptStates *s, const PromptText *t, int i)
{
    return &s->place[i < t->chunks ? t->place[i] : (int)t->kind];
}

const float *prompt_states_watched(const PromptStates *s, const PromptText *t, int chunk)
{
    return s->place[t->place[chunk]].watched;
}

void prompt_states_join(const PromptStates *s, const PromptText *t, int chunks, float *state, float *pooled)
{
    const size_t RE = (size_t)s->R*(size_t)s->E;
    if (t->zeros) {
        memset(state, 0, sizeof *state*RE*(size_t)chunks);
        memset(pooled, 0, sizeof *pooled*(size_t)s->P);
        return;
    }
    for (int i = 0; i < chunks; i++)
        memcpy(state + RE*(size_t)i, chunk_of(s, t, i)->state, sizeof *state*RE);
    memcpy(pooled, chunk_of(s, t, 0)->pooled, sizeof *pooled*(size_t)s->P);
    if (t->weight)
        weigh(s, t, chunks, state);
}

void prompt_states_tokens(const PromptStates *s, const PromptText *t, int chunks, int32_t *tokens)
{
    for (int i = 0; i < chunks; i++)
        memcpy(tokens + s->S*i, chunk_of(s, t, i)->ids, sizeof *tokens*(size_t)s->S);
}

void prompt_states_next(PromptStates *s)
{
    s->batch++;
    s->busy = 0;
    for (int i = 0; i < s->places; i++)
        s->busy += s->place[i].kept;
}
