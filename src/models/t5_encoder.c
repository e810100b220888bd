/* SPDX-License-Identifier: MIT */
/* t5_encoder.c -- T5EncoderModel: pre-norm transformer blocks whose attention knows positions by a bias alone.
 *
 *     x = token[ids]
 *     each block:  x += O attention(q, k, v of norm1(x))     attention = softmax(q k^T + bias) v, not scaled
 *                  x += Wo (gelu(W0 norm2(x)) * (W1 norm2(x)))     or Wo relu(W norm2(x)), of T5 before 1.1
 *     state = final norm(x)          each norm x / sqrt(mean(x^2) + eps) * gamma
 *
 *     bias[h,i,j] = table[bucket(j - i), h], the first block's for all. Half of the buckets are for j > i; of a half,
 *     one for each distance below a quarter of them all, the others logarithmically wider up to max_distance and beyond
 *
 *   ids (B,S) in [0, vocab)   x, state (B,S,E)   q, k, v (B*S, heads*d_kv), as one product   W0, W1 (hidden,E)
 *   bias f32 (heads,S,S)      no product has a bias
 *
 * transformers models/t5/modeling_t5.py, T5Stack. */
#include <math.h>
#include <stdlib.h>
#include "src/models/t5_parts.h"

enum { LENGTH_MOST = 4096, CHUNK_TOKENS = 4096 };       /* of a text; of the texts computed at once, or one text */

int t5_encoder_width(const T5Encoder *t)
{
    return t->E;
}

/* In f32 as torch has it, so that a distance at the edge of two buckets falls into the same. */
static int bucket_of(const T5Encoder *t, int distance)
{
    const int half = t->buckets / 2, exact = half / 2, d = abs(distance);
    int bucket = d;
    if (d >= exact) {
        const float wide = logf((float)d / (float)exact) / (float)log((double)t->max_distance / exact);
        bucket = exact + (int)(wide * (float)(half - exact));
    }
    return (bucket < half ? bucket : half - 1) + (distance > 0 ? half : 0);
}

/* The bias of texts of S tokens. */
static int need_bias(T5Encoder *t, int S, Err *e)
{
    const size_t values = (size_t)t->heads * S * S;
    if (t->bias_S == S)
        return 0;
    void *device = t->bias;
    float *host = malloc(values * sizeof *host);
    const int failed = !host || device_grow(&device, &t->bias_bytes, values * sizeof *host, e);
    t->bias = device;
    t->bias_S = 0;
    if (failed) {
        free(host);
        return err_set(e, "out of memory for the positions of %d tokens", S);
    }
    for (int distance = 1 - S; distance < S; distance++) {
        const float *row = t->table + (size_t)bucket_of(t, distance) * t->heads;
        for (int h = 0; h < t->heads; h++)
            for (int i = distance < 0 ? -distance : 0; i < S && i + distance < S; i++)
                host[((size_t)h * S + i) * S + i + distance] = row[h];
    }
    op->upload(t->bias, host, values * sizeof *host);
    free(host);
    t->bias_S = S;
    return 0;
}

/* x (N,E) = token[ids] on the device, taken from the workspace. NULL on error. */
static float *embed_ids(T5Encoder *t, const int32_t *ids, int64_t N, Err *e)
{
    const size_t values = (size_t)N * t->E, row = t->E * dtype_size(t->token_type);
    for (int64_t i = 0; i < N; i++)
        if (ids[i] < 0 || ids[i] >= t->vocab) {
            err_set(e, "token %d of a text is outside T5's vocabulary of %d: whose tokenizer is it?", ids[i], t->vocab);
            return NULL;
        }
    float *x = workspace_take(&t->work, values * sizeof *x, e);
    float *host = x ? malloc(values * sizeof *host) : NULL;
    if (!host) {
        err_set(e, "out of memory for %lld tokens of a text", (long long)N);
        return NULL;
    }
    for (int64_t i = 0; i < N; i++)
        dtype_to_f32(host + i * t->E, (const char *)t->token + ids[i] * row, t->token_type, (size_t)t->E);
    op->upload(x, host, values * sizeof *host);
    free(host);
    return x;
}

typedef struct Room { char *z, *h, *gate; } Room;       /* (N,E) or (N,D); q, k and v, or W0's; W1's */

static void run_block(const T5Encoder *t, const T5Block *b, float *x, Room r, int64_t B, int S)
{
    const int64_t N = B * S;
    const int E = t->E, D = t->D;
    const size_t size = dtype_size(t->type);
    op->rms_norm(r.z, t->type, E, x, F32, E, b->norm1, N, 1, E, t->eps);
    op->conv_run(b->qkv, r.h, r.z, 1, N, 1, false);
    op->attention_biased(r.z, D, r.h, 3 * D, r.h + D * size, 3 * D, r.h + 2 * D * size, 3 * D, t->type, B, t->heads,
                         D / t->heads, S, S, t->bias, 1);
    op->conv_run(b->out, x, r.z, 1, N, 1, true);
    op->rms_norm(r.z, t->type, E, x, F32, E, b->norm2, N, 1, E, t->eps);
    op->conv_run(b->wi, r.h, r.z, 1, N, 1, false);
    if (b->wi_1) {
        op->conv_run(b->wi_1, r.gate, r.z, 1, N, 1, false);
        op->multiply(r.h, r.gate, t->type, N * t->hidden);
    }
    op->conv_run(b->wo, x, r.h, 1, N, 1, true);
}

/* x (B,S,E) through all blocks, with the hooks on the way. */
static int run_blocks(T5Encoder *t, float *x, int64_t B, int S, Err *e)
{
    const int64_t N = B * S;
    const size_t size = dtype_size(t->type);
    const int wide = 3 * t->D > t->hidden ? 3 * t->D : t->hidden;
    Room r = {.z = workspace_take(&t->work, (size_t)N * (t->D > t->E ? t->D : t->E) * size, e)};
    r.h = workspace_take(&t->work, (size_t)N * wide * size, e);
    r.gate = workspace_take(&t->work, t->gated ? (size_t)N * t->hidden * size : 1, e);
    if (!r.gate)
        return -1;
    const WorkspaceMark mark = workspace_mark(&t->work);
    const Run run = {.type = t->type, .B = B, .H = 1, .W = S, .work = &t->work, .hooks = t->hooks};
    for (int i = 0; i < t->blocks; i++) {
        float *input;
        if (run_keep_input(&run, t->module + i, x, F32, t->E, &input, e))
            return -1;
        run_block(t, &t->block[i], x, r, B, S);
        if (run_hook(&run, t->module + i, x, input, t->E, e))
            return -1;
        workspace_release(&t->work, mark);
    }
    return 0;
}

static int encode_chunk(T5Encoder *t, const int32_t *ids, int64_t B, int S, float *state, Err *e)
{
    float *x = embed_ids(t, ids, B * S, e);
    if (!x || run_blocks(t, x, B, S, e))
        return -1;
    op->rms_norm(x, F32, t->E, x, F32, t->E, t->final, B * S, 1, t->E, t->eps);
    op->download(state, x, sizeof *x * (size_t)(B * S) * t->E);
    return 0;
}

int t5_encode(T5Encoder *t, const int32_t *ids, int64_t B, int S, float *state, Err *e)
{
    if (S < 1 || S > LENGTH_MOST)
        return err_set(e, "texts of %d tokens for T5, expected 1 to %d", S, LENGTH_MOST);
    if (need_bias(t, S, e))
        return -1;
    const int64_t most = CHUNK_TOKENS / S;
    int failed = 0;
    for (int64_t b = 0; b < B && !failed; b += most) {
        const WorkspaceMark mark = workspace_mark(&t->work);
        failed = encode_chunk(t, ids + b * S, B - b < most ? B - b : most, S, state + (size_t)(b * S) * t->E, e);
        workspace_release(&t->work, mark);
        failed = failed || workspace_settle(&t->work, e) ? -1 : 0;
    }
    return failed;
}

int t5_encoder_watch(T5Encoder *t, Hooks *h, const char *prefix, Err *e)
{
    t->module = h->modules;
    for (int i = 0; i < t->blocks; i++)
        if (hooks_add_module(h, e, "%s.encoder.block.%d", prefix, i) < 0)
            return -1;
    t->hooks = h;
    return 0;
}
