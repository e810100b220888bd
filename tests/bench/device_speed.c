/* SPDX-License-Identifier: MIT */
/* device_speed.c -- the ops at Stable Diffusion 1.5's shapes on a GPU: microseconds, and TFLOP/s or GB/s.
 *
 *     device_speed [BACKEND [IMAGES [bf16|f16 [WORDS]]]]       default: cuda, 16, bf16, all; else those whose name has
 *                                                              WORDS in it
 *
 * Each op runs on random values until 0.05 s have passed, after a first call that prepares it; the median of five such
 * runs is shown. Products count 2 flop a multiply-add, attention both its products; bytes are what must be read and
 * written once.
 * Exits 77 where there is no such backend. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "kernels/op.h"

static int64_t B = 16;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9*(double)t.tv_nsec;
}

/* n values of `type` in [-1, 1) on the device */
static void *filled(DType type, int64_t n)
{
    Err e = {0};
    const size_t bytes = (size_t)n*dtype_size(type);
    float *x = malloc((size_t)n*sizeof *x);
    void *t = malloc(bytes), *p = op->alloc(bytes, &e);
    if (!x || !t || !p) {
        fprintf(stderr, "device_speed: %s\n", e.set ? e.text : "no memory");
        exit(1);
    }
    uint32_t s = 12345;
    for (int64_t i = 0; i < n; i++) {
        s = s*1664525u + 1013904223u;
        x[i] = (float)((int32_t)s >> 8)*0x1p-23f;
    }
    dtype_from_f32(t, type, x, (size_t)n);
    op->upload(p, t, bytes);
    free(x);
    free(t);
    return p;
}

/* One op with its arguments; the fields mean what the op's own arguments do. */
typedef struct Work {
    enum { CONV, GEGLU, ATTENTION, GROUP_NORM, GROUP_NORM_T, LAYER_NORM, ADD } kind;    /* _T: of x of `type` */
    int in, out, kernel;        /* CONV, GEGLU (kernel 1); out: width or channels elsewhere; in: heads of ATTENTION,
                                 * channels beside, which are wanted as they are too, of GROUP_NORM */
    int64_t side, Sk;           /* side*side points an image */
    DType type;
    bool add;
} Work;

typedef struct Memory { void *x, *y, *k, *v; float *a, *b; Conv *conv; } Memory;

/* Of the residual stream. */
static DType residual(const Work *w)
{
    return w->type == F32 ? F32 : op->residual;
}

/* Of a norm's input. */
static DType input_type(const Work *w)
{
    return w->kind == GROUP_NORM_T ? w->type : residual(w);
}

static void prepare(const Work *w, Memory *m)
{
    const int64_t points = B*w->side*w->side;
    Err e = {0};
    *m = (Memory){0};
    m->a = filled(F32, 8192);
    m->b = filled(F32, 8192);
    if (w->kind == CONV || w->kind == GEGLU) {
        float *weight = calloc((size_t)w->out*(size_t)(w->in*w->kernel*w->kernel), sizeof *weight);
        for (int64_t i = 0; i < (int64_t)w->out*w->in*w->kernel*w->kernel; i++)
            weight[i] = (float)(i%17 - 8)*0.01f;
        const Weight t = {.name = "w", .type = F32, .ndim = 4, .dim = {w->out, w->in, w->kernel, w->kernel},
                          .data = weight};
        const ConvSpec spec = {w->in, w->out, w->kernel, 1, w->kernel/2, w->kernel/2, w->type,
                               w->add ? residual(w) : w->type,
                               w->kind == GEGLU ? ACT_GEGLU : ACT_NONE, 0};
        if (op->conv_create(&m->conv, &spec, (const Weight *[]){&t}, NULL, 1, &e)) {
            fprintf(stderr, "device_speed: %s\n", e.text);
            exit(1);
        }
        free(weight);
        m->x = filled(w->type, points*w->in);
        m->y = filled(F32, points*w->out);
    } else if (w->kind == ATTENTION) {
        m->x = filled(w->type, points*w->in*w->out);
        m->y = filled(w->type, points*w->in*w->out);
        m->k = filled(w->type, B*w->Sk*w->in*w->out);
        m->v = filled(w->type, B*w->Sk*w->in*w->out);
    } else {
        m->x = filled(input_type(w), points*w->out);
        m->y = filled(F32, points*(w->in + w->out));
        if (w->in) {
            m->k = filled(input_type(w), points*w->in);
            m->v = filled(F32, points*(w->in + w->out));
        }
    }
}

static void run(const Work *w, const Memory *m)
{
    const int64_t HW = w->side*w->side;
    const int width = w->in*w->out;
    const NormInput in = {.x = m->x, .type = input_type(w), .C = w->out, .beside = m->k, .C_beside = w->in};
    switch (w->kind) {
    case CONV:
    case GEGLU:      op->conv_run(m->conv, m->y, m->x, B, w->side, w->side, w->add); break;
    case ATTENTION:  op->attention(m->y, width, m->x, width, m->k, width, m->v, width, w->type, B, w->in, w->out, HW,
                                   w->Sk, NULL, 0.15f, false); break;
    case GROUP_NORM:
    case GROUP_NORM_T: op->group_norm(m->y, w->type, m->v, &in, m->a, m->b, B, HW, 32, 1e-5f, ACT_SILU); break;
    case LAYER_NORM: op->layer_norm(m->y, w->type, m->x, input_type(w), m->a, m->b, B*HW, w->out, 1e-5f); break;
    case ADD:        op->add(m->y, m->x, B*HW*w->out); break;
    }
}

static void wait_for(const Memory *m)
{
    float one;
    op->download(&one, m->a, sizeof one);
}

static int rising(const void *a, const void *b)
{
    const double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

static void measure(const char *name, const Work *w)
{
    Memory m;
    double seconds[5];
    prepare(w, &m);
    for (int i = 0; i < 2; i++)
        run(w, &m);
    wait_for(&m);
    for (int i = 0; i < 5; i++) {
        int64_t count = 0;
        const double start = now();
        do {
            for (int j = 0; j < 10; j++)
                run(w, &m);
            wait_for(&m);
            count += 10;
        } while (now() - start < 0.05);
        seconds[i] = (now() - start)/(double)count;
    }
    qsort(seconds, 5, sizeof *seconds, rising);
    const double points = (double)(B*w->side*w->side), size = (double)dtype_size(w->type);
    double flop = 0, bytes = 0;
    switch (w->kind) {
    case CONV:
    case GEGLU:      flop = 2*points*w->in*w->out*w->kernel*w->kernel; break;
    case ATTENTION:  flop = 4*points*(double)w->Sk*w->in*w->out; break;
    case GROUP_NORM: bytes = points*(w->in + w->out)*(4 + (w->in ? 2 : 1)*size); break;
    case GROUP_NORM_T: bytes = points*w->out*2*size; break;
    case LAYER_NORM: bytes = points*w->out*(4 + size); break;
    case ADD:        bytes = points*w->out*12; break;
    }
    printf("%-56s %10.1f us  %8.1f %s\n", name, 1e6*seconds[2], (flop > 0 ? flop/1e12 : bytes/1e9)/seconds[2],
           flop > 0 ? "TFLOP/s" : "GB/s");
    fflush(stdout);
    op->free(m.x); op->free(m.y); op->free(m.k); op->free(m.v); op->free(m.a); op->free(m.b);
    op->conv_free(m.conv);
}

int main(int argc, char **argv)
{
    Err e = {0};
    if (backend_pick(argc > 1 ? argv[1] : "cuda", 0, &e)) {
        printf("%s\n", e.text);
        return 77;
    }
    B = argc > 2 ? atoi(argv[2]) : 16;
    const DType half = argc > 3 && strcmp(argv[3], "f16") == 0 ? F16 : BF16;
    /* %s: the half type, which work has as BF16 */
    static const struct { const char *name; Work work; } list[] = {
        {"conv 3x3 320-320 at 64x64 %s, f32 out, added", {CONV, 320, 320, 3, 64, 0, BF16, true}},
        {"conv 3x3 640-640 at 32x32 %s, f32 out, added", {CONV, 640, 640, 3, 32, 0, BF16, true}},
        {"conv 3x3 1280-1280 at 16x16 %s, f32 out, added", {CONV, 1280, 1280, 3, 16, 0, BF16, true}},
        {"conv 3x3 2560-1280 at 8x8 %s, f32 out, added", {CONV, 2560, 1280, 3, 8, 0, BF16, true}},
        {"conv 3x3 4-320 at 64x64 %s, f32 out, added", {CONV, 4, 320, 3, 64, 0, BF16, true}},
        {"conv 3x3 512-512 at 64x64 %s (VAE)", {CONV, 512, 512, 3, 64, 0, BF16, true}},
        {"conv 3x3 640-640 at 32x32 f32", {CONV, 640, 640, 3, 32, 0, F32, true}},
        {"conv 3x3 4-320 at 64x64 f32", {CONV, 4, 320, 3, 64, 0, F32, false}},
        {"linear 320-960 of 64x64 %s", {CONV, 320, 960, 1, 64, 0, BF16, false}},
        {"linear 320-320 of 64x64 %s, f32 out, added", {CONV, 320, 320, 1, 64, 0, BF16, true}},
        {"linear 320-2560 of 64x64 %s", {CONV, 320, 2560, 1, 64, 0, BF16, false}},
        {"linear 320-2560 of 64x64 %s, gated", {GEGLU, 320, 2560, 1, 64, 0, BF16, false}},
        {"linear 1280-320 of 64x64 %s, f32 out, added", {CONV, 1280, 320, 1, 64, 0, BF16, true}},
        {"linear 640-5120 of 32x32 %s", {CONV, 640, 5120, 1, 32, 0, BF16, false}},
        {"linear 640-5120 of 32x32 %s, gated", {GEGLU, 640, 5120, 1, 32, 0, BF16, false}},
        {"linear 2560-640 of 32x32 %s, f32 out, added", {CONV, 2560, 640, 1, 32, 0, BF16, true}},
        {"linear 1280-1280 of 16x16 %s, f32 out, added", {CONV, 1280, 1280, 1, 16, 0, BF16, true}},
        {"attention 8x40 4096-4096 %s", {ATTENTION, 8, 40, 0, 64, 4096, BF16, false}},
        {"attention 8x40 4096-77 %s", {ATTENTION, 8, 40, 0, 64, 77, BF16, false}},
        {"attention 8x80 1024-1024 %s", {ATTENTION, 8, 80, 0, 32, 1024, BF16, false}},
        {"attention 8x160 256-256 %s", {ATTENTION, 8, 160, 0, 16, 256, BF16, false}},
        {"attention 1x512 4096-4096 %s (VAE)", {ATTENTION, 1, 512, 0, 64, 4096, BF16, false}},
        {"attention 8x80 1024-1024 f32", {ATTENTION, 8, 80, 0, 32, 1024, F32, false}},
        {"group norm 320 at 64x64, SiLU, %s out", {GROUP_NORM, 0, 320, 0, 64, 0, BF16, false}},
        {"group norm 320 at 64x64, SiLU, %s in and out", {GROUP_NORM_T, 0, 320, 0, 64, 0, BF16, false}},
        {"group norm 320+320 at 64x64, SiLU, %s out, as is too", {GROUP_NORM, 320, 320, 0, 64, 0, BF16, false}},
        {"group norm 640+320 at 64x64, SiLU, %s out, as is too", {GROUP_NORM, 320, 640, 0, 64, 0, BF16, false}},
        {"group norm 640 at 32x32, SiLU, %s out", {GROUP_NORM, 0, 640, 0, 32, 0, BF16, false}},
        {"group norm 640 at 32x32, SiLU, %s in and out", {GROUP_NORM_T, 0, 640, 0, 32, 0, BF16, false}},
        {"group norm 1280+640 at 32x32, SiLU, %s out, as is too", {GROUP_NORM, 640, 1280, 0, 32, 0, BF16, false}},
        {"group norm 1280 at 16x16, SiLU, %s out", {GROUP_NORM, 0, 1280, 0, 16, 0, BF16, false}},
        {"group norm 1280 at 16x16, SiLU, %s in and out", {GROUP_NORM_T, 0, 1280, 0, 16, 0, BF16, false}},
        {"group norm 1280+1280 at 8x8, SiLU, %s out, as is too", {GROUP_NORM, 1280, 1280, 0, 8, 0, BF16, false}},
        {"layer norm 320 of 64x64, %s out", {LAYER_NORM, 0, 320, 0, 64, 0, BF16, false}},
        {"layer norm 640 of 32x32, %s out", {LAYER_NORM, 0, 640, 0, 32, 0, BF16, false}},
        {"layer norm 1280 of 16x16, %s out", {LAYER_NORM, 0, 1280, 0, 16, 0, BF16, false}},
        {"add 320 of 64x64, f32", {ADD, 0, 320, 0, 64, 0, F32, false}},
    };
    printf("%s, %ld images\n", op->name, (long)B);
    for (size_t i = 0; i < sizeof list/sizeof *list; i++) {
        Work work = list[i].work;
        char name[64];
        if (work.type == BF16)
            work.type = half;
        snprintf(name, sizeof name, list[i].name, dtype_name(half));
        if (argc <= 4 || strstr(name, argv[4]))
            measure(name, &work);
    }
    return 0;
}
