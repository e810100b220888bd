/* SPDX-License-Identifier: MIT */
/* prompt_states.h -- text states of many prompts, of one chunk or several (prompt_chunks.h), weighted or not.
 *
 *     prompt_states_add, ... of a batch     prompt_states_encode     prompt_states_join, ...     prompt_states_next
 *
 * A chunk is encoded by itself and once while it is remembered, the texts of a batch together. A text's state is that
 * of its chunks one after another, and of the empty text's chunk as often as another text has more; of Stable Diffusion
 * 3, which has T5's rows behind CLIP's, it is one chunk's, as it is. Weighted it is:
 *
 *     y[s,:] = x[s,:] weight[s]      state = y mean(x)/mean(y)
 *
 *   x, y, state (chunks S, E)      means over all of it, of two text encoders over each one's columns
 *   pooled (P), the first chunk's, unweighted
 *
 * Lengths and the mean over the whole text, padding too, as diffusers' lpw_stable_diffusion.py
 * (get_weighted_text_embeddings) has them; stable-diffusion-webui takes the mean of each chunk by itself. Stable
 * Diffusion XL as webui has it with its emphasis "Original": each text encoder for itself, pooled of the first chunk
 * (sd_hijack_clip.py, forward). lpw_stable_diffusion_xl.py has another formula, from each state towards that of its
 * chunk's end, by one tokenizer's weights for both, and the last chunk's pooled; here one rule holds for all models.
 *
 * Where a mean is next to nothing (under 1e-5 of the mean size of a value, where rounding shows), or the two are more
 * than a factor of 10 apart or of different sign, their ratio says nothing of size, and y is left as it is; the two
 * programs divide all the same, up to infinity.
 */
#ifndef SRC_MODELS_PROMPT_STATES_H
#define SRC_MODELS_PROMPT_STATES_H

#include "src/models/prompt_encoder.h"

enum { PROMPT_MOST_CHUNKS = 64 };

typedef struct PromptStates PromptStates;

/* What a text is to a picture: what is drawn; what is kept away from; what the picture that it begins with shows. Hooks
 * may treat them differently. */
typedef enum { TEXT_PROMPT, TEXT_NEGATIVE, TEXT_INIT, TEXT_KINDS } TextKind;

typedef struct PromptText {
    int chunks;
    long left;                      /* tokens that there was no room for (PromptChunks) */
    TextKind kind;
    bool zeros;                     /* no text: state and pooled are zeros */
    int place[PROMPT_MOST_CHUNKS];  /* of each chunk, while the batch lasts */
    float *weight;                  /* (chunks, encoders, S); NULL: all 1 */
} PromptText;

/* Texts of up to `chunks` chunks; there is room for twice `texts` chunks, a text that is kept and three more. weights:
 * read them. Both are of encoders without rows of T5. The encoder stays the caller's. */
int prompt_states_create(PromptStates **s, PromptEncoder *encoder, int chunks, int texts, bool weights, Err *e);
void prompt_states_free(PromptStates *s);                   /* NULL is fine */
/* Whether the batch has room for `texts` more, whatever they are. */
bool prompt_states_room(const PromptStates *s, int texts);
/* Adds a text to the batch. An empty negative one is zeros where the model has it so. keep: it stays for all batches
 * that follow; one text may. *t is cleared by the caller, after failure too. */
int prompt_states_add(PromptStates *s, PromptText *t, const char *text, TextKind kind, bool keep, Err *e);
void prompt_text_clear(PromptText *t);
/* Encodes what the batch has that is not remembered. */
int prompt_states_encode(PromptStates *s, Err *e);
/* state (chunks R, E) of an encoded text, chunks being t's or more; pooled (P). */
void prompt_states_join(const PromptStates *s, const PromptText *t, int chunks, float *state, float *pooled);
/* tokens (chunks S): its ids by the first tokenizer. */
void prompt_states_tokens(const PromptStates *s, const PromptText *t, int chunks, int32_t *tokens);
/* What a hook of the encoder has to be told, and what it keeps. */
typedef struct ChunkWatch {
    void (*begin)(void *context, TextKind kind);            /* what is encoded next */
    void (*keep)(void *context, int n, float *kept);        /* of chunk n of the prompts' just encoded */
    size_t keeps;                   /* values kept of a chunk, 0: none */
    void *context;
} ChunkWatch;
/* Before any text is encoded; copied. */
void prompt_states_watch(PromptStates *s, const ChunkWatch *watch);
/* What was kept of a chunk of an encoded prompt. */
const float *prompt_states_watched(const PromptStates *s, const PromptText *t, int chunk);
/* Texts of a kind are to be encoded anew, for the hooks do something else to them from now on. */
void prompt_states_forget(PromptStates *s, TextKind kind);
/* Begins the next batch. Texts of the last one are forgotten as room is needed. */
void prompt_states_next(PromptStates *s);

#endif
