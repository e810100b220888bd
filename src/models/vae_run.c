/* SPDX-License-Identifier: MIT */
/* vae_run.c -- one picture through the decoder or the encoder.
 *
 *     decoder:  conv_in, mid, levels of resnets and nearest upsampling with a convolution, norm, silu, conv_out
 *     encoder:  conv_in, levels of resnets and a convolution of stride 2, mid, norm, silu, conv_out
 *     mid:      resnet, x += O attention(Q, K, V of norm(x)), resnet
 *
 *   the stream is f32 (HW, C) in two buffers that take turns
 *
 * diffusers models/autoencoders/vae.py, unet_2d_blocks.py */
#include <math.h>
#include "src/models/vae_parts.h"

typedef struct Stream {
    Run r;
    float *turn[2];
    int now;                        /* which holds the stream */
} Stream;

static int attention(const VaeAttention *a, const Run *r, float *x, int C, Err *e)
{
    const int64_t N = r->H*r->W;
    const WorkspaceMark mark = workspace_mark(r->work);
    void *z = run_take(r, r->type, N*C, e), *qkv = run_take(r, r->type, N*3*C, e);
    if (!qkv)
        return -1;
    run_group_norm(r, &a->norm, z, NULL, (NormInput){.x = x, .type = F32, .C = C}, ACT_NONE);
    op->conv_run(a->qkv, qkv, z, 1, N, 1, false);
    const char *q = qkv, *k = q + (size_t)C*dtype_size(r->type), *v = k + (size_t)C*dtype_size(r->type);
    op->attention(z, C, q, 3*C, k, 3*C, v, 3*C, r->type, 1, 1, C, N, N, NULL, 1/sqrtf((float)C), false);
    op->conv_run(a->out, x, z, 1, N, 1, true);
    workspace_release(r->work, mark);
    return 0;
}

static int mid(const VaeSide *side, Stream *s, Err *e)
{
    float *x = s->turn[s->now];
    const NormInput in = {.x = x, .type = F32, .C = side->mid[0].in};
    if (resnet_run(&side->mid[0], &s->r, x, &in, NULL, e)
        || (side->has_attention && attention(&side->attention, &s->r, x, side->mid[0].out, e)))
        return -1;
    return resnet_run(&side->mid[1], &s->r, x, &in, NULL, e);
}

static int resnets(const VaeLevel *l, Stream *s, Err *e)
{
    for (int j = 0; j < l->resnets; j++) {
        const int next = l->resnet[j].shortcut ? !s->now : s->now;
        const NormInput in = {.x = s->turn[s->now], .type = F32, .C = l->resnet[j].in};
        if (resnet_run(&l->resnet[j], &s->r, s->turn[next], &in, NULL, e))
            return -1;
        s->now = next;
    }
    return 0;
}

static int upsample(const VaeLevel *l, Stream *s, Err *e)
{
    Run *r = &s->r;
    const int64_t H = 2*r->H, W = 2*r->W;
    const WorkspaceMark mark = workspace_mark(r->work);
    void *z = run_take(r, r->type, H*W*l->C, e);
    if (!z)
        return -1;
    op->upsample(z, r->type, s->turn[s->now], F32, 1, r->H, r->W, l->C, H, W);
    op->conv_run(l->sample, s->turn[!s->now], z, 1, H, W, false);
    workspace_release(r->work, mark);
    s->now = !s->now;
    r->H = H;
    r->W = W;
    return 0;
}

static int downsample(const VaeLevel *l, Stream *s, Err *e)
{
    Run *r = &s->r;
    const WorkspaceMark mark = workspace_mark(r->work);
    const void *z = run_as_is(r, s->turn[s->now], r->H*r->W*l->C, e);
    if (!z)
        return -1;
    op->conv_run(l->sample, s->turn[!s->now], z, 1, r->H, r->W, false);
    workspace_release(r->work, mark);
    s->now = !s->now;
    r->H /= 2;
    r->W /= 2;
    return 0;
}

/* y (HW, out) device = conv_out(silu(norm_out(stream))) */
static int finish(const VaeSide *side, Stream *s, float *y, Err *e)
{
    const Norm *n = &side->norm_out;
    const Run *r = &s->r;
    const WorkspaceMark mark = workspace_mark(r->work);
    void *z = run_take(r, r->type, r->H*r->W*n->C, e);
    if (!z)
        return -1;
    run_group_norm(r, n, z, NULL, (NormInput){.x = s->turn[s->now], .type = F32, .C = n->C}, ACT_SILU);
    op->conv_run(side->conv_out, y, z, 1, r->H, r->W, false);
    workspace_release(r->work, mark);
    return 0;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int take_turns(Stream *s, int64_t values, Err *e)
{
    s->turn[0] = run_take(&s->r, F32, values, e);
    s->turn[1] = run_take(&s->r, F32, values, e);
    return s->turn[1] ? 0 : -1;
}

static int decode(Vae *v, const float *latent, int64_t h, int64_t w, float *pixels, Err *e)
{
    const VaeSide *d = &v->decoder;
    Stream s = {.r = {.type = v->type, .B = 1, .H = h, .W = w, .work = &v->work}};
    const int64_t n = h*w*v->latent, scale = vae_scale(v), N = h*scale*w*scale;
    int64_t most = h*w*v->C[v->levels - 1];
    for (int i = 0; i < v->levels; i++)                 /* level i in its own size, and what its upsampling makes */
        most = larger(most, (h*w << 2*(i + (i < v->levels - 1)))*d->level[i].C);
    float *x = run_take(&s.r, F32, n, e), *z = run_take(&s.r, F32, n, e), *y = run_take(&s.r, F32, N*3, e);
    if (!y || take_turns(&s, most, e))
        return -1;
    op->upload(x, latent, (size_t)n*sizeof *x);
    if (v->post_quant)
        op->conv_run(v->post_quant, z, x, 1, h, w, false);
    op->conv_run(d->conv_in, s.turn[0], v->post_quant ? z : x, 1, h, w, false);
    if (mid(d, &s, e))
        return -1;
    for (int i = 0; i < v->levels; i++)
        if (resnets(&d->level[i], &s, e) || (d->level[i].sample && upsample(&d->level[i], &s, e)))
            return -1;
    if (finish(d, &s, y, e))
        return -1;
    op->download(pixels, y, (size_t)(N*3)*sizeof *pixels);
    return 0;
}

static int encode(Vae *v, const float *pixels, int64_t H, int64_t W, float *moments, Err *e)
{
    const VaeSide *d = &v->encoder;
    Stream s = {.r = {.type = v->type, .B = 1, .H = H, .W = W, .work = &v->work}};
    const int64_t scale = vae_scale(v), n = H/scale*(W/scale)*2*v->latent;
    int64_t most = H*W*v->C[0];
    for (int i = 1; i < v->levels; i++)
        most = larger(most, (H >> i)*(W >> i)*v->C[i]);
    float *x = run_take(&s.r, F32, H*W*3, e), *y = run_take(&s.r, F32, n, e), *z = run_take(&s.r, F32, n, e);
    if (!z || take_turns(&s, most, e))
        return -1;
    op->upload(x, pixels, (size_t)(H*W*3)*sizeof *x);
    op->conv_run(d->conv_in, s.turn[0], x, 1, H, W, false);
    for (int i = 0; i < v->levels; i++)
        if (resnets(&d->level[i], &s, e) || (d->level[i].sample && downsample(&d->level[i], &s, e)))
            return -1;
    if (mid(d, &s, e) || finish(d, &s, y, e))
        return -1;
    if (v->quant)
        op->conv_run(v->quant, z, y, 1, s.r.H, s.r.W, false);
    op->download(moments, v->quant ? z : y, (size_t)n*sizeof *moments);
    return 0;
}

int vae_decode_one(Vae *v, const float *latent, int64_t h, int64_t w, float *pixels, Err *e)
{
    const WorkspaceMark mark = workspace_mark(&v->work);
    const int failed = decode(v, latent, h, w, pixels, e);
    workspace_release(&v->work, mark);
    return failed ? -1 : workspace_settle(&v->work, e);
}

int vae_encode_one(Vae *v, const float *pixels, int64_t H, int64_t W, float *moments, Err *e)
{
    const WorkspaceMark mark = workspace_mark(&v->work);
    const int failed = encode(v, pixels, H, W, moments, e);
    workspace_release(&v->work, mark);
    return failed ? -1 : workspace_settle(&v->work, e);
}
