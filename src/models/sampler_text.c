/* SPDX-License-Identifier: MIT */
/* sampler_text.c -- the texts of a run, each once for the network, and which pictures of a batch are drawn of the
 * same. */
#include <stdlib.h>
#include <string.h>
#include "src/models/sampler_parts.h"

/* Room for as many texts as the batch can have, of `size` values each. */
static int need_states(Sampler *s, int pictures, size_t size, Err *e)
{
    const size_t texts = (size_t)pictures * 2, P = denoiser_pooled_width(s->denoiser);
    s->state_size = size;
    if (texts * size <= s->states_room && texts <= s->texts_room)
        return 0;
    free(s->states);
    free(s->pooled);
    s->states = malloc(texts * size * sizeof(float));
    s->pooled = P ? malloc(texts * P * sizeof(float)) : NULL;
    const bool there = s->states && (s->pooled || !P);
    s->states_room = there ? texts * size : 0;
    s->texts_room = there ? texts : 0;
    return there ? 0 : err_set(e, "out of memory for %zu text states", texts);
}

/* The next of the batch's texts, at place *n. */
static void add_text(Sampler *s, int *n, const float *state, const float *pooled)
{
    const size_t P = denoiser_pooled_width(s->denoiser);
    memcpy(s->states + s->state_size * *n, state, s->state_size * sizeof(float));
    if (P)
        memcpy(s->pooled + P * *n, pooled, P * sizeof(float));
    ++*n;
}

/* The text that the run goes by. */
static const float *state_now(const Sampler *s, const CondItem *x)
{
    return s->tracing && x->init_state ? x->init_state : x->state;
}

static const float *pooled_now(const Sampler *s, const CondItem *x)
{
    return s->tracing && x->init_state ? x->init_pooled : x->pooled;
}

/* Texts of the run: own negatives and, where a picture has none, the header's once, then one a picture. The header's
 * has another number of tokens where all pictures have their own. */
int sampler_set_text(Sampler *s, const CondBatch *b, int S, Err *e)
{
    int texts = 0, header = -1;
    if (need_states(s, s->n, (size_t)S * b->E, e))
        return -1;
    for (int i = 0; s->halves == 2 && i < s->n; i++) {
        const CondItem *item = &b->item[s->picture[i]];
        if (!item->uncond && header >= 0) {
            s->state_of[i] = header;
            continue;
        }
        s->state_of[i] = texts;
        header = item->uncond ? header : texts;
        add_text(s, &texts, item->uncond ? item->uncond : b->uncond,
                 item->uncond ? item->uncond_pooled : b->uncond_pooled);
    }
    for (int i = 0; i < s->n; i++) {
        const CondItem *item = &b->item[s->picture[i]];
        s->state_of[(s->halves - 1) * s->n + i] = texts;
        add_text(s, &texts, state_now(s, item), pooled_now(s, item));
    }
    return denoiser_set_text(s->denoiser, s->states, texts, S, s->state_of, (int64_t)s->halves * s->n, e)
        || (s->pooled && denoiser_set_added(s->denoiser, s->pooled, s->H * s->cell, s->W * s->cell, e)) ? -1 : 0;
}

static bool same_values(const float *a, const float *b, size_t n)
{
    return a == b || (a && b && memcmp(a, b, sizeof *a*n) == 0);
}

/* The first picture of the batch that is drawn of the same as picture i: i itself, where none before it is. An
 * inversion draws by what was traced of a picture. */
int sampler_twin(const Sampler *s, const CondBatch *b, int i)
{
    const CondItem *x = &b->item[i];
    const size_t state = (size_t)x->S*(size_t)b->E, pooled = (size_t)b->P, latent = sampler_latent(s);
    const bool traced = s->options.inversion != INVERSION_NONE && !s->tracing;
    for (int k = 0; k < i; k++) {
        const CondItem *y = &b->item[k];
        if (y->seed == x->seed && y->S == x->S && (!traced || s->traced_at[y->place] == s->traced_at[x->place])
            && same_values(state_now(s, x), state_now(s, y), state)
            && same_values(x->uncond, y->uncond, state) && same_values(pooled_now(s, x), pooled_now(s, y), pooled)
            && same_values(x->uncond_pooled, y->uncond_pooled, pooled) && same_values(x->start, y->start, latent))
            return k;
    }
    return i;
}
