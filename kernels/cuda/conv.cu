/* SPDX-License-Identifier: MIT */
/* conv.cu -- convolution and linear layers: weights packed for the device, input channels filled up to 16 bytes, and
 * the choice of who multiplies.
 *
 *     y[b,i,j,o] = act(sum_{r,s,c} x[b, i*stride + r - pad, j*stride + s - pad, c] W[o,c,r,s] + bias[o])  or  y += ...
 *
 *   x (B,H,W,in) f32, bf16 or f16, channels last   W packed (out, kernel, kernel, in)   y (B,Ho,Wo,out); sums in f32
 *
 * A linear layer is a 1x1 convolution over one line of N = B*H*W points. Copies to shared memory are of 16 bytes, so a
 * layer whose channels are no multiple of 8, or 4 in f32, (the pictures' 3) runs on a copy of x filled with zeros.
 * From f32 to f16 (the latent's 4 channels, where a residual stream of f16 begins) it is a product of f16 over twice
 * the channels, by the same weights: those of x rounded, then what that leaves, 22 bits of each value.
 * With ACT_GEGLU the product of y_type is made in scratch memory, for runs of rows, and gated from there; by
 * product_hopper.cu at once. ACT_GELU_TANH, which stands between the widest layers of transformers that draw, is made
 * of a library's product in a pass over y; other activations are of products of our own, at once. */
#include <assert.h>
#include "kernels/cuda/library.h"

/* Bytes of a gated run's product, where runs are multiples of GATED_ROWS; played, small tests have several runs too. */
#ifdef SIMT
enum { GATED_BYTES = 1 << 12 };
#else
enum { GATED_BYTES = 256 << 20 };
#endif
enum { GATED_ROWS = 256 };

struct Conv {
    ConvSpec spec;              /* of the product that is made */
    bool split;                 /* of f32 by f16; spec.in is twice the channels of x */
    int in;                     /* spec.in, filled up to whole 16 bytes */
    void *weight;               /* (out, kernel, kernel, in) of x_type */
    float *bias;                /* NULL: none */
    bool few;                   /* product_few.cu multiplies */
    bool hopper;                /* product_hopper.cu multiplies what the libraries do not, else product_half.cu */
    BlasPlan *blas;             /* who multiplies in place of product.h; NULL: no one */
    DnnLayer *dnn;
};

static void *to_device(const void *host, size_t bytes, Err *e)
{
    void *p = gpu_memory(bytes, e);
    if (p)
        gpu_upload(p, host, bytes);
    return p;
}

/* y (out, taps, width) of w (out, in, taps), `times` of them side by side: one thread a value of y; then zeros */
template <typename T>
static __global__ void turn(T *y, const float *w, int64_t n, int in, int times, int taps, int width)
{
    const int64_t at = thread_number(), line = at/width, o = line/taps;
    const int i = (int)(at - line*width), t = (int)(line - o*taps);
    if (at < n)
        y[at] = from_float<T>(i < in*times ? w[(o*in + i%in)*taps + t] : 0);
}

/* w (out, in, taps) as (out, taps, c->in) of the product's type, on the device. */
static void *pack(const Conv *c, const float *w, Err *e)
{
    const int taps = c->spec.kernel*c->spec.kernel, times = c->split ? 2 : 1, in = c->spec.in/times;
    const int64_t n = (int64_t)c->spec.out*taps*c->in;
    float *as_is = (float *)to_device(w, sizeof *w*(size_t)c->spec.out*(size_t)(in*taps), e);
    void *packed = as_is ? gpu_memory((size_t)n*dtype_size(c->spec.x_type), e) : NULL;
    if (packed && c->spec.x_type == F32)
        LAUNCH(turn<float>, gpu_blocks(n, 256), 256, 0, (float *)packed, as_is, n, in, times, taps, c->in);
    else if (packed && c->spec.x_type == BF16)
        LAUNCH(turn<bf16>, gpu_blocks(n, 256), 256, 0, (bf16 *)packed, as_is, n, in, times, taps, c->in);
    else if (packed)
        LAUNCH(turn<f16>, gpu_blocks(n, 256), 256, 0, (f16 *)packed, as_is, n, in, times, taps, c->in);
    gpu_check(cudaFree(as_is));
    return packed;
}

/* Decided by the layer alone, so that all its runs give a row the same bytes. */
static void choose(Conv *c)
{
    const ConvSpec *s = &c->spec;
    Product p = {};
    p.w = c->weight;
    p.bias = c->bias;
    p.K = s->kernel*s->kernel*s->in;
    p.out = s->out;
    c->few = s->x_type == F32 && s->rows && conv_is_linear(s);
    c->hopper = product_hopper_takes(s);
    const bool after = s->act == ACT_GEGLU || (s->act == ACT_GELU_TANH && conv_is_linear(s));
    if (c->few || !library_wanted() || (s->act != ACT_NONE && (c->hopper || !after)) || s->in%8 || s->out%8
        || (s->y_type != F32 && s->y_type != s->x_type))
        return;
    if (conv_is_linear(s))
        c->blas = blas_plan(&p, s->x_type, s->y_type, c->hopper);
    else if (!c->hopper && s->x_type != F32 && (p.K >= LIBRARY_LEAST_K || s->y_type != F32))
        c->dnn = dnn_layer(s, c->bias != NULL);
}

int cuda_conv_create(Conv **conv, const ConvSpec *spec, const Weight *const *weight, const Weight *const *bias,
                     int parts, Err *e)
{
    *conv = NULL;
    assert(spec->act != ACT_GEGLU || (conv_is_linear(spec) && spec->out%2 == 0));
    if (spec->x_type != F32 && spec->x_type != BF16 && spec->x_type != F16)
        return err_set(e, "%s: products are made in f32, bf16 or f16, not %s", weight[0]->name,
                       dtype_name(spec->x_type));
    assert(spec->y_type == F32 || spec->y_type == spec->x_type || spec->y_type == F16);
    Conv *c = (Conv *)calloc(1, sizeof *c);
    if (!c)
        return err_set(e, "cannot allocate %zu bytes", sizeof *c);
    c->spec = *spec;
    c->split = spec->x_type == F32 && spec->y_type == F16;
    if (c->split) {
        c->spec.x_type = F16;
        c->spec.in *= 2;
    }
    c->in = c->spec.x_type == F32 ? (spec->in + 3)/4*4 : (c->spec.in + 7)/8*8;

    float *w = weights_stack(weight, parts, (size_t)spec->out*(size_t)spec->in*(size_t)(spec->kernel*spec->kernel), e);
    float *b = w && bias ? weights_stack(bias, parts, (size_t)spec->out, e) : NULL;
    int failed = !w || (bias && !b);
    failed = failed || !(c->weight = pack(c, w, e));
    failed = failed || (b && !(c->bias = (float *)to_device(b, (size_t)spec->out*sizeof *b, e)));
    free(w);
    free(b);
    if (failed) {
        cuda_conv_free(c);
        return -1;
    }
    choose(c);
    *conv = c;
    return 0;
}

void cuda_conv_free(Conv *c)
{
    if (!c)
        return;
    blas_plan_free(c->blas);
    dnn_layer_free(c->dnn);
    gpu_check(cudaFree(c->weight));
    gpu_check(cudaFree(c->bias));
    free(c);
}

/* y (points, width) = x (points, in) and zeros: one thread a value of y. T: of x's size. */
template <typename T> static __global__ void fill_up(T *y, const T *x, int64_t n, int in, int width)
{
    const int64_t i = thread_number(), point = i/width;
    const int c = (int)(i - point*width);
    if (i < n)
        y[i] = c < in ? x[point*in + c] : T{};
}

/* y (points, width) = x (points, in) rounded, then what that leaves, and zeros. */
static __global__ void split_halves(f16 *y, const float *x, int64_t n, int in, int width)
{
    const int64_t i = thread_number(), point = i/width;
    const int c = (int)(i - point*width);
    if (i >= n)
        return;
    const float v = c < 2*in ? x[point*in + c%in] : 0;
    const f16 rounded = from_float<f16>(v);
    y[i] = c < in ? rounded : from_float<f16>(v - to_float(rounded));
}

static const void *filled_up(const Conv *c, const void *x, int64_t points)
{
    if (c->in == c->spec.in && !c->split)
        return x;
    const int64_t n = points*c->in;
    void *y = gpu_scratch(SCRATCH_PRODUCT, (size_t)n*dtype_size(c->spec.x_type));
    if (c->split)
        LAUNCH(split_halves, gpu_blocks(n, 256), 256, 0, (f16 *)y, (const float *)x, n, c->spec.in/2, c->in);
    else if (c->spec.x_type == F32)
        LAUNCH(fill_up<float>, gpu_blocks(n, 256), 256, 0, (float *)y, (const float *)x, n, c->spec.in, c->in);
    else
        LAUNCH(fill_up<uint16_t>, gpu_blocks(n, 256), 256, 0, (uint16_t *)y, (const uint16_t *)x, n, c->spec.in, c->in);
    return y;
}

/* What is added to y, of f32, is added by the library, or made and rounded first; which, is the same for a layer and a
 * size of picture whatever B. false: the layer is product.h's, and so is what is added to halves. */
static bool library_run(const Conv *c, const Product *p, int64_t B)
{
    const int64_t n = p->M*p->out;
    if (p->add && c->spec.y_type != F32)
        return false;
    if (c->blas)
        return blas_run(c->blas, p);
    if (!c->dnn)
        return false;
    if (p->add && dnn_run(c->dnn, p, B, p->y, true))
        return true;
    void *made = p->add ? gpu_scratch(SCRATCH_PRODUCT, (size_t)n*sizeof(float)) : p->y;
    if (!dnn_run(c->dnn, p, B, made, false))
        return false;
    if (p->add)
        cuda_add((float *)p->y, (const float *)made, n);
    return true;
}

static void multiply(const Conv *c, const Product *p, int64_t B)
{
    if (library_run(c, p, B)) {
        if (p->act != ACT_NONE)
            cuda_activate_made(p->y, c->spec.y_type, p->M*p->out, p->act);
        return;
    }
    if (c->few)
        product_few(p);
    else if (c->spec.x_type == F32)
        product_f32(p);
    else if (c->hopper)
        product_hopper(p, c->spec.x_type, c->spec.y_type);
    else
        product_half(p, c->spec.x_type, c->spec.y_type);
}

/* y (M, out/2) = a * gelu(b) of the product's rows (a, b) */
static void multiply_gated(const Conv *c, const Product *whole)
{
    const size_t size = dtype_size(c->spec.y_type), row = (size_t)whole->out*size;
    const size_t x_row = (size_t)whole->in*dtype_size(c->spec.x_type);
    const int64_t fit = (int64_t)(GATED_BYTES/row)/GATED_ROWS*GATED_ROWS, most = fit ? fit : (int64_t)GATED_ROWS;
    void *made = gpu_scratch(SCRATCH_OP, (size_t)(whole->M < most ? whole->M : most)*row);
    for (int64_t m = 0; m < whole->M; m += most) {
        Product p = *whole;
        p.M = whole->M - m < most ? whole->M - m : most;
        p.W = p.Wo = (int)p.M;
        p.x = (const char *)whole->x + (size_t)m*x_row;
        p.y = made;
        p.act = ACT_NONE;
        multiply(c, &p, 1);
        cuda_geglu((char *)whole->y + (size_t)m*row/2, made, c->spec.y_type, p.M, whole->out/2);
    }
}

void cuda_conv_run(Conv *c, void *y, const void *x, int64_t B, int64_t H, int64_t W, bool add)
{
    const ConvSpec *s = &c->spec;
    const int pads = s->pad_before + s->pad_after;
    if (conv_is_linear(s)) {
        W *= B*H;
        B = H = 1;
    }
    Product p = {};
    p.y = y;
    p.w = c->weight;
    p.bias = c->bias;
    p.in = c->in;
    p.out = s->out;
    p.K = s->kernel*s->kernel*c->in;
    p.H = (int)H;
    p.W = (int)W;
    p.Ho = (int)((H + pads - s->kernel)/s->stride + 1);
    p.Wo = (int)((W + pads - s->kernel)/s->stride + 1);
    p.kernel = s->kernel;
    p.stride = s->stride;
    p.pad = s->pad_before;
    p.act = s->act;
    p.add = add;
    p.M = B*p.Ho*p.Wo;
    if (p.M == 0)
        return;
    p.x = filled_up(c, x, B*H*W);
    if (s->act == ACT_GEGLU && !c->hopper)
        multiply_gated(c, &p);
    else
        multiply(c, &p, B);
}
