/* SPDX-License-Identifier: MIT */
/* op_speed.c -- time of each op at the shapes of the small model's UNet and of Stable Diffusion 1.5's and 3's.
 *
 *     op_speed [f32|bf16] [threads]        default: the backend's best type, all threads
 *
 * A line: shape, microseconds (best of many), GF/s and their share of the measured peak, or GB/s of tensors read and
 * written, then calls in one UNet evaluation, and their milliseconds. The last lines sum up an evaluation of the small
 * model. */
#include "kernels/op.h"
#include "tests/bench/peak.h"

typedef enum { CONV, LINEAR, GROUP_NORM, LAYER_NORM, ATTENTION, GEGLU, SILU, GELU_TANH, MODULATE, RMS_NORM,
               BIASED } Kind;

typedef struct Line {
    Kind kind;
    int64_t B, H, W;            /* attention: W is the number of keys, H of queries */
    int in, out;                /* attention: heads, head dimension; group_norm: channels, and those beside them */
    int kernel, stride;
    int calls;
    int shared;                 /* attention: the k and v of 2 images serve all */
} Line;

static const char *const kind_name[] = {"conv", "linear", "group_norm", "layer_norm", "attention", "geglu", "silu",
                                        "gelu_tanh", "modulate", "rms_norm", "biased"};

/* minisd: 16x16x64, 8x8x128, 4x4x160; 16 images, two halves; 77 tokens of 128. */
static const Line small[] = {
    {CONV, 32, 16, 16, 4, 64, 3, 1, 1, 0}, {CONV, 32, 16, 16, 64, 64, 3, 1, 7, 0},
    {CONV, 32, 16, 16, 64, 64, 3, 2, 1, 0},
    {CONV, 32, 16, 16, 128, 128, 3, 1, 1, 0}, {CONV, 32, 16, 16, 192, 64, 3, 1, 1, 0},
    {CONV, 32, 16, 16, 128, 64, 3, 1, 2, 0},
    {CONV, 32, 16, 16, 64, 4, 3, 1, 1, 0},
    {CONV, 32, 8, 8, 64, 128, 3, 1, 1, 0}, {CONV, 32, 8, 8, 128, 128, 3, 1, 6, 0},
    {CONV, 32, 8, 8, 128, 128, 3, 2, 1, 0},
    {CONV, 32, 8, 8, 288, 128, 3, 1, 1, 0}, {CONV, 32, 8, 8, 256, 128, 3, 1, 1, 0},
    {CONV, 32, 8, 8, 192, 128, 3, 1, 1, 0},
    {CONV, 32, 8, 8, 160, 160, 3, 1, 1, 0},
    {CONV, 32, 4, 4, 128, 160, 3, 1, 1, 0}, {CONV, 32, 4, 4, 160, 160, 3, 1, 10, 0},
    {CONV, 32, 4, 4, 320, 160, 3, 1, 2, 0},
    {CONV, 32, 4, 4, 288, 160, 3, 1, 1, 0},
    {LINEAR, 32, 16, 16, 128, 64, 1, 1, 3, 0}, {LINEAR, 32, 8, 8, 288, 128, 1, 1, 4, 0},
    {LINEAR, 32, 4, 4, 320, 160, 1, 1, 4, 0},
    {LINEAR, 32, 8, 8, 128, 128, 1, 1, 25, 0}, {LINEAR, 32, 8, 8, 128, 384, 1, 1, 5, 0},
    {LINEAR, 32, 8, 8, 512, 128, 1, 1, 5, 0}, {LINEAR, 32, 4, 4, 160, 160, 1, 1, 30, 0},
    {LINEAR, 32, 4, 4, 160, 480, 1, 1, 6, 0},
    {LINEAR, 32, 4, 4, 640, 160, 1, 1, 6, 0},
    {LINEAR, 17, 77, 1, 128, 256, 1, 1, 0, 0},
    {LINEAR, 32, 1, 1, 256, 128, 1, 1, 22, 0},
    {GROUP_NORM, 32, 16, 16, 64, 0, 0, 0, 10, 0}, {GROUP_NORM, 32, 16, 16, 64, 64, 0, 0, 3, 0},
    {GROUP_NORM, 32, 8, 8, 128, 0, 0, 0, 14, 0},
    {GROUP_NORM, 32, 8, 8, 128, 128, 0, 0, 3, 0}, {GROUP_NORM, 32, 4, 4, 160, 0, 0, 0, 18, 0},
    {GROUP_NORM, 32, 4, 4, 160, 160, 0, 0, 3, 0},
    {LAYER_NORM, 32, 8, 8, 128, 0, 0, 0, 15, 0}, {LAYER_NORM, 32, 4, 4, 160, 0, 0, 0, 18, 0},
    {ATTENTION, 32, 64, 64, 4, 32, 0, 0, 5, 0}, {ATTENTION, 32, 64, 77, 4, 32, 0, 0, 5, 1},
    {ATTENTION, 32, 16, 16, 4, 40, 0, 0, 6, 0},
    {ATTENTION, 32, 16, 77, 4, 40, 0, 0, 6, 1},
    {GEGLU, 32, 8, 8, 128, 1024, 1, 1, 5, 0}, {GEGLU, 32, 4, 4, 160, 1280, 1, 1, 6, 0},
    {SILU, 32, 1, 1, 256, 0, 0, 0, 1, 0},
};

/* Stable Diffusion 1.5, 64x64 latents, two halves of one image: its heaviest shapes. */
static const Line large[] = {
    {CONV, 2, 64, 64, 320, 320, 3, 1, 0, 0}, {CONV, 2, 64, 64, 960, 320, 3, 1, 0, 0},
    {CONV, 2, 32, 32, 640, 640, 3, 1, 0, 0},
    {CONV, 2, 16, 16, 1280, 1280, 3, 1, 0, 0}, {CONV, 2, 8, 8, 1280, 1280, 3, 1, 0, 0},
    {LINEAR, 2, 64, 64, 320, 320, 1, 1, 0, 0},
    {GEGLU, 2, 64, 64, 320, 2560, 1, 1, 0, 0}, {GEGLU, 2, 16, 16, 1280, 10240, 1, 1, 0, 0},
    {LINEAR, 2, 77, 1, 768, 640, 1, 1, 0, 0},
    {GROUP_NORM, 2, 64, 64, 320, 0, 0, 0, 0, 0}, {LAYER_NORM, 2, 64, 64, 320, 0, 0, 0, 0, 0},
    {ATTENTION, 2, 4096, 4096, 8, 40, 0, 0, 0, 0}, {ATTENTION, 2, 1024, 1024, 8, 80, 0, 0, 0, 0},
    {ATTENTION, 2, 4096, 77, 8, 40, 0, 0, 0, 0},
    {ATTENTION, 1, 4096, 4096, 1, 128, 0, 0, 0, 0},
    /* Stable Diffusion 3 medium, and its T5 */
    {GELU_TANH, 2, 64, 64, 1536, 6144, 1, 1, 0, 0}, {MODULATE, 2, 64, 64, 1536, 0, 0, 0, 0, 0},
    {RMS_NORM, 2, 64, 64, 1536, 0, 0, 0, 0, 0}, {BIASED, 1, 256, 256, 64, 64, 0, 0, 0, 0},
};

static void *space(size_t values)
{
    Err e = {0};
    float *p = op->alloc(values*sizeof *p, &e);
    if (!p) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    return p;
}

/* One call's memory and weights; run() is what is timed. */
typedef struct Run {
    const Line *l;
    DType type;
    Conv *conv;
    float *x, *y, *v, *as_is, *gamma;
    int32_t *index;
} Run;

static void run(const Run *r)
{
    const Line *l = r->l;
    const int64_t rows = l->B*l->H*l->W;
    switch (l->kind) {
    case CONV:
    case GEGLU:
    case GELU_TANH:
    case LINEAR:     op->conv_run(r->conv, r->y, r->x, l->B, l->H, l->W, false); break;
    case GROUP_NORM: {
        const NormInput in = {.x = r->x, .type = F32, .C = l->in, .beside = l->out ? r->v : NULL, .C_beside = l->out};
        op->group_norm(r->y, r->type, l->out ? r->as_is : NULL, &in, r->gamma, r->gamma, l->B, l->H*l->W, 16, 1e-5f,
                       ACT_SILU);
        break;
    }
    case LAYER_NORM: op->layer_norm(r->y, r->type, r->x, F32, r->gamma, r->gamma, rows, l->in, 1e-5f); break;
    case ATTENTION:
        op->attention(r->y, l->in*l->out, r->x, l->in*l->out, r->v, l->in*l->out, r->v, l->in*l->out, r->type, l->B,
                      l->in, l->out, l->H, l->W, l->shared ? r->index : NULL, 0.1f, false);
        break;
    case BIASED:
        op->attention_biased(r->y, l->in*l->out, r->x, l->in*l->out, r->v, l->in*l->out, r->v, l->in*l->out, r->type,
                             l->B, l->in, l->out, l->H, l->W, r->as_is, 1);
        break;
    case MODULATE:
        op->modulate(r->y, r->type, r->x, r->gamma, r->gamma, 0, l->B, l->H*l->W, l->in, 1e-6f);
        break;
    case RMS_NORM:
        op->rms_norm(r->y, r->type, l->in, r->x, F32, l->in, r->gamma, rows, l->in/64, 64, 1e-6f);
        break;
    case SILU:       op->activate(r->y, r->type, r->x, rows*l->in, ACT_SILU); break;
    }
}

static double best_time(const Run *r)
{
    run(r);
    double best = 1e9, spent = 0;
    for (int i = 0; i < 2000 && (spent < 0.15 || i < 3); i++) {
        const double start = bench_seconds();
        run(r);
        const double t = bench_seconds() - start;
        best = t < best ? t : best;
        spent += t;
    }
    return best;
}

static Conv *make_conv(const Line *l, DType type)
{
    const size_t n = (size_t)l->in*(size_t)l->out*(size_t)(l->kernel*l->kernel);
    float *zeros = calloc(n, sizeof *zeros);
    const Weight w = {.name = "w", .type = F32, .ndim = 4, .dim = {l->out, l->in, l->kernel, l->kernel}, .data = zeros};
    const Weight b = {.name = "b", .type = F32, .ndim = 1, .dim = {l->out}, .data = zeros};
    const int pad = l->kernel/2;
    const ConvSpec spec = {l->in, l->out, l->kernel, l->stride, pad, pad, type,
                           l->kind == GEGLU || l->kind == GELU_TANH ? type : F32,
                           l->kind == GEGLU ? ACT_GEGLU : l->kind == GELU_TANH ? ACT_GELU_TANH : ACT_NONE, 0};
    Conv *c;
    Err e = {0};
    if (op->conv_create(&c, &spec, (const Weight *[]){&w}, (const Weight *[]){&b}, 1, &e)) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    free(zeros);
    return c;
}

/* Prints one line and returns its calls' milliseconds. */
static double measure(const Line *l, DType type, double peak)
{
    const double rows = (double)(l->B*l->H*l->W);
    const bool product = l->kind == CONV || l->kind == LINEAR || l->kind == GEGLU || l->kind == GELU_TANH;
    const bool attention = l->kind == ATTENTION || l->kind == BIASED;
    Run r = {.l = l, .type = type};
    const size_t widest = (size_t)(l->in > l->out ? l->in : l->out);
    const size_t values = attention ? (size_t)(l->B*(l->H + l->W))*(size_t)(l->in*l->out) : (size_t)rows*2*widest;
    r.x = space(values);
    r.y = space(values);
    r.v = space(values);
    r.as_is = space(l->kind == BIASED ? (size_t)(l->in*l->H*l->W) : values);
    r.gamma = space((size_t)(l->in + l->out + 1));
    r.index = space((size_t)l->B);
    for (int64_t b = 0; b < l->B; b++)
        r.index[b] = (int32_t)(b & 1);
    if (product)
        r.conv = make_conv(l, type);
    const double t = best_time(&r);

    char shape[80];
    double flop = 0;
    if (product) {
        flop = 2*rows/(l->stride*l->stride)*l->in*l->out*l->kernel*l->kernel;
        snprintf(shape, sizeof shape, "%ldx%ldx%ld %d->%d k%d s%d", (long)l->B, (long)l->H, (long)l->W, l->in, l->out,
                 l->kernel, l->stride);
    } else if (attention) {
        flop = 4*(double)l->B*(double)l->H*(double)l->W*l->in*l->out;
        snprintf(shape, sizeof shape, "%ld %ld-%ld %dx%d", (long)l->B, (long)l->H, (long)l->W, l->in, l->out);
    } else {
        snprintf(shape, sizeof shape, l->out ? "%ldx%ldx%ld %d+%d" : "%ldx%ldx%ld %d", (long)l->B, (long)l->H,
                 (long)l->W, l->in, l->out);
    }
    printf("%-10s %-28s %9.1f us", kind_name[l->kind], shape, t*1e6);
    if (flop > 0) {
        printf(" %7.0f GF/s %5.1f %%", flop/t*1e-9, 100*flop/t/peak);
    } else {
        const double size = (double)dtype_size(type);
        const double bytes = rows*(l->in + l->out)*(4 + (l->out ? 2 : 1)*size);
        printf(" %7.1f GB/s        ", bytes/t*1e-9);
    }
    if (l->calls)
        printf(" x %2d = %.3f ms", l->calls, t*1e3*l->calls);
    printf("\n");

    op->conv_free(r.conv);
    op->free(r.x);
    op->free(r.y);
    op->free(r.v);
    op->free(r.as_is);
    op->free(r.gamma);
    op->free(r.index);
    return t*1e3*l->calls;
}

int main(int argc, char **argv)
{
    Err e = {0};
    if (backend_pick("cpu", argc > 2 ? atoi(argv[2]) : 0, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const int asked = argc > 1 ? dtype_parse(argv[1]) : (int)op->best;
    if (asked != F32 && asked != BF16) {
        fprintf(stderr, "op_speed: the type is f32 or bf16, not '%s'\n", argv[1]);
        return 2;
    }
    const DType type = (DType)asked;
    const double peak = peak_gemm(type);
    printf("%s, %d threads, peak %.0f GF/s\n", dtype_name(type), omp_get_max_threads(), peak*1e-9);

    double total[sizeof kind_name/sizeof *kind_name] = {0}, all = 0;
    for (size_t i = 0; i < sizeof small/sizeof *small; i++) {
        const double ms = measure(&small[i], type, peak);
        total[small[i].kind] += ms;
        all += ms;
    }
    for (size_t i = 0; i < sizeof large/sizeof *large; i++)
        measure(&large[i], type, peak);
    for (size_t k = 0; k < sizeof total/sizeof *total; k++)
        if (total[k] > 0)
            printf("small UNet evaluation, batch 32: %-10s %7.3f ms %5.1f %%\n", kind_name[k], total[k],
                   100*total[k]/all);
    printf("small UNet evaluation, batch 32: %-10s %7.3f ms\n", "all", all);
    return 0;
}
