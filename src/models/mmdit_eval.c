/* SPDX-License-Identifier: MIT */
/* mmdit_eval.c -- one evaluation of Stable Diffusion 3's transformer: v = MMDiT(x, t, text).
 *
 *     a = patches(x) + positions      c = the text's rows      e = silu(W2 silu(W1 waves(t)) + pooled')
 *     each block, ln(y; s, g) = layer_norm(y) (1 + s) + g, shifts, scales and gates being rows of W e:
 *       (a', c') = attention over the rows of both, by q, k, v of ln(a) and of ln(c)
 *       a += gate W_o a' (+ gate W_o2 attention2(ln2(a)), of the image alone, both of a as it was)
 *       a += gate ff(ln(a));  c the same by weights of its own, in all blocks but the last
 *     v = unpatch(W ln(a))
 *
 *   x, v (B,H,W,C) f32     a (B,N,D), c (B,S,D) f32, N = h*w patches     e T (B,D)     k, v of attention T (B,N+S,2D)
 *
 * q and the results stay two matrices, of which attention is asked one after the other: only k and v are joined, image
 * by image, by the products that make them. Esser et al. 2024, Scaling Rectified Flow Transformers (arXiv 2403.03206);
 * diffusers models/transformers/transformer_sd3.py, models/attention.py, models/embeddings.py. */
#include <math.h>
#include <stdlib.h>
#include "src/models/mmdit_parts.h"
#include "src/models/sinusoids.h"

typedef struct Eval {
    MMDiT *m;
    Run r;                          /* H, W in patches */
    int64_t N, S;                   /* rows of an image and of its text */
    int D;
    float *image, *text;            /* the streams: (B,N,D), (B,S,D) */
    void *told;                     /* T (B,D): of t and the pooled embedding */
    float *modulation;              /* (B,stride), of the block at work */
    int stride;
} Eval;

static char *offset(const Eval *v, void *p, int64_t values)
{
    return (char *)p + values*(int64_t)dtype_size(v->r.type);
}

/* ---- parts of a block ---- */

/* y = layer_norm(x) modulated by rows `shift` and `scale` of the modulation, for n rows an image. */
static void modulate(const Eval *v, void *y, const float *x, int shift, int scale, int64_t n)
{
    op->modulate(y, v->r.type, x, v->modulation + (int64_t)shift*v->D, v->modulation + (int64_t)scale*v->D, v->stride,
                 v->r.B, n, v->D, MMDIT_EPS);
}

static void add_gated(const Eval *v, float *x, const float *y, int gate, int64_t n)
{
    op->add_gated(x, y, F32, v->modulation + (int64_t)gate*v->D, v->stride, v->r.B, n, v->D);
}

/* The norm of each head of N rows of q or k, in place. */
static void norm_heads(const Eval *v, void *x, int stride, const float *gamma, int64_t N)
{
    const MMDiTConfig *c = &v->m->config;
    if (gamma)
        op->rms_norm(x, v->r.type, stride, x, v->r.type, stride, gamma, N, c->heads, c->head_dim, MMDIT_EPS);
}

static void attend(const Eval *v, void *y, const void *q, int q_stride, const void *kv, int kv_stride, int64_t Sq,
                   int64_t Sk)
{
    const MMDiTConfig *c = &v->m->config;
    const char *values = (const char *)kv + (size_t)v->D*dtype_size(v->r.type);
    op->attention(y, v->D, q, q_stride, kv, kv_stride, values, kv_stride, v->r.type, v->r.B, c->heads, c->head_dim, Sq,
                  Sk, NULL, 1/sqrtf((float)c->head_dim), false);
}

/* q of z (B,n,D) in rows of their own, k and v among the joined rows, from row `from` of each image on. */
static void project(const Eval *v, const MMDiTSide *s, void *q, void *kv, int64_t from, void *z, int64_t n)
{
    const int D = v->D;
    const int64_t joined = v->N + v->S;
    for (int64_t b = 0; b < v->r.B; b++) {
        void *at = offset(v, kv, (b*joined + from)*2*D);
        op->conv_run(s->kv, at, offset(v, z, b*n*D), 1, n, 1, false);
        norm_heads(v, at, 2*D, s->gamma_k, n);
    }
    if (s->q) {
        op->conv_run(s->q, q, z, 1, v->r.B*n, 1, false);
        norm_heads(v, q, D, s->gamma_q, v->r.B*n);
    }
}

/* x += gate out(y), hooks of the module seeing out(y); module -1: none. y (B,n,in) T. */
static int add_branch(const Eval *v, int module, Conv *out, float *x, const void *y, const float *input, int gate,
                      int64_t n, Err *e)
{
    const WorkspaceMark mark = workspace_mark(v->r.work);
    float *branch = run_take(&v->r, F32, v->r.B*n*v->D, e);
    if (!branch)
        return -1;
    op->conv_run(out, branch, y, 1, v->r.B*n, 1, false);
    if (module >= 0 && run_hook(&v->r, module, branch, input, v->D, e))
        return -1;
    add_gated(v, x, branch, gate, n);
    workspace_release(v->r.work, mark);
    return 0;
}

/* x (B,n,D) += gate ff(ln(x)), by shift, scale and gate from row `at` on. */
static int feed_forward(const Eval *v, const MMDiTSide *s, int module, float *x, int at, int64_t n, Err *e)
{
    const WorkspaceMark mark = workspace_mark(v->r.work);
    const int64_t rows = v->r.B*n;
    float *input = NULL;
    void *z = run_take(&v->r, v->r.type, rows*v->D, e), *wide = run_take(&v->r, v->r.type, rows*4*v->D, e);
    if (!wide)
        return -1;
    modulate(v, z, x, at, at + 1, n);
    if (module >= 0 && run_keep_input(&v->r, module, z, v->r.type, v->D, &input, e))
        return -1;
    op->conv_run(s->ff1, wide, z, 1, rows, 1, false);
    const int failed = add_branch(v, module, s->ff2, x, wide, input, at + 2, n, e);
    workspace_release(v->r.work, mark);
    return failed;
}

/* attn2 of z2 (B,N,D), the image's rows as the block found them, modulated. */
static int dual_attention(const Eval *v, const MMDiTBlock *b, void *z2, Err *e)
{
    const int D = v->D;
    const int64_t rows = v->r.B*v->N;
    float *input;
    void *qkv = run_take(&v->r, v->r.type, rows*3*D, e);
    if (!qkv || run_keep_input(&v->r, b->module_attn2, z2, v->r.type, D, &input, e))
        return -1;
    op->conv_run(b->qkv2, qkv, z2, 1, rows, 1, false);
    norm_heads(v, qkv, 3*D, b->gamma_q2, rows);
    norm_heads(v, offset(v, qkv, D), 3*D, b->gamma_k2, rows);
    attend(v, z2, qkv, 3*D, offset(v, qkv, D), 3*D, v->N, v->N);
    return add_branch(v, b->module_attn2, b->out2, v->image, z2, input, 8, v->N, e);
}

static int attention(const Eval *v, const MMDiTBlock *b, Err *e)
{
    const WorkspaceMark mark = workspace_mark(v->r.work);
    const int D = v->D, at = b->text_at;
    const int64_t B = v->r.B, N = v->N, S = v->S;
    const DType type = v->r.type;
    float *input;
    void *z = run_take(&v->r, type, B*N*D, e), *z_text = run_take(&v->r, type, B*S*D, e);
    void *q = run_take(&v->r, type, B*N*D, e), *q_text = run_take(&v->r, type, B*S*D, e);
    void *kv = run_take(&v->r, type, B*(N + S)*2*D, e), *z2 = b->qkv2 ? run_take(&v->r, type, B*N*D, e) : NULL;
    if (!kv || (b->qkv2 && !z2))
        return -1;
    modulate(v, z, v->image, 0, 1, N);
    if (b->text.q)
        modulate(v, z_text, v->text, at, at + 1, S);
    else
        modulate(v, z_text, v->text, at + 1, at, S);        /* of the last block the scale comes first */
    if (z2)
        modulate(v, z2, v->image, 6, 7, N);
    if (run_keep_input(&v->r, b->module_attn, z, type, D, &input, e))
        return -1;
    project(v, &b->image, q, kv, 0, z, N);
    project(v, &b->text, q_text, kv, N, z_text, S);
    attend(v, z, q, D, kv, 2*D, N, N + S);
    if (b->text.q)
        attend(v, z_text, q_text, D, kv, 2*D, S, N + S);
    const int failed = add_branch(v, b->module_attn, b->image.out, v->image, z, input, 2, N, e)
                    || (b->text.q && add_branch(v, -1, b->text.out, v->text, z_text, NULL, at + 2, S, e))
                    || (z2 && dual_attention(v, b, z2, e)) ? -1 : 0;
    workspace_release(v->r.work, mark);
    return failed;
}

static int run_block(Eval *v, const MMDiTBlock *b, Err *e)
{
    const WorkspaceMark mark = workspace_mark(v->r.work);
    float *input;
    v->stride = b->width;
    v->modulation = run_take(&v->r, F32, v->r.B*b->width, e);
    if (!v->modulation || run_keep_input(&v->r, b->module, v->image, F32, v->D, &input, e))
        return -1;
    op->conv_run(b->modulation, v->modulation, v->told, 1, v->r.B, 1, false);
    const int failed = attention(v, b, e) || feed_forward(v, &b->image, b->module_ff, v->image, 3, v->N, e)
                    || (b->text.q && feed_forward(v, &b->text, -1, v->text, b->text_at + 3, v->S, e))
                    || run_hook(&v->r, b->module, v->image, input, v->D, e) ? -1 : 0;
    workspace_release(v->r.work, mark);
    return failed;
}

/* ---- the whole ---- */

/* What the blocks' modulations are made of. */
static int embed_time(Eval *v, Err *e)
{
    const MMDiT *m = v->m;
    const int64_t B = v->r.B;
    v->told = run_take(&v->r, v->r.type, B*v->D, e);
    const WorkspaceMark mark = workspace_mark(v->r.work);
    float *h = run_take(&v->r, F32, v->D, e), *time = run_take(&v->r, F32, v->D, e);
    float *sum = run_take(&v->r, F32, B*v->D, e);
    if (!sum)
        return -1;
    op->conv_run(m->time1, h, m->waves, 1, 1, 1, false);
    op->conv_run(m->time2, time, h, 1, 1, 1, false);
    op->embed(sum, m->pooled, time, m->pooled_rows, B, 1, v->D);
    op->activate(v->told, v->r.type, sum, B*v->D, ACT_SILU);
    workspace_release(v->r.work, mark);
    return 0;
}

static int evaluate(Eval *v, float *out, const float *x, int64_t latents, Err *e)
{
    const MMDiT *m = v->m;
    const MMDiTConfig *c = &m->config;
    const int64_t B = v->r.B, N = v->N;
    const int D = v->D, wide = c->patch*c->patch*c->C;
    v->image = run_take(&v->r, F32, B*N*D, e);
    v->text = run_take(&v->r, F32, B*v->S*D, e);
    if (!v->text || embed_time(v, e))
        return -1;
    for (int64_t b = 0; b < latents; b++)
        op->copy(v->image + b*N*D, m->position, (size_t)(N*D)*sizeof *v->image);
    op->conv_run(m->patches, v->image, x, latents, v->r.H*c->patch, v->r.W*c->patch, true);
    run_unfold(v->image, (size_t)(latents*N*D)*sizeof *v->image, B/latents);
    op->embed(v->text, m->state, NULL, m->state_rows, B*v->S, 1, D);
    for (int i = 0; i < c->layers; i++)
        if (run_block(v, &m->block[i], e))
            return -1;

    void *z = run_take(&v->r, v->r.type, B*N*D, e);
    float *rows = run_take(&v->r, F32, B*N*wide, e);
    v->stride = 2*D;
    v->modulation = run_take(&v->r, F32, B*v->stride, e);
    if (!v->modulation)
        return -1;
    op->conv_run(m->norm_out, v->modulation, v->told, 1, B, 1, false);
    modulate(v, z, v->image, 1, 0, N);
    op->conv_run(m->proj_out, rows, z, 1, B*N, 1, false);
    op->unpatch(out, rows, B, v->r.H, v->r.W, c->patch, c->C);
    return 0;
}

typedef struct Asked { MMDiT *m; float *out; const float *x; int64_t B; } Asked;

/* EvaluateFn: m->B images of B latents of m->h x m->w patches at the t whose sinusoids m->waves holds. */
static int evaluate_asked(void *context, Tape *tape, Err *e)
{
    const Asked *a = context;
    MMDiT *m = a->m;
    const WorkspaceMark mark = workspace_mark(&m->work);
    Eval v = {.m = m, .r = {.type = m->type, .B = m->B, .H = m->h, .W = m->w, .work = &m->work, .hooks = &m->hooks,
                            .tape = tape},
              .N = m->h*m->w, .S = m->S, .D = m->config.D};
    const int failed = evaluate(&v, a->out, a->x, a->B, e);
    workspace_release(&m->work, mark);
    return failed;
}

/* The middle h x w of the positions, on the device. */
static int set_position(MMDiT *m, int64_t h, int64_t w, Err *e)
{
    const int most = m->config.most, D = m->config.D;
    const size_t value = dtype_size(m->positions->type), row = (size_t)(w*D), bytes = (size_t)h*row*sizeof(float);
    if (h == m->h && w == m->w)
        return 0;
    void *device = m->position;
    float *host = malloc(bytes);
    const int failed = host ? device_grow(&device, &m->position_bytes, bytes, e) : err_set(e, "out of memory");
    m->position = device;
    m->h = m->w = 0;
    for (int64_t i = 0; i < h && !failed; i++) {
        const int64_t at = ((most - h)/2 + i)*most + (most - w)/2;
        dtype_to_f32(host + (size_t)i*row, (const char *)m->positions->data + (size_t)(at*D)*value, m->positions->type,
                     row);
    }
    if (!failed) {
        op->upload(m->position, host, bytes);
        m->h = h;
        m->w = w;
    }
    free(host);
    return failed;
}

int mmdit_eval(MMDiT *m, float *out, const float *x, int64_t B, int64_t H, int64_t W, float t, Err *e)
{
    float waves[MMDIT_WAVES];
    if (B < 1 || m->B < B || m->B%B)
        return err_set(e, "a batch of %lld images, but text for %lld", (long long)B, (long long)m->B);
    if (!m->has_pooled)
        return err_set(e, "text without its pooled embedding, which the model takes");
    if (mmdit_check_size(m, H, W, e) || set_position(m, H/m->config.patch, W/m->config.patch, e))
        return -1;
    sinusoids(waves, t, MMDIT_WAVES, true, 0);
    op->upload(m->waves, waves, sizeof waves);
    const TapeKey key = {{B, m->B, H, W, m->S, m->hooks.count},
                         {x, out, m->position, m->state, m->state_rows, m->pooled, m->pooled_rows}};
    return tapes_run(&m->tapes, key, evaluate_asked, &(Asked){m, out, x, B}, &m->hooks, &m->work, e);
}
