/* SPDX-License-Identifier: MIT */
/* encoding.h -- what sd-encode-text and sd-steer-text have in common: the options of encoding, and prompts read,
 * encoded in batches and written as a conditioning stream. */
#ifndef SRC_CLI_ENCODING_H
#define SRC_CLI_ENCODING_H

#include "src/cli/compute.h"
#include "src/models/prompt_states.h"

typedef struct EncodingConfig {     /* first member of such a program's Config */
    Common c;
    const char *negative, *state_type;
    int64_t chunks, clip_skip, t5_tokens;
    int weights;
    List embeddings;
} EncodingConfig;

#define ENCODING_OPTIONS \
    {'n', "negative", OPT_STR, offsetof(EncodingConfig, negative), "", \
     "TEXT  what the unconditional half is told; default: nothing", 0}, \
    {0, "chunks", OPT_INT, offsetof(EncodingConfig, chunks), "1", \
     "N  chunks of 75 tokens that a text may become, 1 to 64; what is beyond is cut", 0}, \
    {0, "weights", OPT_FLAG, offsetof(EncodingConfig, weights), NULL, \
     "read weights, (word:1.3), (word) for 1.1 and [word] for 1/1.1, and BREAK, which begins a chunk", 0}, \
    {0, "embedding", OPT_LIST, offsetof(EncodingConfig, embeddings), NULL, \
     "[NAME=]FILE  a word that prompts may say, learned by textual inversion; its name is the file's own, where FILE " \
     "has none FILE's without its ending; again for more", 0}, \
    {0, "clip-skip", OPT_INT, offsetof(EncodingConfig, clip_skip), "0", \
     "N  take prompts' states N layers of the text encoder earlier: diffusers' clip_skip; web UIs say N + 1", 0}, \
    {0, "t5-tokens", OPT_INT, offsetof(EncodingConfig, t5_tokens), "256", \
     "N  of Stable Diffusion 3: tokens of a text that T5 takes, 1 to 512; diffusers' max_sequence_length", 0}, \
    {0, "state-type", OPT_STR, offsetof(EncodingConfig, state_type), "f32", \
     "f32|f16|bf16  type of the states in the stream", 0}, \
    {0, "seed", OPT_INT, offsetof(EncodingConfig, c.seed), "0", \
     "N  of records without a seed, whose own comes from N and their id", 0}

typedef struct Encoding Encoding;

/* What a program does beside encoding. */
typedef struct EncodingTask {
    void *context;
    int variants;                   /* of each record, in turn; 0: as they come, one */
    int (*select)(void *context, int variant, Err *e);      /* sets the hooks to a variant; NULL: there is none */
    void (*describe)(void *context, int variant, Record *rec);      /* adds fields to its record; NULL: none */
    bool own_uncond;                /* each record carries its negative state, which may not be the header's */
    /* Writes something else of a record and its encoded prompt, in place of its states; NULL. */
    int (*write)(void *context, const Record *rec, const PromptText *text, Err *e);
} EncodingTask;

/* Misuse: values out of their range. */
void encoding_check(const Cli *cli, const EncodingConfig *cfg);
/* Opens backend and model. cfg and task stay the caller's; task is filled in by the time encoding_begin is called. */
int encoding_open(Encoding **r, const Cli *cli, const EncodingConfig *cfg, const EncodingTask *task, Err *e);
const Compute *encoding_compute(const Encoding *r);
PromptEncoder *encoding_encoder(Encoding *r);
PromptStates *encoding_states(Encoding *r);
/* A header of the given kind for what this run writes: model and provenance. */
void encoding_header(const Encoding *r, Record *header, const char *kind);
/* Encodes --negative and writes the header of the states, with whatever fields `more` (NULL: none) has. */
int encoding_begin(Encoding *r, const Record *more, Err *e);
/* Reads, encodes and writes all records. */
int encoding_run(Encoding *r, Err *e);
int encoding_finish(Encoding *r, Err *e);
void encoding_close(Encoding *r);                   /* a stream not finished is removed; NULL is fine */

#endif
