/* SPDX-License-Identifier: MIT */
/* blocks_transformer.c -- attention over an image's tokens and over the text, and the gated feed-forward.
 *
 *     y = x + proj_out(blocks(proj_in(group_norm(x))))
 *     block:  x += O1 attention(q, k, v of norm1(x))     x += O2 attention(q of norm2(x), k and v of the text)
 *             x += W2 (a * gelu(b)),  (a, b) = W1 norm3(x)
 *
 *   x (B*HW, C) R, tokens in the order of the pixels
 *   heads share C: head_dim = C/heads, scores scaled by head_dim^-1/2
 *
 * q, k and v of self-attention are one product; k and v of the text are made once a prompt (unet_set_text). proj_in and
 * proj_out are linear layers or 1x1 convolutions, which compute the same. Sums into x run inside the products. Up to
 * the first attention over a text, images that only their texts tell apart are one (Run's folds).
 * diffusers models/transformers/transformer_2d.py, models/attention.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "src/models/blocks.h"

static int layer_norm_load(Norm *n, const Part *part, const char *prefix, const char *suffix, int C, Err *e)
{
    char name[256];
    snprintf(name, sizeof name, "%s.%s", prefix, suffix);
    return norm_load(n, part, name, C, 0, 1e-5f, e);
}

static int block_load(TransformerBlock *b, const Part *part, const char *prefix, int C, int E, DType type,
                      DType residual, Err *e)
{
    static const char *const qkv[] = {"attn1.to_q", "attn1.to_k", "attn1.to_v"}, *const out1[] = {"attn1.to_out.0"};
    static const char *const q[] = {"attn2.to_q"}, *const kv[] = {"attn2.to_k", "attn2.to_v"};
    static const char *const out2[] = {"attn2.to_out.0"}, *const ff1[] = {"ff.net.0.proj"}, *const ff2[] = {"ff.net.2"};
    const int three[] = {C, C, C}, wide = 8*C;
    const ConvSpec as_type = conv_spec(C, 0, 1, type, type), sum = conv_spec(C, 0, 1, type, residual);
    const ConvSpec text = conv_spec(E, 0, 1, type, type), last = conv_spec(4*C, 0, 1, type, residual);
    ConvSpec gated = as_type;
    gated.act = ACT_GEGLU;
    return layer_norm_load(&b->norm1, part, prefix, "norm1", C, e)
        || layer_norm_load(&b->norm2, part, prefix, "norm2", C, e)
        || layer_norm_load(&b->norm3, part, prefix, "norm3", C, e)
        || linear_load(&b->qkv, part, prefix, qkv, three, 3, as_type, BIAS_MAYBE, e)
        || linear_load(&b->out1, part, prefix, out1, three, 1, sum, BIAS, e)
        || linear_load(&b->q, part, prefix, q, three, 1, as_type, BIAS_MAYBE, e)
        || linear_load(&b->kv, part, prefix, kv, three, 2, text, BIAS_MAYBE, e)
        || linear_load(&b->out2, part, prefix, out2, three, 1, sum, BIAS, e)
        || linear_load(&b->ff1, part, prefix, ff1, &wide, 1, gated, BIAS, e)
        || linear_load(&b->ff2, part, prefix, ff2, three, 1, last, BIAS, e) ? -1 : 0;
}

static void block_free(TransformerBlock *b)
{
    norm_free(&b->norm1);
    norm_free(&b->norm2);
    norm_free(&b->norm3);
    op->conv_free(b->qkv);
    op->conv_free(b->out1);
    op->conv_free(b->q);
    op->conv_free(b->kv);
    op->conv_free(b->out2);
    op->conv_free(b->ff1);
    op->conv_free(b->ff2);
}

int transformer_load(Transformer *t, const Part *part, const char *prefix, int C, int heads, int layers, int E,
                     int groups, DType type, DType residual, Err *e)
{
    char name[160];
    *t = (Transformer){.C = C, .heads = heads, .module = -1};
    if (heads < 1 || C%heads)
        return err_set(e, "%s/config.json: \"attention_head_dim\" gives %d heads, which do not divide the %d channels "
                       "of %s", part->path, heads, C, prefix);
    t->block = calloc((size_t)layers, sizeof *t->block);
    if (!t->block)
        return err_set(e, "out of memory");
    t->layers = layers;
    snprintf(name, sizeof name, "%s.norm", prefix);
    if (norm_load(&t->norm, part, name, C, groups, 1e-6f, e))
        return -1;
    snprintf(name, sizeof name, "%s.proj_in", prefix);
    if (conv_load(&t->proj_in, part, name, conv_spec(C, C, 1, type, residual), e))
        return -1;
    snprintf(name, sizeof name, "%s.proj_out", prefix);
    if (conv_load(&t->proj_out, part, name, conv_spec(C, C, 1, type_as_is(type, residual), residual), e))
        return -1;
    for (int k = 0; k < layers; k++) {
        snprintf(name, sizeof name, "%s.transformer_blocks.%d", prefix, k);
        if (block_load(&t->block[k], part, name, C, E, type, residual, e))
            return -1;
    }
    return 0;
}

void transformer_free(Transformer *t)
{
    for (int k = 0; k < t->layers; k++)
        block_free(&t->block[k]);
    free(t->block);
    norm_free(&t->norm);
    op->conv_free(t->proj_in);
    op->conv_free(t->proj_out);
}

/* ---- running ---- */

static void layer_norm(const Run *r, const Norm *n, void *y, const void *x, int64_t N)
{
    op->layer_norm(y, r->type, x, r->residual, n->gamma, n->beta, N, n->C, n->eps);
}

/* x += out(a). Hooks of the module see out(a), and what they change of it is added after, so that a hook that changes
 * nothing leaves every bit of x. */
static int add_branch(const Run *r, int module, Conv *out, void *x, const void *a, const float *input, int64_t N,
                      int C, Err *e)
{
    const DType R = r->residual;
    if (!hooks_want(r->hooks, module)) {
        op->conv_run(out, x, a, 1, N, 1, true);
        return 0;
    }
    float *branch = run_take(r, F32, N*C, e), *before = run_take(r, F32, N*C, e);
    void *made = R == F32 ? before : run_take(r, R, N*C, e);
    if (!made)
        return -1;
    op->conv_run(out, made, a, 1, N, 1, false);
    if (R != F32)
        op->convert(before, F32, made, R, N*C);
    op->copy(branch, before, (size_t)(N*C)*sizeof *branch);
    op->conv_run(out, x, a, 1, N, 1, true);
    if (run_hook(r, module, branch, input, C, e))
        return -1;
    op->subtract(branch, branch, before, N*C);
    if (R == F32) {
        op->add(x, branch, N*C);
        return 0;
    }
    op->convert(before, F32, x, R, N*C);
    op->add(before, branch, N*C);
    op->convert(x, R, before, F32, N*C);
    return 0;
}

static int self_attention(const Transformer *t, const TransformerBlock *b, Run *r, void *x, void *z, Err *e)
{
    const int C = t->C, head_dim = C/t->heads;
    const int64_t HW = r->H*r->W, N = r->B*HW;
    float *input;
    void *qkv = run_take(r, r->type, N*3*C, e);
    if (!qkv)
        return -1;
    layer_norm(r, &b->norm1, z, x, N);
    if (run_keep_input(r, b->module_attn1, z, r->type, C, &input, e))
        return -1;
    op->conv_run(b->qkv, qkv, z, 1, N, 1, false);
    const char *q = qkv, *k = q + (size_t)C*dtype_size(r->type), *v = k + (size_t)C*dtype_size(r->type);
    op->attention(z, C, q, 3*C, k, 3*C, v, 3*C, r->type, r->B, t->heads, head_dim, HW, HW, NULL,
                  1/sqrtf((float)head_dim), false);
    return add_branch(r, b->module_attn1, b->out1, x, z, input, N, C, e);
}

/* The images of the batch from here on. */
static void unfold(Run *r, void *x, int C)
{
    run_unfold(x, (size_t)(r->B*r->H*r->W*C)*dtype_size(r->residual), r->folds);
    r->B *= r->folds;
    r->folds = 1;
}

static int text_attention(const Transformer *t, const TransformerBlock *b, Run *r, void *x, void *z, Err *e)
{
    const int C = t->C, head_dim = C/t->heads;
    unfold(r, x, C);
    const int64_t HW = r->H*r->W, N = r->B*HW;
    float *input;
    void *q = run_take(r, r->type, N*C, e);
    if (!q)
        return -1;
    layer_norm(r, &b->norm2, z, x, N);
    if (run_keep_input(r, b->module_attn2, z, r->type, C, &input, e))
        return -1;
    op->conv_run(b->q, q, z, 1, N, 1, false);
    const char *k = b->text_kv, *v = k + (size_t)C*dtype_size(r->type);
    op->attention(z, C, q, C, k, 2*C, v, 2*C, r->type, r->B, t->heads, head_dim, HW, r->S, r->kv_index,
                  1/sqrtf((float)head_dim), false);
    return add_branch(r, b->module_attn2, b->out2, x, z, input, N, C, e);
}

static int feed_forward(const Transformer *t, const TransformerBlock *b, Run *r, void *x, void *z, Err *e)
{
    const int C = t->C;
    const int64_t N = r->B*r->H*r->W;
    float *input;
    void *gated = run_take(r, r->type, N*4*C, e);
    if (!gated)
        return -1;
    layer_norm(r, &b->norm3, z, x, N);
    if (run_keep_input(r, b->module_ff, z, r->type, C, &input, e))
        return -1;
    op->conv_run(b->ff1, gated, z, 1, N, 1, false);
    return add_branch(r, b->module_ff, b->ff2, x, gated, input, N, C, e);
}

static int block_run(const Transformer *t, const TransformerBlock *b, Run *r, void *x, void *z, Err *e)
{
    static int (*const step[])(const Transformer *, const TransformerBlock *, Run *, void *, void *, Err *) = {
        self_attention, text_attention, feed_forward
    };
    const WorkspaceMark mark = workspace_mark(r->work);
    float *input;
    int failed = run_keep_input(r, b->module, x, r->residual, t->C, &input, e);
    for (int i = 0; i < 3 && !failed; i++) {
        const WorkspaceMark before = workspace_mark(r->work);
        failed = step[i](t, b, r, x, z, e);
        workspace_release(r->work, before);
    }
    failed = failed || run_hook_stream(r, b->module, x, input, t->C, e);
    workspace_release(r->work, mark);
    return failed ? -1 : 0;
}

int transformer_run(const Transformer *t, Run *r, void *x, Err *e)
{
    const int C = t->C, folds = r->folds;
    const int64_t rows = r->B*r->H*r->W, N = rows*folds;
    const WorkspaceMark mark = workspace_mark(r->work);
    float *input;
    int failed = run_keep_input(r, t->module, x, r->residual, C, &input, e);
    void *z = run_take(r, r->type, N*C, e);             /* what enters a product */
    void *tokens = run_take(r, r->residual, N*C, e);
    if (failed || !tokens)
        return -1;
    run_group_norm(r, &t->norm, z, NULL, (NormInput){.x = x, .type = r->residual, .C = C}, ACT_NONE);
    op->conv_run(t->proj_in, tokens, z, 1, rows, 1, false);
    run_unfold(x, (size_t)(rows*C)*dtype_size(r->residual), folds);
    for (int k = 0; k < t->layers && !failed; k++)
        failed = block_run(t, &t->block[k], r, tokens, z, e);
    const void *last = failed ? NULL : run_as_is(r, tokens, N*C, e);
    if (last) {
        op->conv_run(t->proj_out, x, last, 1, N, 1, true);
        failed = run_hook_stream(r, t->module, x, input, C, e);
    }
    workspace_release(r->work, mark);
    return failed || !last ? -1 : 0;
}
