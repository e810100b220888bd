/* SPDX-License-Identifier: MIT */
/* blocks_load.c -- norms and convolutions from a part's tensors; small helpers of an evaluation. */
#include <stdio.h>
#include "src/models/blocks.h"

enum { NAME_SIZE = 320, MOST_PARTS = 128 };

int norm_load(Norm *n, const Part *part, const char *prefix, int C, int groups, float eps, Err *e)
{
    char name[NAME_SIZE];
    const int64_t dim[1] = {C};
    *n = (Norm){.C = C, .groups = groups, .eps = eps};
    if (groups && C%groups)
        return err_set(e, "%s/config.json: \"norm_num_groups\" is %d, which does not divide the %d channels of %s",
                       part->path, groups, C, prefix);
    snprintf(name, sizeof name, "%s.weight", prefix);
    n->gamma = part_upload(part, name, 1, dim, e);
    snprintf(name, sizeof name, "%s.bias", prefix);
    n->beta = n->gamma ? part_upload(part, name, 1, dim, e) : NULL;
    return n->beta ? 0 : -1;
}

void norm_free(Norm *n)
{
    if (n->gamma)
        op->free(n->gamma);
    if (n->beta)
        op->free(n->beta);
    *n = (Norm){0};
}

ConvSpec conv_spec(int in, int out, int kernel, DType x_type, DType y_type)
{
    return (ConvSpec){.in = in, .out = out, .kernel = kernel, .stride = 1, .pad_before = (kernel - 1)/2,
                      .pad_after = (kernel - 1)/2, .x_type = x_type, .y_type = y_type};
}

int conv_load(Conv **c, const Part *part, const char *prefix, ConvSpec spec, Err *e)
{
    return conv_load_stacked(c, part, &prefix, &spec.out, 1, spec, BIAS, e);
}

int conv_load_stacked(Conv **c, const Part *part, const char *const *prefix, const int *out, int parts, ConvSpec spec,
                      BiasKind kind, Err *e)
{
    const Weight *weight[MOST_PARTS], *bias[MOST_PARTS] = {0};
    int biased = 0;
    *c = NULL;
    if (parts > MOST_PARTS)
        return err_set(e, "%s: %d layers to be computed as one, at most %d are", part->path, parts, MOST_PARTS);
    for (int i = 0; i < parts; i++) {
        char name[NAME_SIZE];
        const int64_t dim[4] = {out[i], spec.in, spec.kernel, spec.kernel};
        snprintf(name, sizeof name, "%s.weight", prefix[i]);
        const Weight *found = part_find(part, name);
        weight[i] = part_need(part, name, spec.kernel == 1 && found && found->ndim == 2 ? 2 : 4, dim, e);
        if (!weight[i])
            return -1;
        snprintf(name, sizeof name, "%s.bias", prefix[i]);
        if ((kind == BIAS || part_has(part, name)) && !(bias[i] = part_need(part, name, 1, dim, e)))
            return -1;
        biased += bias[i] != NULL;
    }
    if (biased && biased < parts)
        return err_set(e, "%s: of %s and its like only some have a bias", part->path, prefix[0]);
    return op->conv_create(c, &spec, weight, biased ? bias : NULL, parts, e);
}

int linear_load(Conv **c, const Part *part, const char *prefix, const char *const *suffix, const int *out, int parts,
                ConvSpec spec, BiasKind bias, Err *e)
{
    char text[3][NAME_SIZE];
    const char *name[3];
    spec.out = 0;
    for (int i = 0; i < parts; i++) {
        snprintf(text[i], sizeof text[i], "%s.%s", prefix, suffix[i]);
        name[i] = text[i];
        spec.out += out[i];
    }
    return conv_load_stacked(c, part, name, out, parts, spec, bias, e);
}

/* ---- in an evaluation ---- */

void *run_take(const Run *r, DType type, int64_t values, Err *e)
{
    return workspace_take(r->work, (size_t)values*dtype_size(type), e);
}

void run_unfold(void *x, size_t bytes, int64_t folds)
{
    for (int64_t i = 1; i < folds; i++)
        op->copy((char *)x + bytes*(size_t)i, x, bytes);
}

int run_hook(const Run *r, int module, float *act, const float *input, int C, Err *e)
{
    const HookCall call = {.act = act, .input = input, .B = r->B, .H = r->H, .W = r->W, .C = C};
    if (!r->tape)
        return hooks_call(r->hooks, module, call, e);
    if (hooks_want(r->hooks, module))
        tape_cut(r->tape, module, &call);
    return 0;
}

int run_hook_stream(const Run *r, int module, void *x, const float *input, int C, Err *e)
{
    const int64_t n = r->B*r->H*r->W*C;
    if (r->residual == F32 || !hooks_want(r->hooks, module))
        return run_hook(r, module, x, input, C, e);
    const WorkspaceMark mark = workspace_mark(r->work);
    float *act = run_take(r, F32, n, e);
    if (!act)
        return -1;
    op->convert(act, F32, x, r->residual, n);
    const int failed = run_hook(r, module, act, input, C, e);
    op->convert(x, r->residual, act, F32, n);
    workspace_release(r->work, mark);
    return failed;
}

int run_keep_input(const Run *r, int module, const void *x, DType type, int C, float **kept, Err *e)
{
    const int64_t n = r->B*r->H*r->W*C;
    *kept = NULL;
    if (!hooks_want_input(r->hooks, module))
        return 0;
    *kept = run_take(r, F32, n, e);
    if (!*kept)
        return -1;
    op->convert(*kept, F32, x, type, n);
    return 0;
}

void run_group_norm(const Run *r, const Norm *n, void *y, void *as_is, NormInput in, Activation act)
{
    op->group_norm(y, r->type, as_is, &in, n->gamma, n->beta, r->B, r->H*r->W, n->groups, n->eps, act);
}

DType type_as_is(DType type, DType residual)
{
    return residual == F32 ? type : residual;
}

const void *run_as_is(const Run *r, const void *x, int64_t n, Err *e)
{
    const DType type = type_as_is(r->type, r->residual);
    if (type == r->residual)
        return x;
    void *y = run_take(r, type, n, e);
    if (y)
        op->convert(y, type, x, r->residual, n);
    return y;
}

int text_index_check(const int32_t *index, int64_t B, int64_t texts, Err *e)
{
    for (int64_t b = 0; b < B; b++)
        if (index[b] < 0 || index[b] >= texts)
            return err_set(e, "image %lld asks for text state %d of %lld", (long long)b, (int)index[b],
                           (long long)texts);
    return 0;
}
