/* SPDX-License-Identifier: MIT */
/* blocks_resnet.c -- residual blocks of two convolutions.
 *
 *     h = conv1(silu(norm1(x)))      y = shortcut(x) + conv2(silu(norm2(h + temb)))
 *
 * diffusers models/resnet.py, ResnetBlock2D with time_embedding_norm "default" and output_scale_factor 1. h + temb is
 * used by norm2 alone, so that the sum is never written. */
#include <stdio.h>
#include "src/models/blocks.h"

int resnet_load(Resnet *n, const Part *part, const char *prefix, int in, int out, int groups, float eps, DType type,
                Err *e)
{
    char name[4][160];
    static const char *const suffix[] = {"norm1", "conv1", "norm2", "conv2"};
    for (int i = 0; i < 4; i++)
        snprintf(name[i], sizeof name[i], "%s.%s", prefix, suffix[i]);
    *n = (Resnet){.in = in, .out = out, .module = -1, .temb = -1};
    if (norm_load(&n->norm1, part, name[0], in, groups, eps, e)
        || conv_load(&n->conv1, part, name[1], conv_spec(in, out, 3, type, F32), e)
        || norm_load(&n->norm2, part, name[2], out, groups, eps, e)
        || conv_load(&n->conv2, part, name[3], conv_spec(out, out, 3, type, F32), e))
        return -1;
    snprintf(name[0], sizeof name[0], "%s.conv_shortcut", prefix);
    return in == out ? 0 : conv_load(&n->shortcut, part, name[0], conv_spec(in, out, 1, type, F32), e);
}

void resnet_free(Resnet *n)
{
    norm_free(&n->norm1);
    norm_free(&n->norm2);
    op->conv_free(n->conv1);
    op->conv_free(n->conv2);
    op->conv_free(n->shortcut);
}

int resnet_run(const Resnet *n, const Run *r, float *y, const float *x, const float *shift, Err *e)
{
    const int64_t N = r->B*r->H*r->W;
    const WorkspaceMark mark = workspace_mark(r->work);
    float *input = NULL;
    if (n->in == n->out && run_keep_input(r, n->module, x, n->in, &input, e))
        return -1;
    void *z = run_take(r, r->type, N*(n->in > n->out ? n->in : n->out), e);
    float *h = run_take(r, F32, N*n->out, e);
    if (!h)
        return -1;

    if (n->shortcut)
        op->conv_run(n->shortcut, y, run_as_type(r, z, x, N*n->in), r->B, r->H, r->W, false);
    else if (y != x)
        op->copy(y, x, (size_t)(N*n->out)*sizeof(float));
    run_group_norm(r, &n->norm1, z, NULL, (NormInput){.x = x, .type = F32, .C = n->in}, ACT_SILU);
    op->conv_run(n->conv1, h, z, r->B, r->H, r->W, false);
    run_group_norm(r, &n->norm2, z, NULL, (NormInput){.x = h, .type = F32, .C = n->out, .shift = shift}, ACT_SILU);
    op->conv_run(n->conv2, y, z, r->B, r->H, r->W, true);
    const int failed = run_hook(r, n->module, y, input, n->out, e);
    workspace_release(r->work, mark);
    return failed;
}
