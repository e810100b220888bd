/* SPDX-License-Identifier: MIT */
/* conv.c -- convolution and linear layers, by oneDNN's convolution primitive; those of bf16 by conv_amx.c where AMX
 * is.
 *
 *     y[b,i,j,o] = act(sum_{r,s,c} x[b, i*stride + r - pad, j*stride + s - pad, c] W[o,c,r,s] + bias[o])  or  y += ...
 *
 *   x (B,H,W,in) f32 or bf16, channels last   W (out,in,kernel,kernel)   y (B,Ho,Wo,out); sums in f32
 *
 * A linear layer is a 1x1 convolution over one line of N = B*H*W points. Bias, activation and the sum with y run on the
 * tile while it is in registers. oneDNN makes code for a shape; each Conv keeps what it made, by (B, H, W, add).
 * Weights are packed at creation for a likely shape and packed again for shapes that want another layout, from the
 * first packing. Bound by arithmetic: 97-100 % of peak on square images of 64 channels and more.
 *
 * With ACT_GEGLU the product is made in f32 for runs of rows that stay in the caches, and gated from there.
 *
 * Same bytes: oneDNN may choose other code for another B or number of rows; it sums over channels and taps in an order
 * that tests/unit/op_conv.c checks to be one for all of them. Its code for bf16 on machines without AVX512-BF16 does
 * not keep that order (nor is it fast), so those machines multiply f32 only. Nor does it, of bf16, in linear layers of
 * some 3,700 channels and more, which it sums in stretches that depend on the number of rows: these are made of pieces,
 *     y = x[:,0:p] W_0 + bias      y += x[:,p:2p] W_1 ...
 * each of a copy of its channels, for LONG_ROWS rows at a time. */
#include <assert.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cpu/amx.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/onednn.h"

/* GATED_*: bytes of a gated run's product for each thread, and its least rows: with fewer, weights are read too
 * often. */
enum { MOST_SHAPES = 64, MOST_LAYOUTS = 8, GATED_BYTES = 1 << 20, GATED_ROWS = 256 };
/* LONGEST_SUM: channels of a linear layer of bf16, or of a piece of it. */
enum { LONGEST_SUM = 3072, LONG_ROWS = 1024 };

typedef struct Shape {
    int64_t B, H, W;
    bool add;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, y, scratch;
    int layout;                     /* index into Conv.packed */
    size_t scratch_bytes;
} Shape;

struct Conv {
    ConvSpec spec;
    dnnl_memory_t packed[MOST_LAYOUTS];
    int layouts;
    dnnl_memory_t bias;             /* NULL: none */
    Shape shape[MOST_SHAPES];
    int shapes, oldest;             /* a full table drops its oldest */
    AmxConv *amx;                   /* then nothing of this is used but spec; NULL: oneDNN's */
    struct Conv **piece;            /* [pieces], of the channels in order; then the above are theirs */
    int pieces;                     /* 0: the layer is whole */
};

static dnnl_engine_t engine;
static dnnl_stream_t stream;

/* Sizes were checked above, so a failure here is a mistake of ours or an end of memory. */
static void check(dnnl_status_t status, const char *what)
{
    if (status != dnnl_success) {
        fprintf(stderr, "oneDNN: %s: status %d\n", what, (int)status);
        abort();
    }
}

static void start(void)
{
    if (engine)
        return;
    check(dnnl_engine_create(&engine, dnnl_cpu, 0), "engine");
    check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "stream");
}

static dnnl_data_type_t data_type(DType t)
{
    return t == BF16 ? dnnl_bf16 : dnnl_f32;
}

static dnnl_memory_desc_t describe(int ndims, const dnnl_dims_t dim, DType type, dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t d;
    check(onednn_describe(&d, ndims, dim, data_type(type), tag), "descriptor");
    return d;
}

static dnnl_primitive_attr_t attributes(const ConvSpec *s, bool add)
{
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t ops;
    check(dnnl_primitive_attr_create(&attr), "attributes");
    check(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user), "scratchpad");
    check(dnnl_post_ops_create(&ops), "post-ops");
    if (add)
        check(onednn_append_sum(ops), "sum");
    if (s->act == ACT_GELU)
        check(onednn_append_eltwise(ops, dnnl_eltwise_gelu_erf, 0), "gelu");
    else if (s->act == ACT_GELU_TANH)
        check(onednn_append_eltwise(ops, dnnl_eltwise_gelu_tanh, 0), "gelu");
    else if (s->act == ACT_RELU)
        check(onednn_append_eltwise(ops, dnnl_eltwise_relu, 0), "relu");
    else if (s->act == ACT_SILU || s->act == ACT_QUICK_GELU)
        check(onednn_append_eltwise(ops, dnnl_eltwise_swish, s->act == ACT_SILU ? 1.0f : 1.702f), "swish");
    check(dnnl_primitive_attr_set_post_ops(attr, ops), "post-ops");
    dnnl_post_ops_destroy(ops);
    return attr;
}

static dnnl_primitive_desc_t convolution(const Conv *c, int64_t B, int64_t H, int64_t W, bool add)
{
    const ConvSpec *s = &c->spec;
    const int64_t pads = s->pad_before + s->pad_after;
    const dnnl_dims_t x_dim = {B, s->in, H, W}, w_dim = {s->out, s->in, s->kernel, s->kernel};
    const dnnl_dims_t y_dim = {B, s->out, (H + pads - s->kernel)/s->stride + 1, (W + pads - s->kernel)/s->stride + 1};
    const dnnl_dims_t strides = {s->stride, s->stride}, before = {s->pad_before, s->pad_before};
    const dnnl_dims_t after = {s->pad_after, s->pad_after}, bias_dim = {s->out};
    dnnl_memory_desc_t x = describe(4, x_dim, s->x_type, dnnl_nhwc), b = describe(1, bias_dim, F32, dnnl_x);
    dnnl_memory_desc_t w = describe(4, w_dim, s->x_type, dnnl_format_tag_any);
    dnnl_memory_desc_t y = describe(4, y_dim, s->act == ACT_GEGLU ? F32 : s->y_type, dnnl_nhwc);
    dnnl_primitive_attr_t attr = attributes(s, add);
    dnnl_primitive_desc_t pd;
    check(onednn_convolution(&pd, engine, onednn_layout(&x), onednn_layout(&w), c->bias ? onednn_layout(&b) : NULL,
                             onednn_layout(&y), strides, before, after, attr), "convolution");
    dnnl_memory_desc_t *const all[] = {&x, &w, &b, &y};
    for (size_t i = 0; i < sizeof all/sizeof *all; i++)
        onednn_forget(all[i]);
    dnnl_primitive_attr_destroy(attr);
    return pd;
}

static dnnl_memory_t memory_of(OnednnLayout d, void *data)
{
    dnnl_memory_t m;
    check(dnnl_memory_create(&m, d, engine, data), "memory");
    return m;
}

static void reorder(dnnl_memory_t from, dnnl_memory_t to)
{
    OnednnLayout a, b;
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t p;
    dnnl_memory_get_memory_desc(from, &a);
    dnnl_memory_get_memory_desc(to, &b);
    check(dnnl_reorder_primitive_desc_create(&pd, a, engine, b, engine, NULL), "packing weights");
    check(dnnl_primitive_create(&p, pd), "packing weights");
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    check(dnnl_primitive_execute(p, stream, 2, args), "packing weights");
    check(dnnl_stream_wait(stream), "packing weights");
    dnnl_primitive_destroy(p);
    dnnl_primitive_desc_destroy(pd);
}

/* Index of the packing that pd wants, made from `from` when there is none yet. */
static int pack(Conv *c, const_dnnl_primitive_desc_t pd, dnnl_memory_t from)
{
    OnednnLayout wanted = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0), have;
    for (int i = 0; i < c->layouts; i++) {
        dnnl_memory_get_memory_desc(c->packed[i], &have);
        if (dnnl_memory_desc_equal(have, wanted))
            return i;
    }
    if (c->layouts == MOST_LAYOUTS) {
        fprintf(stderr, "oneDNN: a layer of %d to %d channels wants more than %d layouts\n", c->spec.in, c->spec.out,
                MOST_LAYOUTS);
        abort();
    }
    dnnl_memory_t m = memory_of(wanted, DNNL_MEMORY_ALLOCATE);
    reorder(from, m);
    c->packed[c->layouts] = m;
    return c->layouts++;
}

static void shape_clear(Shape *s)
{
    dnnl_primitive_destroy(s->primitive);
    dnnl_memory_destroy(s->x);
    dnnl_memory_destroy(s->y);
    dnnl_memory_destroy(s->scratch);
}

static Shape *shape_prepare(Conv *c, int64_t B, int64_t H, int64_t W, bool add)
{
    int at = c->shapes;
    if (c->shapes < MOST_SHAPES) {
        c->shapes++;
    } else {
        at = c->oldest;
        c->oldest = (c->oldest + 1)%MOST_SHAPES;
        shape_clear(&c->shape[at]);
    }
    Shape *s = &c->shape[at];
    dnnl_primitive_desc_t pd = convolution(c, B, H, W, add);
    OnednnLayout scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    *s = (Shape){.B = B, .H = H, .W = W, .add = add, .scratch_bytes = dnnl_memory_desc_get_size(scratch)};
    s->layout = pack(c, pd, c->packed[0]);
    s->x = memory_of(dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0), DNNL_MEMORY_NONE);
    s->y = memory_of(dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0), DNNL_MEMORY_NONE);
    s->scratch = memory_of(scratch, DNNL_MEMORY_NONE);
    check(dnnl_primitive_create(&s->primitive, pd), "convolution");
    dnnl_primitive_desc_destroy(pd);
    return s;
}

/* A layer as one of weights w (out,in,kernel,kernel) and bias b (out), NULL: none. */
static Conv *make_whole(const ConvSpec *spec, float *w, const float *b, Err *e)
{
    Conv *c = calloc(1, sizeof *c);
    if (!c) {
        err_set(e, "cannot allocate %zu bytes", sizeof *c);
        return NULL;
    }
    c->spec = *spec;
    if (b) {
        const dnnl_dims_t dim = {spec->out};
        dnnl_memory_desc_t d = describe(1, dim, F32, dnnl_x);
        void *to;
        c->bias = memory_of(onednn_layout(&d), DNNL_MEMORY_ALLOCATE);
        onednn_forget(&d);
        dnnl_memory_get_data_handle(c->bias, &to);
        memcpy(to, b, (size_t)spec->out*sizeof *b);
    }

    const dnnl_dims_t dim = {spec->out, spec->in, spec->kernel, spec->kernel};
    dnnl_memory_desc_t plain = describe(4, dim, F32, dnnl_oihw);
    dnnl_memory_t from = memory_of(onednn_layout(&plain), w);
    onednn_forget(&plain);
    const bool linear = conv_is_linear(spec);
    const int rows = spec->rows ? spec->rows : 1024;
    dnnl_primitive_desc_t likely = convolution(c, linear ? 1 : 2, linear ? 1 : 32, linear ? rows : 32, false);
    pack(c, likely, from);
    dnnl_primitive_desc_destroy(likely);
    dnnl_memory_destroy(from);
    return c;
}

/* The same of a linear layer in pieces of `width` channels and a last one of no more, which have no activation. */
static Conv *make_pieces(const ConvSpec *spec, const float *w, const float *b, int width, Err *e)
{
    Conv *c = calloc(1, sizeof *c);
    const int pieces = (spec->in + width - 1)/width;
    float *part = malloc((size_t)spec->out*(size_t)width*sizeof *part);
    int failed = !c || !part || !(c->piece = calloc((size_t)pieces, sizeof *c->piece))
               ? err_set(e, "out of memory for a layer of %d to %d channels", spec->in, spec->out) : 0;
    for (int from = 0; from < spec->in && !failed; from += width) {
        ConvSpec piece = *spec;
        piece.in = (int)least(width, spec->in - from);
        piece.y_type = F32;
        piece.act = ACT_NONE;
        for (size_t o = 0; o < (size_t)spec->out; o++)
            memcpy(part + o*(size_t)piece.in, w + o*(size_t)spec->in + from, (size_t)piece.in*sizeof *part);
        c->piece[c->pieces] = make_whole(&piece, part, from ? NULL : b, e);
        failed = !c->piece[c->pieces++];
    }
    free(part);
    if (failed) {
        cpu_conv_free(c);
        return NULL;
    }
    c->spec = *spec;
    return c;
}

static Conv *make_amx(const ConvSpec *spec, const float *w, const float *b, Err *e)
{
    Conv *c = calloc(1, sizeof *c);
    if (!c)
        err_set(e, "cannot allocate %zu bytes", sizeof *c);
    if (!c || cpu_amx_create(&c->amx, spec, w, b, e)) {
        free(c);
        return NULL;
    }
    c->spec = *spec;
    return c;
}

int cpu_conv_create(Conv **conv, const ConvSpec *spec, const Weight *const *weight, const Weight *const *bias,
                    int parts, Err *e)
{
    *conv = NULL;
    assert(spec->act != ACT_GEGLU || (conv_is_linear(spec) && spec->out%2 == 0));
    if (spec->x_type == F16)
        return err_set(e, "%s: the CPU makes no products in f16; f32 works", weight[0]->name);
    if (spec->x_type == BF16 && cpu_level < CPU_AVX512_BF16)
        return err_set(e, "%s: this machine has no AVX512-BF16 to multiply bf16 with; f32 works", weight[0]->name);
    start();
    float *w = weights_stack(weight, parts, (size_t)spec->out*(size_t)spec->in*(size_t)(spec->kernel*spec->kernel), e);
    float *b = w && bias ? weights_stack(bias, parts, (size_t)spec->out, e) : NULL;
    if (w && (!bias || b)) {
        const bool amx = spec->x_type == BF16 && cpu_level >= CPU_AMX;
        const bool is_long = spec->x_type == BF16 && conv_is_linear(spec) && spec->in > LONGEST_SUM;
        const int pieces = (spec->in + LONGEST_SUM - 1)/LONGEST_SUM;
        const int width = ((spec->in + pieces - 1)/pieces + 63)/64*64;
        *conv = amx ? make_amx(spec, w, b, e) : is_long ? make_pieces(spec, w, b, width, e) : make_whole(spec, w, b, e);
    }
    free(w);
    free(b);
    return *conv ? 0 : -1;
}

void cpu_conv_free(Conv *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->shapes; i++)
        shape_clear(&c->shape[i]);
    for (int i = 0; i < c->layouts; i++)
        dnnl_memory_destroy(c->packed[i]);
    if (c->bias)
        dnnl_memory_destroy(c->bias);
    for (int i = 0; i < c->pieces; i++)
        cpu_conv_free(c->piece[i]);
    free(c->piece);
    cpu_amx_free(c->amx);
    free(c);
}

static Shape *shape_for(Conv *c, int64_t B, int64_t H, int64_t W, bool add)
{
    for (int i = 0; i < c->shapes; i++)
        if (c->shape[i].B == B && c->shape[i].H == H && c->shape[i].W == W && c->shape[i].add == add)
            return &c->shape[i];
    return shape_prepare(c, B, H, W, add);
}

static void execute(const Conv *c, Shape *s, void *y, const void *x, void *scratch)
{
    check(dnnl_memory_set_data_handle(s->x, (void *)x), "input");
    check(dnnl_memory_set_data_handle(s->y, y), "output");
    check(dnnl_memory_set_data_handle(s->scratch, scratch), "scratchpad");
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, s->x}, {DNNL_ARG_WEIGHTS, c->packed[s->layout]},
                                    {DNNL_ARG_DST, s->y}, {DNNL_ARG_SCRATCHPAD, s->scratch}, {DNNL_ARG_BIAS, c->bias}};
    check(dnnl_primitive_execute(s->primitive, stream, c->bias ? 5 : 4, args), "convolution");
    check(dnnl_stream_wait(stream), "convolution");
}

/* y (N,out/2) = a * gelu(b) of rows (a, b) = x W + bias. Runs are of one length but for the last. */
static void run_gated(Conv *c, char *y, const char *x, int64_t N)
{
    const ConvSpec *spec = &c->spec;
    const size_t row = (size_t)spec->out*sizeof(float);
    const size_t x_row = (size_t)spec->in*dtype_size(spec->x_type);
    const size_t y_row = (size_t)spec->out/2*dtype_size(spec->y_type);
    const int64_t fit = (int64_t)omp_get_max_threads()*GATED_BYTES/(int64_t)row;
    const int64_t most = fit > GATED_ROWS ? fit : GATED_ROWS;
    const int64_t runs = (N + most - 1)/most, rows = (N + runs - 1)/runs;
    const size_t product = ((size_t)rows*row + 63)/64*64;
    for (int64_t n = 0; n < N; n += rows) {
        const int64_t count = N - n < rows ? N - n : rows;
        Shape *s = shape_for(c, 1, 1, count, false);
        float *made = cpu_scratch(product + s->scratch_bytes);
        execute(c, s, made, x + (size_t)n*x_row, (char *)made + product);
        cpu_geglu(y + (size_t)n*y_row, spec->y_type, made, count, spec->out/2);
    }
}

/* `size` bytes from each of N rows that are `stride` bytes apart, one after another. */
static void gather(char *y, const char *x, size_t size, size_t stride, int64_t N)
{
#pragma omp parallel for if (N*(int64_t)size >= CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++)
        memcpy(y + (size_t)n*size, x + (size_t)n*stride, size);
}

/* y of y_type, of its product made (N,out), which is y itself where nothing is left to be done. */
static void finish(const ConvSpec *s, void *y, const float *made, int64_t N)
{
    if (s->act == ACT_GEGLU)
        cpu_geglu(y, s->y_type, made, N, s->out/2);
    else if (s->act != ACT_NONE)
        cpu_activate(y, s->y_type, made, N*s->out, s->act);
    else if (s->y_type != F32)
        cpu_convert(y, s->y_type, made, F32, N*s->out);
}

static void run_pieces(Conv *c, char *y, const char *x, int64_t N, bool add)
{
    const ConvSpec *s = &c->spec;
    const bool direct = s->y_type == F32 && s->act == ACT_NONE;
    const size_t value = dtype_size(s->x_type), x_row = (size_t)s->in*value;
    const size_t y_row = (size_t)(s->act == ACT_GEGLU ? s->out/2 : s->out)*dtype_size(s->y_type);
    for (int64_t n = 0; n < N; n += LONG_ROWS) {
        const int64_t count = least(N - n, LONG_ROWS);
        const size_t product = direct ? 0 : ((size_t)count*(size_t)s->out*sizeof(float) + 63)/64*64;
        const size_t piece_row = (size_t)c->piece[0]->spec.in*value, copy = ((size_t)count*piece_row + 63)/64*64;
        size_t most = 0;
        for (int i = 0; i < c->pieces; i++) {
            const size_t bytes = shape_for(c->piece[i], 1, 1, count, i || add)->scratch_bytes;
            most = bytes > most ? bytes : most;
        }
        char *scratch = cpu_scratch(product + copy + most), *to = y + (size_t)n*y_row, *made = direct ? to : scratch;
        for (int i = 0; i < c->pieces; i++) {
            gather(scratch + product, x + (size_t)n*x_row + (size_t)i*piece_row,
                   (size_t)c->piece[i]->spec.in*value, x_row, count);
            execute(c->piece[i], shape_for(c->piece[i], 1, 1, count, i || add), made, scratch + product,
                    scratch + product + copy);
        }
        finish(s, to, (const float *)made, count);
    }
}

void cpu_conv_run(Conv *c, void *y, const void *x, int64_t B, int64_t H, int64_t W, bool add)
{
    if (conv_is_linear(&c->spec)) {
        W *= B*H;
        B = H = 1;
    }
    if (W == 0 || B == 0)
        return;
    if (c->amx) {
        cpu_amx_run(c->amx, y, x, B, H, W, add);
        return;
    }
    if (c->pieces) {
        run_pieces(c, y, x, W, add);
        return;
    }
    if (c->spec.act == ACT_GEGLU) {
        run_gated(c, y, x, W);
        return;
    }
    Shape *s = shape_for(c, B, H, W, add);
    execute(c, s, y, x, cpu_scratch(s->scratch_bytes));
}
