/* SPDX-License-Identifier: MIT */
/* unet_speed.c -- how fast the UNet is, or Stable Diffusion 3's transformer, as a share of what the machine can
 * multiply, and which ops the time goes to.
 *
 *     build/bench/unet_speed [MODEL [B [SIDE [TYPE [f32]]]]]
 *                                    minisd, 32 (16 pictures in two halves), the model's own side, each type
 *                                    that the backend has; f32: the residual stream too, as --residual f32 has it
 *
 * Flop are counted where they are spent: the table of ops is replaced by one that adds up 2*in*kernel^2*out a point of
 * a convolution or linear layer and 4*Sq*Sk*C an image of attention, then calls the real one and takes its time. The
 * peak is the best of several 3x3 convolutions of 256 channels, where AMX is that of its instruction (peak.h). Times
 * are the least of several evaluations: neighbours on the machine only add to them; with OMP_NUM_THREADS=1 they are
 * those of the processor. On a device, whose ops run after they are called, the ops' times are those of further
 * evaluations that wait for each. The first of these is what a profiler sees that is told to wait (ncu
 * --profile-from-start off). All this is of B latents; a guided step is that of B/2, each with two texts, whose common
 * part is computed once. */
#include <dlfcn.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "kernels/op.h"
#include "src/models/denoiser.h"
#include "src/models/model.h"
#include "tests/bench/peak.h"

enum { MOST_CONVS = 4096, EVALUATIONS = 7 };

typedef enum { CONV3, CONV1, LINEAR, ATTENTION, GROUP_NORM, LAYER_NORM, RMS_NORM, GATE, GEGLU, OTHER, KINDS } Kind;
static const char *const kind_name[] = {"conv 3x3", "conv 1x1", "linear", "attention", "group norm", "layer norm",
                                        "rms norm", "gate", "geglu", "other"};

static const Ops *real;
static Ops counted;
static double seconds[KINDS], flop[KINDS];
static int calls[KINDS];
static struct { Conv *conv; ConvSpec spec; } convs[MOST_CONVS];
static int conv_count;
static float *waited;           /* a value in device memory: each op is waited for; NULL: none is */

static double now(void)
{
    struct timespec t;
    clock_gettime(omp_get_max_threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9*(double)t.tv_nsec;
}

static void spend(Kind k, double since, double operations)
{
    float value;
    if (waited)
        real->download(&value, waited, sizeof value);
    seconds[k] += now() - since;
    flop[k] += operations;
    calls[k]++;
}

/* ---- the counting table ---- */

static int conv_create(Conv **c, const ConvSpec *spec, const Weight *const *w, const Weight *const *b, int parts,
                       Err *e)
{
    const int failed = real->conv_create(c, spec, w, b, parts, e);
    if (!failed && conv_count < MOST_CONVS) {
        convs[conv_count].conv = *c;
        convs[conv_count++].spec = *spec;
    }
    return failed;
}

static void conv_run(Conv *c, void *y, const void *x, int64_t B, int64_t H, int64_t W, bool add)
{
    int i = 0;
    while (i < conv_count && convs[i].conv != c)
        i++;
    const ConvSpec *s = &convs[i].spec;
    const int64_t pads = s->pad_before + s->pad_after, Ho = (H + pads - s->kernel)/s->stride + 1;
    const int64_t Wo = (W + pads - s->kernel)/s->stride + 1;
    const double start = now();
    real->conv_run(c, y, x, B, H, W, add);
    spend(s->act == ACT_GEGLU ? GEGLU : s->kernel > 1 ? CONV3 : B > 1 ? CONV1 : LINEAR, start,
          2.0*(double)(B*Ho*Wo)*s->in*s->kernel*s->kernel*s->out);
}

static void attention(void *y, int64_t y_stride, const void *q, int64_t q_stride, const void *k, int64_t k_stride,
                      const void *v, int64_t v_stride, DType type, int64_t B, int heads, int head_dim, int64_t Sq,
                      int64_t Sk, const int32_t *kv_index, float scale, bool causal)
{
    const double start = now();
    real->attention(y, y_stride, q, q_stride, k, k_stride, v, v_stride, type, B, heads, head_dim, Sq, Sk, kv_index,
                    scale, causal);
    spend(ATTENTION, start, 4.0*(double)(B*Sq*Sk)*heads*head_dim);
}

static void group_norm(void *y, DType y_type, void *as_is, const NormInput *in, const float *gamma, const float *beta,
                       int64_t B, int64_t HW, int groups, float eps, Activation act)
{
    const double start = now();
    real->group_norm(y, y_type, as_is, in, gamma, beta, B, HW, groups, eps, act);
    spend(GROUP_NORM, start, 0);
}

static void layer_norm(void *y, DType y_type, const void *x, DType x_type, const float *gamma, const float *beta,
                       int64_t N, int D, float eps)
{
    const double start = now();
    real->layer_norm(y, y_type, x, x_type, gamma, beta, N, D, eps);
    spend(LAYER_NORM, start, 0);
}

static void modulate(void *y, DType y_type, const float *x, const float *shift, const float *scale, int64_t stride,
                     int64_t B, int64_t S, int D, float eps)
{
    const double start = now();
    real->modulate(y, y_type, x, shift, scale, stride, B, S, D, eps);
    spend(LAYER_NORM, start, 0);
}

static void add_gated(float *x, const void *y, DType y_type, const float *gate, int64_t stride, int64_t B, int64_t S,
                      int D)
{
    const double start = now();
    real->add_gated(x, y, y_type, gate, stride, B, S, D);
    spend(GATE, start, 0);
}

static void rms_norm(void *y, DType y_type, int64_t y_stride, const void *x, DType x_type, int64_t x_stride,
                     const float *gamma, int64_t N, int groups, int D, float eps)
{
    const double start = now();
    real->rms_norm(y, y_type, y_stride, x, x_type, x_stride, gamma, N, groups, D, eps);
    spend(RMS_NORM, start, 0);
}

/* ---- measuring ---- */

static float noise(unsigned *seed)
{
    *seed = *seed*1664525u + 1013904223u;
    return (float)(int)(*seed >> 8)/(1 << 23) - 1;
}

static float *noise_device(size_t n, Err *e)
{
    unsigned seed = 1;
    float *host = malloc(n*sizeof *host), *device = op->alloc(n*sizeof *host, e);
    for (size_t i = 0; host && i < n; i++)
        host[i] = noise(&seed);
    if (host && device)
        op->upload(device, host, n*sizeof *host);
    free(host);
    return device;
}

/* Flop a second of a 3x3 convolution of 256 channels on 8 images of 32x32, on a device 64. */
static double measure_peak(DType type, Err *e)
{
    enum { C = 256, SIDE = 32 };
    const int B = strcmp(real->name, "cpu") == 0 ? 8 : 64;
    const double work = 2.0*B*SIDE*SIDE*9*C*C;
    float *w = calloc((size_t)C*C*9, sizeof *w);
    for (int i = 0; w && i < C*C*9; i++)
        w[i] = (float)(i%7 - 3)/64;
    const Weight weight = {.name = "peak", .type = F32, .ndim = 4, .dim = {C, C, 3, 3}, .data = w};
    const Weight *const weights[] = {&weight};
    const ConvSpec spec = {.in = C, .out = C, .kernel = 3, .stride = 1, .pad_before = 1, .pad_after = 1, .x_type = type,
                           .y_type = F32};
    Conv *c = NULL;
    float *x = noise_device((size_t)(B*SIDE*SIDE*C), e), *y = op->alloc(sizeof(float)*(size_t)(B*SIDE*SIDE*C), e);
    void *as_type = op->alloc(sizeof(float)*(size_t)(B*SIDE*SIDE*C), e);
    if (!w || !x || !y || !as_type || op->conv_create(&c, &spec, weights, NULL, 1, e))
        return 0;
    op->convert(as_type, type, x, F32, (int64_t)B*SIDE*SIDE*C);
    double best = 0;
    for (int i = 0; i < 30; i++) {
        float last;
        const double start = now();
        op->conv_run(c, y, as_type, B, SIDE, SIDE, false);
        op->download(&last, y, sizeof last);            /* waits for a device */
        const double rate = work/(now() - start);
        best = rate > best ? rate : best;
    }
    op->conv_free(c);
    op->free(x);
    op->free(y);
    op->free(as_type);
    free(w);
    return best;
}

/* cuProfilerStart or cuProfilerStop, where there is a driver. */
static void profiler(const char *call)
{
    void *const driver = dlopen("libcuda.so.1", RTLD_LAZY);
    int (*function)(void) = NULL;
    if (driver)
        *(void **)&function = dlsym(driver, call);
    if (function)
        function();
}

/* One evaluation of B latents: *took seconds. */
static int evaluate(double *took, Denoiser *d, float *eps, const float *x, int64_t B, int64_t side, Err *e)
{
    float last;
    const double start = now();
    if (denoiser_eval(d, eps, x, B, side, side, 500, e))
        return -1;
    op->download(&last, eps, sizeof last);
    *took = now() - start;
    return 0;
}

static int measure(const char *model, DType type, bool wide, int64_t B, int64_t side, Err *e)
{
    Denoiser *d = NULL;
    const DType residual = wide ? F32 : real->residual;
    op = real;
    const bool amx = type == BF16 && strcmp(real->name, "cpu") == 0 && cpu_level >= CPU_AMX;
    const double peak = amx ? peak_gemm(BF16) : measure_peak(type, e);
    op = &counted;
    counted.record_begin = real->record_begin;
    conv_count = 0;
    if (peak == 0 || denoiser_load(&d, model, type, residual, e))
        return -1;
    int height, width;
    denoiser_sample_size(d, &height, &width);
    if (side == 0)
        side = height;
    const bool transformer = strcmp(denoiser_words(d)->network, "transformer") == 0;
    const int64_t S = transformer ? 154 : 77;           /* of CLIP and of T5, the least */
    const int64_t E = denoiser_text_width(d), P = denoiser_pooled_width(d), n = B*side*side*denoiser_channels(d);
    float *x = noise_device((size_t)n, e), *eps = op->alloc((size_t)n*sizeof *eps, e);
    float *states = calloc((size_t)(2*S*E), sizeof *states), *pooled = calloc((size_t)(2*P + 1), sizeof *pooled);
    int32_t *index = calloc(2*(size_t)B, sizeof *index);
    if (!x || !eps || !states || !pooled || !index)
        return err_set(e, "out of memory");
    unsigned seed = 2;
    for (int64_t i = 0; i < 2*S*E; i++)
        states[i] = noise(&seed);
    for (int64_t b = 0; b < B; b++)
        index[b] = b >= B/2;
    if (denoiser_set_text(d, states, 2, S, index, B, e)
        || (P && denoiser_set_added(d, pooled, 8*(int)side, 8*(int)side, e))
        || denoiser_eval(d, eps, x, B, side, side, 500, e))
        return -1;

    double best = 1e30, slowly = 1e30, guided = 1e30, took;
    double kept[KINDS] = {0}, work = 0;
    const bool device = strcmp(real->name, "cpu") != 0;
    for (int i = 0; i < (device ? 2 : 1)*EVALUATIONS; i++) {
        if (i == EVALUATIONS) {                 /* ops one by one: evaluations are taken down no more */
            waited = eps;
            counted.record_begin = NULL;
            if (denoiser_set_text(d, states, 1, S, index + B, B, e)
                || (P && denoiser_set_added(d, pooled, 8*(int)side, 8*(int)side, e)))
                return -1;
        }
        if (!waited && B%2 == 0) {
            if (evaluate(&took, d, eps, x, B/2, side, e))
                return -1;
            guided = took < guided ? took : guided;
        }
        memset(seconds, 0, sizeof seconds);
        memset(flop, 0, sizeof flop);
        memset(calls, 0, sizeof calls);
        if (i == EVALUATIONS)
            profiler("cuProfilerStart");
        if (evaluate(&took, d, eps, x, B, side, e))
            return -1;
        if (i == EVALUATIONS)
            profiler("cuProfilerStop");
        if (!waited && took < best)
            best = took;
        if ((waited || !device) && took < slowly) {
            slowly = took;
            memcpy(kept, seconds, sizeof kept);
        }
    }
    waited = NULL;
    double rest = slowly;
    for (int k = 0; k < KINDS; k++) {
        work += flop[k];
        rest -= kept[k];
    }
    kept[OTHER] = rest;
    printf("%s %s%s, batch %lld of %lldx%lld latents: %.4f s, %.1f images/s, %.3f GFLOP an image, %.1f GFLOP/s = %.0f %% "
           "of %.1f\n", real->name,
           dtype_name(type), type != F32 && !transformer && residual != F32 ? ", residual stream f16" : "",
           (long long)B, (long long)side, (long long)side, best, (double)B/best, work/(double)B*1e-9,
           work/best*1e-9, 100*work/best/peak, peak*1e-9);
    if (guided < 1e30)
        printf("    with guidance: %.4f s a step of %lld latents, %.1f steps a second and latent, %.3f of the time of both apart\n",
               guided, (long long)B/2, (double)(B/2)/guided, guided/best);
    for (int k = 0; k < KINDS; k++)
        printf("    %-10s %4d calls  %8.2f ms  %4.1f %% of the time  %7.1f GFLOP/s\n", kind_name[k], calls[k],
               1e3*kept[k], 100*kept[k]/slowly, kept[k] > 0 ? flop[k]/kept[k]*1e-9 : 0);
    denoiser_free(d);
    op->free(x);
    op->free(eps);
    free(states);
    free(pooled);
    free(index);
    return 0;
}

int main(int argc, char **argv)
{
    Err e = {0};
    const char *model = argc > 1 ? argv[1] : "data/minisd/model";
    const int64_t B = argc > 2 ? atoll(argv[2]) : 32, side = argc > 3 ? atoll(argv[3]) : 0;
    const char *backend = getenv("SDSTEER_BACKEND");
    int failed = backend_pick(backend ? backend : "auto", 0, &e);
    if (!failed) {
        real = op;
        counted = *op;
        counted.conv_create = conv_create;
        counted.conv_run = conv_run;
        counted.attention = attention;
        counted.group_norm = group_norm;
        counted.layer_norm = layer_norm;
        counted.modulate = modulate;
        counted.add_gated = add_gated;
        counted.rms_norm = rms_norm;
        static const char *const names[] = {"f32", "bf16", "f16"};
        for (int i = 0; i < 3 && !failed; i++) {
            Err why = {0};
            DType type;
            if (argc >= 5 && strcmp(argv[4], names[i]) != 0)
                continue;
            op = real;
            if (model_dtype(&type, names[i], &why) == 0)
                failed = measure(model, type, argc > 5 && strcmp(argv[5], "f32") == 0, B, side, &e);
            else if (argc >= 5)
                failed = err_set(&e, "%s", why.text);
        }
    }
    if (failed)
        printf("%s\n", e.text);
    return failed != 0;
}
