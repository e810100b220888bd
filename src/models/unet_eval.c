/* SPDX-License-Identifier: MIT */
/* unet_eval.c -- one evaluation of the UNet: eps = UNet(x, t, text).
 *
 *     e = silu(W2 silu(W1 waves)),  waves of t (unet_time.c)
 *     SDXL: e = silu(W2 silu(W1 waves) + a), a of the image's text (unet_time.c)
 *     temb = W_proj e, of all resnets at once
 *     h = conv_in(x);  down: h -> levels, each result kept as a skip;  mid;  up: [h, last skip] -> levels
 *     eps = conv_out(silu(norm(h)))
 *
 *   x, eps (B,H,W,c) f32      h (B,HW,C) R        temb (1, sum of the resnets' channels), t being one for the batch,
 *                                                 SDXL: (texts, ...); then (B,C) of each resnet, for its norm's shift
 *
 * B is that of the texts. Until the first of them is looked at, images that differ by their text alone, the halves of
 * classifier-free guidance, are computed once (Run's folds): a twentieth of an image of Stable Diffusion 1.5, a ninth
 * of one of minisd.
 *
 * A level's result is the skip itself, changed in place by what follows until the next resnet. On the way up two
 * buffers take turns. An upsampling goes to the size of the next skip, which is twice its own unless that was odd
 * (diffusers' upsample_size). diffusers models/unets/unet_2d_condition.py, models/embeddings.py. */
#include "src/models/unet_parts.h"

typedef struct Skip { void *x; int C; int64_t H, W; } Skip;

typedef struct Eval {
    const UNet *u;
    Run r;
    int64_t B;                      /* of the texts: r.B*r.folds */
    float *shifts;                  /* of each resnet (B,C), in the order of their offsets */
    Skip skip[UNET_SKIPS];
    int skips;
    void *turn[2];                  /* buffers of the way up */
    int next;                       /* which is free */
} Eval;

static int embed_time(Eval *v, Err *e)
{
    const UNet *u = v->u;
    const int64_t B = v->B, rows = u->config.P ? u->text_rows/u->S : 1;
    const int T = u->config.time_width, temb = u->temb, piece = u->piece;
    v->shifts = run_take(&v->r, F32, B*temb, e);
    const WorkspaceMark mark = workspace_mark(v->r.work);
    float *a = run_take(&v->r, F32, rows*T, e), *b = run_take(&v->r, F32, rows*T, e);
    float *row = run_take(&v->r, F32, rows*temb, e);
    if (!row)
        return -1;
    op->conv_run(u->time1, a, u->waves, 1, 1, 1, false);
    op->conv_run(u->time2, b, a, 1, 1, 1, false);
    if (u->config.P) {              /* the sum by the op that has it: rows of the added, b as its position */
        op->embed(a, u->added, b, u->added_rows, rows, 1, T);
        op->activate(b, F32, a, rows*T, ACT_SILU);
    }
    op->conv_run(u->time_proj, row, b, 1, rows, 1, false);
    op->embed(v->shifts, row, NULL, u->shift_rows, B*(temb/piece), 1, piece);
    workspace_release(v->r.work, mark);
    return 0;
}

/* skip (B,HW,n->in - C) beside x (B,HW,C), or NULL. */
static int run_resnet(Eval *v, const Resnet *n, void *y, const void *x, int C, const void *skip, Err *e)
{
    const NormInput in = {.x = x, .type = v->r.residual, .C = C, .beside = skip, .C_beside = n->in - C};
    return resnet_run(n, &v->r, y, &in, v->shifts + v->B*n->temb, e);
}

/* ---- levels ---- */

static int64_t rows(const Run *r)
{
    return r->B*r->H*r->W;
}

static void *push(Eval *v, int C, int64_t H, int64_t W, Err *e)
{
    void *x = run_take(&v->r, v->r.residual, v->B*H*W*C, e);
    if (x)
        v->skip[v->skips++] = (Skip){x, C, H, W};
    return x;
}

static void unfold_skips(Eval *v, int count, int64_t B, int folds)
{
    for (int i = 0; i < count; i++) {
        const Skip *s = &v->skip[i];
        run_unfold(s->x, (size_t)(B*s->H*s->W*s->C)*dtype_size(v->r.residual), folds);
    }
}

/* All images of the batch from here on, where anyone is to see them. */
static void unfold_if(Eval *v, bool seen)
{
    if (!seen)
        return;
    unfold_skips(v, v->skips, v->r.B, v->r.folds);
    v->r.B = v->B;
    v->r.folds = 1;
}

/* A transformer of the way down, on the last skip: it unfolds that one. */
static int run_transformer(Eval *v, const Transformer *t, Err *e)
{
    const int64_t B = v->r.B;
    const int folds = v->r.folds;
    if (transformer_run(t, &v->r, v->skip[v->skips - 1].x, e))
        return -1;
    unfold_skips(v, v->skips - 1, B, folds);
    return 0;
}

static int downsample(Eval *v, const UNetLevel *l, const void *x, Err *e)
{
    Run *r = &v->r;
    const int64_t pads = 1 + v->u->config.downsample_padding, H = (r->H + pads - 3)/2 + 1, W = (r->W + pads - 3)/2 + 1;
    if (r->H + pads < 3 || r->W + pads < 3)
        return err_set(e, "a latent of this size has no pixel left to be halved at %s", v->u->hooks.module[l->module]);
    void *y = push(v, l->C, H, W, e);
    const WorkspaceMark mark = workspace_mark(r->work);
    const void *z = y ? run_as_is(r, x, rows(r)*l->C, e) : NULL;
    if (!z)
        return -1;
    op->conv_run(l->sample, y, z, r->B, r->H, r->W, false);
    workspace_release(r->work, mark);
    r->H = H;
    r->W = W;
    unfold_if(v, hooks_want(r->hooks, l->module_sample));
    return run_hook_stream(r, l->module_sample, y, NULL, l->C, e);
}

/* input: of R, as it still is, or NULL. */
static int hook_level(Eval *v, const UNetLevel *l, void *x, const void *input, Err *e)
{
    const WorkspaceMark mark = workspace_mark(v->r.work);
    float *kept = NULL;
    if (input && run_keep_input(&v->r, l->module, input, v->r.residual, l->C, &kept, e))
        return -1;
    const int failed = run_hook_stream(&v->r, l->module, x, kept, l->C, e);
    workspace_release(v->r.work, mark);
    return failed;
}

static int run_down(Eval *v, const UNetLevel *l, Err *e)
{
    const Skip in = v->skip[v->skips - 1];
    const void *x = in.x;
    for (int j = 0; j < l->resnets; j++) {
        unfold_if(v, hooks_want(v->r.hooks, l->resnet[j].module)
                     || (l->attentions && hooks_want_within(v->r.hooks, l->attention[j].module)));
        void *y = push(v, l->C, v->r.H, v->r.W, e);
        if (!y || run_resnet(v, &l->resnet[j], y, x, l->resnet[j].in, NULL, e)
            || (l->attentions && run_transformer(v, &l->attention[j], e)))
            return -1;
        x = y;
    }
    if (l->sample && downsample(v, l, x, e))
        return -1;
    unfold_if(v, hooks_want(v->r.hooks, l->module));
    const Skip *out = &v->skip[v->skips - 1];
    const bool same = in.C == out->C && in.H == out->H && in.W == out->W;
    return hook_level(v, l, out->x, same ? in.x : NULL, e);
}

static int run_mid(Eval *v, void **x, Err *e)
{
    const UNetLevel *l = &v->u->mid;
    const void *in = *x;
    void *y = run_take(&v->r, v->r.residual, rows(&v->r)*l->C, e);
    if (!y || run_resnet(v, &l->resnet[0], y, in, l->C, NULL, e) || transformer_run(&l->attention[0], &v->r, y, e)
        || run_resnet(v, &l->resnet[1], y, y, l->C, NULL, e))
        return -1;
    *x = y;
    return hook_level(v, l, y, in, e);
}

static int upsample(Eval *v, const UNetLevel *l, void **x, Err *e)
{
    Run *r = &v->r;
    const int64_t H = v->skip[v->skips - 1].H, W = v->skip[v->skips - 1].W;
    const DType type = type_as_is(r->type, r->residual);
    void *y = v->turn[v->next];
    const WorkspaceMark mark = workspace_mark(r->work);
    void *z = run_take(r, type, r->B*H*W*l->C, e);
    if (!z)
        return -1;
    op->upsample(z, type, *x, r->residual, r->B, r->H, r->W, l->C, H, W);
    op->conv_run(l->sample, y, z, r->B, H, W, false);
    workspace_release(r->work, mark);
    v->next ^= 1;
    r->H = H;
    r->W = W;
    *x = y;
    return run_hook_stream(r, l->module_sample, y, NULL, l->C, e);
}

static int run_up(Eval *v, const UNetLevel *l, void **x, int *C, Err *e)
{
    const WorkspaceMark mark = workspace_mark(v->r.work);
    float *input = NULL;
    if (!l->sample && *C == l->C && run_keep_input(&v->r, l->module, *x, v->r.residual, *C, &input, e))
        return -1;
    for (int j = 0; j < l->resnets; j++) {
        const Skip s = v->skip[--v->skips];
        void *y = v->turn[v->next];
        if (run_resnet(v, &l->resnet[j], y, *x, *C, s.x, e)
            || (l->attentions && transformer_run(&l->attention[j], &v->r, y, e)))
            return -1;
        v->next ^= 1;
        *x = y;
        *C = l->C;
    }
    if (l->sample && upsample(v, l, x, e))
        return -1;
    const int failed = run_hook_stream(&v->r, l->module, *x, input, l->C, e);
    workspace_release(v->r.work, mark);
    return failed;
}

/* The two buffers of the way up, as large as its largest result. */
static int take_turns(Eval *v, Err *e)
{
    int64_t most = 0;
    int at = v->skips - 1;          /* the last skip of the level */
    for (int i = 0; i < v->u->config.levels; i++) {
        const UNetLevel *l = &v->u->up[i];
        const int next = at - l->resnets;
        const Skip *s = &v->skip[l->sample ? next : at];
        if (s->H*s->W*l->C > most)
            most = s->H*s->W*l->C;
        at = next;
    }
    v->turn[0] = run_take(&v->r, v->r.residual, v->r.B*most, e);
    v->turn[1] = run_take(&v->r, v->r.residual, v->r.B*most, e);
    return v->turn[1] ? 0 : -1;
}

/* ---- the whole ---- */

/* x of the whole batch, where no two images are one from the beginning on: with texts in the time embedding (SDXL), or
 * hooks at the first convolution. */
static const float *unfold_latents(Eval *v, const float *x, Err *e)
{
    const UNetConfig *c = &v->u->config;
    const size_t bytes = sizeof *x*(size_t)(rows(&v->r)*c->in);
    const int folds = v->r.folds;
    if (folds == 1 || (!c->P && !hooks_want(v->r.hooks, v->u->module_conv_in)))
        return x;
    float *all = run_take(&v->r, F32, v->B*v->r.H*v->r.W*c->in, e);
    if (!all)
        return NULL;
    op->copy(all, x, bytes);
    run_unfold(all, bytes, folds);
    unfold_if(v, true);
    return all;
}

static int evaluate(Eval *v, float *eps, const float *x, Err *e)
{
    const UNet *u = v->u;
    const UNetConfig *c = &u->config;
    Run *r = &v->r;
    if (!(x = unfold_latents(v, x, e)) || embed_time(v, e))
        return -1;
    void *h = push(v, c->C[0], r->H, r->W, e);
    if (!h)
        return -1;
    op->conv_run(u->conv_in, h, x, r->B, r->H, r->W, false);
    if (run_hook_stream(r, u->module_conv_in, h, c->in == c->C[0] ? x : NULL, c->C[0], e))
        return -1;
    for (int i = 0; i < c->levels; i++)
        if (run_down(v, &u->down[i], e))
            return -1;
    unfold_if(v, true);
    h = v->skip[v->skips - 1].x;
    if (run_mid(v, &h, e) || take_turns(v, e))
        return -1;
    int C = u->mid.C;
    for (int i = 0; i < c->levels; i++)
        if (run_up(v, &u->up[i], &h, &C, e))
            return -1;

    void *z = run_take(r, r->type, rows(r)*C, e);
    if (!z)
        return -1;
    run_group_norm(r, &u->norm_out, z, NULL, (NormInput){.x = h, .type = r->residual, .C = C}, ACT_SILU);
    float *input = NULL;
    if (c->in == C && run_keep_input(r, u->module_conv_out, z, r->type, C, &input, e))
        return -1;
    op->conv_run(u->conv_out, eps, z, r->B, r->H, r->W, false);
    return run_hook(r, u->module_conv_out, eps, input, c->in, e);
}

typedef struct Asked { UNet *u; float *eps; const float *x; int64_t B, H, W; } Asked;

/* EvaluateFn: u->B images of B latents at the t whose sinusoids u->waves holds. */
static int evaluate_asked(void *context, Tape *tape, Err *e)
{
    const Asked *a = context;
    UNet *u = a->u;
    const WorkspaceMark mark = workspace_mark(&u->work);
    Eval v = {.u = u, .B = u->B,
              .r = {.type = u->type, .residual = u->residual, .B = a->B, .folds = (int)(u->B/a->B), .H = a->H,
                    .W = a->W, .work = &u->work, .hooks = &u->hooks, .tape = tape, .kv_index = u->kv_index,
                    .S = u->S}};
    const int failed = evaluate(&v, a->eps, a->x, e);
    workspace_release(&u->work, mark);
    return failed;
}

int unet_eval(UNet *u, float *eps, const float *x, int64_t B, int64_t H, int64_t W, float t, Err *e)
{
    if (B < 1 || u->B < B || u->B%B)
        return err_set(e, "a batch of %lld images, but text for %lld", (long long)B, (long long)u->B);
    if (u->config.P && !u->has_added)
        return err_set(e, "text without its pooled embedding, which the model takes");
    if (unet_set_time(u, t, e))
        return -1;
    const TapeKey key = {{B, u->B, H, W, u->S, u->text_rows, u->hooks.count},
                         {x, eps, u->kv, u->kv_index, u->shift_rows, u->added, u->added_rows}};
    return tapes_run(&u->tapes, key, evaluate_asked, &(Asked){u, eps, x, B, H, W}, &u->hooks, &u->work, e);
}
