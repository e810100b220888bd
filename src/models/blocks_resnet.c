/* SPDX-License-Identifier: MIT */
/* blocks_resnet.c -- residual blocks of two convolutions.
 *
 *     h = conv1(silu(norm1(x)))      y = shortcut(x) + conv2(silu(norm2(h + temb)))
 *
 * diffusers models/resnet.py, ResnetBlock2D with time_embedding_norm "default" and output_scale_factor 1. h is written
 * in the type of products; h + temb is used by norm2 alone, so that the sum is never written. x may be two matrices
 * side by side, the stream and a skip, which norm1 reads where they lie and writes down joined only for a shortcut (as
 * it does one of f32 that a shortcut takes in another type). */
#include <assert.h>
#include <stdio.h>
#include "src/models/blocks.h"

int resnet_load(Resnet *n, const Part *part, const char *prefix, int in, int out, int groups, float eps, DType type,
                DType residual, Err *e)
{
    const DType as_is = type_as_is(type, residual);
    char name[4][160];
    static const char *const suffix[] = {"norm1", "conv1", "norm2", "conv2"};
    for (int i = 0; i < 4; i++)
        snprintf(name[i], sizeof name[i], "%s.%s", prefix, suffix[i]);
    *n = (Resnet){.in = in, .out = out, .module = -1, .temb = -1};
    if (norm_load(&n->norm1, part, name[0], in, groups, eps, e)
        || conv_load(&n->conv1, part, name[1], conv_spec(in, out, 3, type, type), e)
        || norm_load(&n->norm2, part, name[2], out, groups, eps, e)
        || conv_load(&n->conv2, part, name[3], conv_spec(out, out, 3, type, residual), e))
        return -1;
    snprintf(name[0], sizeof name[0], "%s.conv_shortcut", prefix);
    return in == out ? 0 : conv_load(&n->shortcut, part, name[0], conv_spec(in, out, 1, as_is, residual), e);
}

void resnet_free(Resnet *n)
{
    norm_free(&n->norm1);
    norm_free(&n->norm2);
    op->conv_free(n->conv1);
    op->conv_free(n->conv2);
    op->conv_free(n->shortcut);
}

int resnet_run(const Resnet *n, const Run *r, void *y, const NormInput *in, const float *shift, Err *e)
{
    const int64_t N = r->B*r->H*r->W;
    const WorkspaceMark mark = workspace_mark(r->work);
    const DType as_is_type = type_as_is(r->type, r->residual);
    const bool as_is = n->shortcut && (in->beside || as_is_type != r->residual);
    float *input = NULL;
    assert(n->shortcut || !in->beside);
    if (n->in == n->out && run_keep_input(r, n->module, in->x, r->residual, n->in, &input, e))
        return -1;
    void *joined = as_is ? run_take(r, as_is_type, N*n->in, e) : NULL;
    void *z = run_take(r, r->type, N*(n->in > n->out ? n->in : n->out), e), *h = run_take(r, r->type, N*n->out, e);
    if (!h)
        return -1;

    run_group_norm(r, &n->norm1, z, joined, *in, ACT_SILU);
    if (n->shortcut)
        op->conv_run(n->shortcut, y, as_is ? joined : in->x, r->B, r->H, r->W, false);
    else if (y != in->x)
        op->copy(y, in->x, (size_t)(N*n->out)*dtype_size(r->residual));
    op->conv_run(n->conv1, h, z, r->B, r->H, r->W, false);
    run_group_norm(r, &n->norm2, z, NULL, (NormInput){.x = h, .type = r->type, .C = n->out, .shift = shift}, ACT_SILU);
    op->conv_run(n->conv2, y, z, r->B, r->H, r->W, true);
    const int failed = run_hook_stream(r, n->module, y, input, n->out, e);
    workspace_release(r->work, mark);
    return failed;
}
