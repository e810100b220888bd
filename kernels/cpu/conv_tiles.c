/* SPDX-License-Identifier: MIT */
/* conv_tiles.c -- convolution and linear layers in f32, by tiles: for processors that oneDNN has no code for.
 *
 *     y[n,o] = act(sum_k x_n[k] W[o,k] + bias[o]),   k over taps and input channels,   n over images, rows and columns
 *
 *   W packed in panels [out/32][taps*in][32]   x_n the pixels under the kernel at point n, gathered for a block of
 *   points and some k at a time as tile.h takes them, zeros outside the image   sums of a block stay in its thread
 *
 * A block's sums are made from WORDS values of k at a time, so that what is read again and again fits the second-level
 * cache: ROWS x WORDS of x (192 KB) and a panel's part of W (64 KB). Where there are fewer blocks than threads the
 * columns are shared out too. Each sum is one chain of fused multiply-adds over k that begins with its bias: the same
 * bytes whatever the batch, the neighbours and the threads. */
#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cpu/level.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vec.h"

enum { PANEL = CPU_PANEL, ROWS = 96, WORDS = 512 };

typedef struct TiledConv {          /* what a Conv is here */
    ConvSpec spec;
    Tile tile;
    int words, columns;             /* taps*in; out rounded up to PANEL */
    float *W, *bias;                /* packed; (columns), zeros where there is none */
} TiledConv;

typedef struct Call {               /* one run */
    const TiledConv *conv;
    const float *x;
    float *y;
    int64_t H, W, Ho, Wo, points;
    bool add;
} Call;

static size_t packed_bytes(size_t values)
{
    return (values*sizeof(float) + 63)/64*64;
}

/* W (out, in, kernel, kernel) into panels. */
static void pack_weights(TiledConv *c, const float *W)
{
    const int in = c->spec.in, taps = c->spec.kernel*c->spec.kernel;
#pragma omp parallel for
    for (int first = 0; first < c->columns; first += PANEL) {
        float *panel = c->W + (size_t)first*(size_t)c->words;
        for (int tap = 0; tap < taps; tap++)
            for (int k = 0; k < in; k++, panel += PANEL)
                for (int o = first; o < first + PANEL; o++)
                    panel[o - first] = o >= c->spec.out ? 0
                                     : W[((size_t)o*(size_t)in + (size_t)k)*(size_t)taps + (size_t)tap];
    }
}

void cpu_tiled_free(Conv *conv)
{
    TiledConv *c = (TiledConv *)conv;
    if (!c)
        return;
    free(c->W);
    free(c->bias);
    free(c);
}

int cpu_tiled_create(Conv **conv, const ConvSpec *spec, const Weight *const *weight, const Weight *const *bias,
                      int parts, Err *e)
{
    *conv = NULL;
    assert(spec->act != ACT_GEGLU || (conv_is_linear(spec) && spec->out%2 == 0));
    if (spec->x_type != F32)
        return err_set(e, "%s: this processor makes products in f32 only, not in %s", weight[0]->name,
                       dtype_name(spec->x_type));
    TiledConv *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, "cannot allocate %zu bytes", sizeof *c);
    c->spec = *spec;
    c->tile = cpu_tile(F32);
    c->words = spec->in*spec->kernel*spec->kernel;
    c->columns = (spec->out + PANEL - 1)/PANEL*PANEL;
    const size_t bytes = packed_bytes((size_t)c->columns*(size_t)c->words);
    float *w = weights_stack(weight, parts, (size_t)spec->out*(size_t)c->words, e);
    float *b = w && bias ? weights_stack(bias, parts, (size_t)spec->out, e) : NULL;
    int failed = !w || (bias && !b);
    if (!failed) {
        c->W = aligned_alloc(64, bytes);
        c->bias = calloc((size_t)c->columns, sizeof *c->bias);
        if (!c->W || !c->bias)
            failed = err_set(e, "%s: cannot allocate %zu bytes for its layer", weight[0]->name, bytes);
    }
    if (!failed) {
        if (b)
            memcpy(c->bias, b, (size_t)spec->out*sizeof *b);
        pack_weights(c, w);
        *conv = (Conv *)c;
    } else {
        cpu_tiled_free((Conv *)c);
    }
    free(w);
    free(b);
    return failed ? -1 : 0;
}

/* Values [k, k + words) of point n to every `apart`-th float of packed; after the last point: zeros. */
ALWAYS_INLINE void gather_point(const Call *call, float *packed, int apart, int64_t n, int k, int words)
{
    const ConvSpec *s = &call->conv->spec;
    const int64_t image = n/(call->Ho*call->Wo), i = n/call->Wo%call->Ho, j = n%call->Wo;
    for (int done = 0; done < words; ) {
        const int tap = (k + done)/s->in, channel = (k + done)%s->in;
        const int count = s->in - channel < words - done ? s->in - channel : words - done;
        const int64_t row = i*s->stride + tap/s->kernel - s->pad_before;
        const int64_t column = j*s->stride + tap%s->kernel - s->pad_before;
        const bool inside = n < call->points && row >= 0 && row < call->H && column >= 0 && column < call->W;
        const float *x = inside ? call->x + ((image*call->H + row)*call->W + column)*s->in + channel : NULL;
        for (int q = 0; q < count; q++)
            packed[(done + q)*apart] = inside ? x[q] : 0;
        done += count;
    }
}

/* Sums of `columns` columns from panel `first` on, of `rows` points (a multiple of the tile's) from point n on, into
 * h (rows, columns). packed has room for rows*WORDS. */
static void sum_block(const Call *call, float *h, float *packed, int64_t n, int rows, int first, int columns)
{
    const TiledConv *c = call->conv;
    const int T = c->tile.rows;
    const size_t stride = (size_t)columns;
    for (int k = 0; k < c->words; k += WORDS) {
        const int words = c->words - k < WORDS ? c->words - k : WORDS;
        for (int r = 0; r < rows; r++)
            gather_point(call, packed + r/T*T*words + r%T, T, n + r, k, words);
        for (int p = 0; p < columns; p += PANEL)
            for (int r = 0; r < rows; r += T) {
                float *sum = h + (size_t)r*stride + p;
                c->tile.run(sum, stride, (const uint32_t *)(packed + r*words),
                            (const uint32_t *)(c->W + (size_t)(first + p)*(size_t)c->words + (size_t)k*PANEL),
                            k ? sum : c->bias + first + p, k ? stride : 0, words);
            }
    }
}

/* y [n, first..first + width) = act(h), or y += h, of `rows` points. */
static void finish_block(const Call *call, const float *h, size_t stride, int64_t n, int rows, int first, int width)
{
    const ConvSpec *s = &call->conv->spec;
    for (int r = 0; r < rows; r++) {
        float *y = call->y + (n + r)*s->out + first;
        for (int o = 0; o < width; o += LANES) {
            const int w = width - o < LANES ? width - o : LANES;
            const V sum = v_load(h + (size_t)r*stride + o, w);
            v_store(y + o, call->add ? v_load(y + o, w) + sum : v_activate(sum, s->act), w);
        }
    }
}

static void run_block(const Call *call, float *scratch, int64_t n, int rows, int first, int columns)
{
    const TiledConv *c = call->conv;
    const int T = c->tile.rows, whole = (rows + T - 1)/T*T;
    float *h = scratch, *packed = scratch + (size_t)whole*(size_t)columns;
    sum_block(call, h, packed, n, whole, first, columns);
    if (c->spec.act == ACT_GEGLU)
        for (int r = 0; r < rows; r++)
            cpu_geglu(call->y + (n + r)*c->spec.out/2, F32, h + (size_t)r*(size_t)columns, 1, c->spec.out/2);
    else
        finish_block(call, h, (size_t)columns, n, rows, first,
                     c->spec.out - first < columns ? c->spec.out - first : columns);
}

void cpu_tiled_run(Conv *conv, void *y, const void *x, int64_t B, int64_t H, int64_t W, bool add)
{
    const TiledConv *c = (const TiledConv *)conv;
    const ConvSpec *s = &c->spec;
    const int64_t pads = s->pad_before + s->pad_after;
    const int64_t Ho = (H + pads - s->kernel)/s->stride + 1, Wo = (W + pads - s->kernel)/s->stride + 1;
    const Call call = {.conv = c, .x = x, .y = y, .H = H, .W = W, .Ho = Ho, .Wo = Wo, .points = B*Ho*Wo, .add = add};
    const int threads = omp_get_max_threads(), T = c->tile.rows, most = ROWS/T*T, panels = c->columns/PANEL;
    const int64_t share = ((call.points + threads - 1)/threads + T - 1)/T*T;
    const int rows = share < most ? (int)share : most;
    if (call.points == 0)
        return;
    const int64_t blocks = (call.points + rows - 1)/rows;
    /* a gated block needs both halves of its columns */
    const int64_t parts = s->act == ACT_GEGLU || blocks >= 2*threads ? 1 : (2*threads + blocks - 1)/blocks;
    const int columns = (int)((panels + parts - 1)/parts)*PANEL;
    const size_t each = packed_bytes((size_t)rows*(size_t)(columns + WORDS))/sizeof(float);
    float *scratch = cpu_scratch(each*(size_t)threads*sizeof(float));
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t block = 0; block < blocks; block++)
        for (int first = 0; first < c->columns; first += columns) {
            const int64_t n = block*rows, left = call.points - n;
            run_block(&call, scratch + each*(size_t)omp_get_thread_num(), n, left < rows ? (int)left : rows, first,
                      c->columns - first < columns ? c->columns - first : columns);
        }
}
