/* SPDX-License-Identifier: MIT */
/* prompt_chunks.c -- tokens of a prompt's pieces, chunk after chunk. */
#include <stdlib.h>
#include <string.h>
#include "src/models/prompt_chunks.h"
#include "src/models/prompt_weights.h"

typedef struct Place {              /* where the next token of an encoder goes */
    int chunk, n;
} Place;

int prompt_chunks_create(PromptChunks *c, const PromptEncoder *encoder, int most, Err *e)
{
    const size_t S = (size_t)prompt_encoder_length(encoder), ids = (size_t)(prompt_encoder_ids(encoder)*most);
    *c = (PromptChunks){.encoder = encoder, .most = most};
    c->ids = malloc(sizeof *c->ids*ids);
    c->weight = malloc(sizeof *c->weight*ids);
    c->token = malloc(sizeof *c->token*S*(size_t)most);
    return c->ids && c->weight && c->token ? 0 : err_set(e, "out of memory for a text of %d chunks", most);
}

void prompt_chunks_clear(PromptChunks *c)
{
    free(c->ids);
    free(c->weight);
    free(c->token);
    *c = (PromptChunks){0};
}

/* The first of encoder i's in a chunk. */
static size_t row_at(const PromptChunks *c, int chunk, int i)
{
    return (size_t)(chunk*prompt_encoder_ids(c->encoder) + i*prompt_encoder_length(c->encoder));
}

static void next_chunk(PromptChunks *c, int i, Place *at)
{
    if (at->chunk < c->most)
        tokenizer_frame(prompt_encoder_tokenizer(c->encoder, i), c->ids + row_at(c, at->chunk, i), at->n);
    *at = (Place){at->chunk + 1, 0};
}

static int add_piece(PromptChunks *c, int i, const char *text, const PromptPiece *piece, Place *at, Err *e)
{
    const int each = prompt_encoder_length(c->encoder) - 2;
    const int count = tokenizer_tokens(prompt_encoder_tokenizer(c->encoder, i), text + piece->from, piece->length,
                                       c->token, c->most*each, e);
    if (piece->breaks)
        next_chunk(c, i, at);
    for (int k = 0; k < count; k++) {
        if (at->n == each)
            next_chunk(c, i, at);
        if (at->chunk >= c->most) {
            c->left += i == 0 ? count - k : 0;
            break;
        }
        const size_t row = row_at(c, at->chunk, i) + (size_t)++at->n;
        c->ids[row] = c->token[k];
        c->weight[row] = (float)piece->weight;
        c->weighted |= piece->weight != 1;
    }
    return count < 0 ? -1 : 0;
}

/* All pieces by encoder i. */
static int add_pieces(PromptChunks *c, int i, const char *text, const PromptPiece *piece, int count, Err *e)
{
    Place at = {0};
    for (int k = 0; k < count; k++)
        if (add_piece(c, i, text, &piece[k], &at, e))
            return -1;
    if (at.n > 0)
        next_chunk(c, i, &at);
    const int chunks = at.chunk < c->most ? at.chunk : c->most;
    c->count = chunks > c->count ? chunks : c->count;
    return 0;
}

int prompt_chunks_read(PromptChunks *c, const char *text, bool weights, Err *e)
{
    const int encoders = prompt_encoder_count(c->encoder), rows = prompt_encoder_ids(c->encoder)*c->most;
    const PromptPiece whole = {.length = strlen(text), .weight = 1};
    PromptWeights said = {0};
    c->count = 1;
    c->left = 0;
    c->weighted = false;
    for (int j = 0; j < rows; j++)
        c->weight[j] = 1;
    for (int j = 0; j < c->most; j++)               /* as of no text, in case it ends before */
        for (int i = 0; i < encoders; i++)
            tokenizer_frame(prompt_encoder_tokenizer(c->encoder, i), c->ids + row_at(c, j, i), 0);
    int failed = weights ? prompt_weights_read(&said, text, e) : 0;
    for (int i = 0; i < encoders && !failed; i++)
        failed = weights ? add_pieces(c, i, said.text, said.piece, said.count, e)
                         : add_pieces(c, i, text, &whole, 1, e);
    failed = failed || prompt_encoder_t5_ids(c->encoder, text, c->ids + row_at(c, 0, encoders), &c->left, e) ? -1 : 0;
    prompt_weights_clear(&said);
    return failed;
}
