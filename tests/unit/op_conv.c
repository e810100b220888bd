/* SPDX-License-Identifier: MIT */
/* op_conv.c -- convolution and linear layers: a case by hand, a plain loop in double, and the same bytes for an image
 * or a row whatever the batch, the neighbours and the threads.
 *
 * Tolerances: f32 sums of K products of values below 1 pass sqrt(K) on their way, and err by some of its last bits:
 * 4e-6 sqrt(K) covers the worst of 32768; gated, the error of one sum is multiplied by another. bf16 outputs are
 * rounded to 8 bits. */
#include "tests/unit/op_conv.h"

typedef struct Case {
    int in, out, kernel, stride, before, after;
    int64_t H, W;
} Case;

static Conv *make_conv(const Case *c, DType x_type, DType y_type, Activation act, const float *w, const float *b)
{
    const ConvSpec spec = {c->in, c->out, c->kernel, c->stride, c->before, c->after, x_type, y_type, act, 0};
    return op_conv_create(op, &spec, w, F32, b);
}

static double activate(double x, Activation act)
{
    switch (act) {
    case ACT_SILU:       return x/(1 + exp(-x));
    case ACT_GELU:       return 0.5*x*(1 + erf(x/sqrt(2)));
    case ACT_GELU_TANH:  return 0.5*x*(1 + tanh(sqrt(2/acos(-1))*(x + 0.044715*x*x*x)));
    case ACT_QUICK_GELU: return x/(1 + exp(-1.702*x));
    case ACT_RELU:       return x > 0 ? x : 0;
    default:             return x;
    }
}

static int64_t out_side(const Case *c, int64_t side)
{
    return (side + c->before + c->after - c->kernel)/c->stride + 1;
}

static void plain_conv(float *y, const float *x, const float *w, const float *b, const Case *c, int64_t B,
                       Activation act)
{
    const int64_t Ho = out_side(c, c->H), Wo = out_side(c, c->W);
    for (int64_t n = 0; n < B*Ho*Wo*c->out; n++) {
        const int64_t o = n%c->out, j = n/c->out%Wo, i = n/c->out/Wo%Ho, image = n/c->out/Wo/Ho;
        double sum = b ? (double)b[o] : 0;
        for (int r = 0; r < c->kernel; r++)
            for (int s = 0; s < c->kernel; s++) {
                const int64_t h = i*c->stride + r - c->before, v = j*c->stride + s - c->before;
                if (h < 0 || h >= c->H || v < 0 || v >= c->W)
                    continue;
                for (int k = 0; k < c->in; k++)
                    sum += (double)x[((image*c->H + h)*c->W + v)*c->in + k]
                         * (double)w[((o*c->in + k)*c->kernel + r)*c->kernel + s];
            }
        y[n] = (float)activate(sum, act);
    }
}

static int by_hand(void)
{
    /* 2x2 image of one channel, 3x3 kernel of ones to two channels, the second negative with bias 1: sums of what is
     * inside */
    const Case c = {1, 2, 3, 1, 1, 1, 2, 2};
    float w[18];
    for (int i = 0; i < 18; i++)
        w[i] = i < 9 ? 1.0f : -1.0f;
    Conv *conv = make_conv(&c, F32, F32, ACT_NONE, w, (float[]){0, 1});
    float y[8] = {0};
    op->conv_run(conv, y, (float[]){1, 2, 3, 4}, 1, 2, 2, false);
    int failed = test_close("conv/hand", y, (float[]){10, -9, 10, -9, 10, -9, 10, -9}, 8, 1e-6f, 0);
    op->conv_run(conv, y, (float[]){1, 2, 3, 4}, 1, 2, 2, true);
    failed += test_close("conv/hand add", y, (float[]){20, -18, 20, -18, 20, -18, 20, -18}, 8, 1e-6f, 0);
    op->conv_free(conv);
    op->conv_free(NULL);
    return failed;
}

/* Where bf16 is not multiplied in one order it is refused, with a reason. */
static int refused(bool tiles)
{
    const CpuLevel level = cpu_level;
    const Weight w = {.name = "proj.weight", .type = F32, .ndim = 2, .dim = {1, 1}, .data = (float[]){1}};
    const ConvSpec spec = {1, 1, 1, 1, 0, 0, BF16, F32, ACT_NONE, 0};
    Conv *conv = NULL;
    Err e = {0};
    cpu_choose(CPU_ANY, tiles);
    const int status = op->conv_create(&conv, &spec, (const Weight *[]){&w}, NULL, 1, &e);
    cpu_choose(level, false);
    return test_ok("conv/bf16 is refused where it has no instructions",
                   status == -1 && !conv && strstr(e.text, "proj.weight") && strstr(e.text, "bf16"));
}

static int against_loop(const Case *c, DType type, DType y_type, Activation act, bool with_bias)
{
    const int64_t B = 2;
    const size_t nx = (size_t)(B*c->H*c->W*c->in), nw = (size_t)c->out*(size_t)(c->in*c->kernel*c->kernel);
    const size_t ny = (size_t)(B*out_side(c, c->H)*out_side(c, c->W)*c->out);
    float *x = op_values(nx, 1), *w = op_values(nw, 2), *b = with_bias ? op_values((size_t)c->out, 3) : NULL;
    free(op_typed(w, type, nw));
    void *x_t = op_typed(x, type, nx), *y_t = op_space(ny*4);
    float *want = op_values(ny, 4);
    Conv *conv = make_conv(c, type, y_type, act, w, b);
    op->conv_run(conv, y_t, x_t, B, c->H, c->W, false);
    plain_conv(want, x, w, b, c, B, act);
    float *got = op_floats(y_t, y_type, ny);
    char name[160];
    int failed = test_close(op_name(name, "conv/loop %d-%d k%d s%d %ldx%ld %s-%s act %d", c->in, c->out, c->kernel,
                                    c->stride, (long)c->H, (long)c->W, dtype_name(type), dtype_name(y_type), act),
                            got, want, ny, 4e-6f*sqrtf((float)(c->in*c->kernel*c->kernel)),
                            y_type == BF16 ? 0.005f : 2e-5f);
    op->conv_free(conv);
    free(x); free(w); free(b); free(x_t); free(y_t); free(want); free(got);
    return failed;
}

/* Image 3 of 1, 5, 8 and 32 images, on 1 and 2 threads. */
static int same_bytes(const Case *c, DType type, bool add)
{
    const int64_t batch[] = {1, 2, 5, 8, 32};
    const size_t image = (size_t)(c->H*c->W*c->in), nw = (size_t)c->out*(size_t)(c->in*c->kernel*c->kernel);
    const size_t y_image = (size_t)(out_side(c, c->H)*out_side(c, c->W)*c->out);
    float *x = op_values(32*image, 5), *w = op_values(nw, 6), *b = op_values((size_t)c->out, 7);
    char *x_t = op_typed(x, type, 32*image);
    float *first = op_values(y_image, 8), *y = op_values(32*y_image, 9);
    Conv *conv = make_conv(c, type, F32, ACT_NONE, w, b);
    memset(first, 0, y_image*sizeof *first);
    omp_set_num_threads(1);
    op->conv_run(conv, first, x_t + 3*image*dtype_size(type), 1, c->H, c->W, add);
    size_t wrong = 0;
    for (int i = 0; i < 10; i++) {
        const int64_t B = batch[i/2], at = B > 3 ? 3 : 0;
        omp_set_num_threads(1 + i%2);
        memset(y, 0, 32*y_image*sizeof *y);
        op->conv_run(conv, y, x_t + (3 - (size_t)at)*image*dtype_size(type), B, c->H, c->W, add);
        if (memcmp(y + (size_t)at*y_image, first, y_image*sizeof *y) != 0) {
            wrong++;
            test_note("batch %ld, %d threads differs", (long)B, 1 + i%2);
        }
    }
    char name[160];
    const int failed = test_ok(op_name(name, "conv/same bytes %d-%d k%d s%d %ldx%ld %s%s", c->in, c->out, c->kernel,
                                       c->stride, (long)c->H, (long)c->W, dtype_name(type), add ? " add" : ""),
                               wrong == 0);
    op->conv_free(conv);
    free(x); free(w); free(b); free(x_t); free(first); free(y);
    return failed;
}

/* Rows 0..N of a linear layer, for many N: each row as when all MOST rows are there. */
static int same_rows(int in, int out, DType type, Activation act)
{
    enum { MOST = 5000 };
    static const int64_t counts[] = {1, 2, 3, 5, 7, 13, 16, 31, 33, 64, 77, 100, 127, 154, 255, 256, 257, 616, 1000,
                                     1024, 2048, 2464, 4999};
    const Case c = {in, out, 1, 1, 0, 0, 1, 1};
    float *x = op_values((size_t)MOST*(size_t)in, 1), *w = op_values((size_t)in*(size_t)out, 2),
        *b = op_values((size_t)out, 3);
    void *x_t = op_typed(x, type, (size_t)MOST*(size_t)in);
    float *all = op_values((size_t)MOST*(size_t)out, 4), *y = op_values((size_t)MOST*(size_t)out, 4);
    Conv *conv = make_conv(&c, type, F32, act, w, b);
    omp_set_num_threads(2);
    op->conv_run(conv, all, x_t, 1, MOST, 1, false);
    size_t wrong = 0;
    for (size_t i = 0; i < 2*sizeof counts/sizeof *counts; i++) {
        omp_set_num_threads(1 + (int)(i%2));
        op->conv_run(conv, y, x_t, 1, counts[i/2], 1, false);
        if (memcmp(y, all, (size_t)counts[i/2]*(size_t)out*sizeof *y) != 0) {
            wrong++;
            test_note("%ld rows, %d threads differ", (long)counts[i/2], 1 + (int)(i%2));
        }
    }
    char name[160];
    const int failed = test_ok(op_name(name, "linear/same bytes %d-%d %s act %d", in, out, dtype_name(type), act),
                               wrong == 0);
    op->conv_free(conv);
    free(x); free(w); free(b); free(x_t); free(all); free(y);
    return failed;
}

/* Rows (a, b) of a linear layer as a * gelu(b), against the layer's rows without, in double; then each of many numbers
 * of rows, on 1 and 2 threads, against all. */
static int gated(int in, int out, DType type, bool with_bias, int64_t N)
{
    static const int64_t counts[] = {1, 2, 3, 17, 64, 77, 255, 257, 1000};
    const Case c = {in, out, 1, 1, 0, 0, 1, 1};
    const int D = out/2;
    const size_t ny = (size_t)N*(size_t)D, row = (size_t)D*dtype_size(type);
    float *x = op_values((size_t)(N*in), 1), *w = op_values((size_t)(in*out), 2),
        *b = with_bias ? op_values((size_t)out, 3) : NULL;
    float *h = op_values(2*ny, 4), *want = op_values(ny, 5);
    void *x_t = op_typed(x, type, (size_t)(N*in));
    char *y = op_space(ny*4), *part = op_space(ny*4);
    Conv *plain = make_conv(&c, type, F32, ACT_NONE, w, b), *conv = make_conv(&c, type, type, ACT_GEGLU, w, b);
    omp_set_num_threads(2);
    op->conv_run(plain, h, x_t, 1, N, 1, false);
    for (int64_t n = 0; n < N; n++)
        for (int d = 0; d < D; d++)
            want[n*D + d] = (float)((double)h[2*n*D + d]*activate((double)h[(2*n + 1)*D + d], ACT_GELU));
    op->conv_run(conv, y, x_t, 1, N, 1, false);
    float *got = op_floats(y, type, ny);
    char name[160];
    const char *what = op_name(name, "linear/gated %d-%d %s, %ld rows", in, out, dtype_name(type), (long)N);
    int failed = test_close(what, got, want, ny, 4e-6f*(float)in, type == BF16 ? 0.004f : 2e-5f);
    size_t wrong = 0;
    for (size_t i = 0; i < 2*sizeof counts/sizeof *counts; i++) {
        const int64_t count = counts[i/2] < N ? counts[i/2] : N, first = N - count;
        omp_set_num_threads(1 + (int)(i%2));
        op->conv_run(conv, part, (char *)x_t + (size_t)(first*in)*dtype_size(type), 1, count, 1, false);
        if (memcmp(part, y + (size_t)first*row, (size_t)count*row) != 0) {
            wrong++;
            test_note("%ld rows, %d threads differ", (long)count, 1 + (int)(i%2));
        }
    }
    failed += test_ok(op_name(name, "linear/gated, same bytes %d-%d %s", in, out, dtype_name(type)), wrong == 0);
    op->conv_free(plain);
    op->conv_free(conv);
    free(x); free(w); free(b); free(h); free(want); free(x_t); free(y); free(part); free(got);
    return failed;
}

/* x (1, 2), a = x1 + x2 - 1 = 2, b = x2 - x1 + 0 = 1 */
static int gated_by_hand(void)
{
    const Case c = {2, 2, 1, 1, 0, 0, 1, 1};
    Conv *conv = make_conv(&c, F32, F32, ACT_GEGLU, (float[]){1, 1, -1, 1}, (float[]){-1, 0});
    float y = 0;
    op->conv_run(conv, &y, (float[]){1, 2}, 1, 1, 1, false);
    op->conv_free(conv);
    return test_close("linear/gated by hand", &y, (float[]){2*0.8413447f}, 1, 1e-6f, 0);
}

static int every_case(void)
{
    static const Case cases[] = {
        {4, 64, 3, 1, 1, 1, 16, 16}, {64, 64, 3, 1, 1, 1, 16, 16}, {64, 4, 3, 1, 1, 1, 16, 16},
        {64, 64, 3, 2, 1, 1, 16, 16},
        {64, 128, 3, 1, 1, 1, 8, 8}, {128, 128, 3, 1, 1, 1, 8, 8}, {128, 128, 3, 2, 1, 1, 8, 8},
        {160, 160, 3, 1, 1, 1, 4, 4},
        {320, 160, 3, 1, 1, 1, 4, 4}, {288, 160, 3, 1, 1, 1, 4, 4}, {192, 64, 3, 1, 1, 1, 16, 16},
        {16, 16, 3, 2, 0, 1, 16, 16},
        {16, 3, 3, 1, 1, 1, 20, 12}, {32, 64, 1, 1, 0, 0, 16, 16}, {192, 128, 1, 1, 0, 0, 8, 8},
        {3, 32, 8, 8, 0, 0, 32, 32},
        {5, 7, 3, 1, 1, 1, 7, 5}, {96, 96, 3, 1, 1, 1, 16, 16}, {3300, 40, 1, 1, 0, 0, 9, 3},
    };
    /* what oneDNN's code for AMX sums in another order for fewer images, or ends in a segmentation fault of; images
     * wider than a block of conv_amx.c, and ones that are no whole tiles */
    static const Case of_bf16[] = {
        {256, 512, 3, 2, 1, 1, 32, 7}, {6144, 4, 3, 1, 1, 1, 12, 5}, {320, 7, 3, 2, 1, 1, 32, 8},
        {16, 24, 3, 1, 1, 1, 3, 300}, {8, 40, 3, 2, 1, 1, 5, 530}, {64, 33, 3, 1, 1, 1, 9, 48},
        {32, 16, 5, 1, 2, 2, 6, 6},
    };
    int failed = by_hand() + gated_by_hand();
    for (int t = 0; t < 2; t++) {
        const DType type = t ? BF16 : F32;
        if (type == BF16 && op->best != BF16) {
            test_note("no bf16 products here: skipped");
            continue;
        }
        for (size_t i = 0; i < sizeof cases/sizeof *cases; i++) {
            failed += against_loop(&cases[i], type, F32, ACT_NONE, i%2);
            failed += against_loop(&cases[i], type, type, (Activation)(i%ACT_GEGLU), true);
            failed += same_bytes(&cases[i], type, i%2);
            failed += same_bytes(&cases[i], type, !(i%2));
        }
        for (size_t i = 0; type == BF16 && i < sizeof of_bf16/sizeof *of_bf16; i++) {
            failed += against_loop(&of_bf16[i], BF16, i%2 ? BF16 : F32, ACT_NONE, i%2);
            failed += same_bytes(&of_bf16[i], BF16, i%2);
        }
        static const int widths[][2] = {{64, 64}, {128, 384}, {128, 1024}, {512, 128}, {160, 1280}, {640, 160},
                                        {160, 320}, {256, 64}, {128, 4096}, {7, 5}, {768, 640}, {4096, 64}};
        for (size_t i = 0; i < sizeof widths/sizeof *widths; i++)
            failed += same_rows(widths[i][0], widths[i][1], type, (Activation)(i%ACT_GEGLU));
        failed += gated(128, 1024, type, true, 1900) + gated(160, 1280, type, false, 1000);
        failed += gated(7, 6, type, true, 300) + gated(64, 4096, type, true, 1500);
        failed += same_rows(4096, 64, type, ACT_NONE) + gated(4000, 12, type, true, 1100);
    }
    return failed;
}

/* The convolution of other processors, at each level of this one. */
static int by_tiles(void)
{
    const CpuLevel best = cpu_level;
    int failed = refused(true);
    for (int level = CPU_ANY; level < CPU_AVX512_BF16 && level <= (int)best; level++) {
        test_note("by tiles, level %d", level);
        cpu_choose((CpuLevel)level, true);
        failed += every_case();
    }
    cpu_choose(best, false);
    return failed;
}

int main(void)
{
    Err e = {0};
    if (backend_pick("cpu", 2, &e))
        return test_ok(e.text, 0);
    return refused(false) + every_case() + by_tiles() != 0;
}
