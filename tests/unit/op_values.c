/* SPDX-License-Identifier: MIT */
/* op_values.c -- ops on single values, ops that move rows, and the sampler's step, by hand and against libm in double.
 *
 * Tolerances: exp errs by 2e-7 and erf by 4e-7 at most (gelu: that times half of x, where erf is not 1); bf16 is
 * rounded to 8 bits; a pure move is exact. */
#include "tests/unit/op_test.h"

enum { N = 200003 };

static double wanted(double x, Activation act)
{
    switch (act) {
    case ACT_SILU:       return x/(1 + exp(-x));
    case ACT_GELU:       return 0.5*x*(1 + erf(x/sqrt(2)));
    case ACT_GELU_TANH:  return 0.5*x*(1 + tanh(sqrt(2/acos(-1))*(x + 0.044715*x*x*x)));
    case ACT_QUICK_GELU: return x/(1 + exp(-1.702*x));
    case ACT_RELU:       return x < 0 ? 0 : x;
    default:             return x;
    }
}

static int activations(void)
{
    int failed = 0;
    float *x = malloc(N*sizeof *x), *want = malloc(N*sizeof *want);
    char *y = op_space(N*4), *again = op_space(N*4);
    for (int i = 0; i < N; i++)
        x[i] = (float)(i - N/2)*0.001f;
    x[0] = -1e30f, x[1] = 1e30f, x[2] = -90, x[3] = 90;
    for (int act = ACT_NONE; act <= ACT_RELU; act++)
        for (int t = 0; t < 2; t++) {
            const DType type = t ? BF16 : F32;
            for (int i = 0; i < N; i++)
                want[i] = (float)wanted((double)x[i], (Activation)act);
            omp_set_num_threads(2);
            op->activate(y, type, x, N, (Activation)act);
            float *got = op_floats(y, type, N);
            char name[160];
            failed += test_close(op_name(name, "activate %d %s", act, dtype_name(type)), got, want, N, 2e-6f,
                                 t ? 0.004f : 1e-6f);
            omp_set_num_threads(1);
            op->activate(again, type, x, N, (Activation)act);
            failed += test_same("activate/same bytes", again, y, N*dtype_size(type));
            op->activate(again, type, x + 4001, 777, (Activation)act);
            failed += test_same("activate/same bytes of a part", again, y + 4001*dtype_size(type),
                                777*dtype_size(type));
            free(got);
        }
    const float nan[] = {NAN};
    for (int act = ACT_NONE; act <= ACT_RELU; act++) {
        float one = 0;
        op->activate(&one, F32, nan, 1, (Activation)act);
        failed += test_ok("activate/NaN stays", isnan(one));
    }
    free(x); free(want); free(y); free(again);
    return failed;
}

static int conversions(void)
{
    const float x[] = {0, -0.0f, 1, 1.00390625f, 1.01171875f, -3.3895314e38f, INFINITY, 1e-40f, 3.1415927f};
    enum { COUNT = sizeof x/sizeof *x };
    uint16_t y[COUNT], want[COUNT];
    float back[COUNT], want_back[COUNT];
    int failed = 0;
    const DType types[] = {BF16, F16};
    for (int t = 0; t < 2; t++) {
        op->convert(y, types[t], x, F32, COUNT);
        dtype_from_f32(want, types[t], x, COUNT);
        failed += test_same("convert/from f32", y, want, sizeof y);
        op->convert(back, F32, y, types[t], COUNT);
        dtype_to_f32(want_back, want, types[t], COUNT);
        failed += test_same("convert/to f32", back, want_back, sizeof back);
    }
    /* 1 + 2^-8 is half way between two bf16: to the even one; 1 + 3*2^-8 too */
    op->convert(y, BF16, x, F32, COUNT);
    failed += test_ok("convert/to nearest even", y[3] == 0x3f80 && y[4] == 0x3f82);
    const float nan = NAN;
    op->convert(y, BF16, &nan, F32, 1);
    op->convert(back, F32, y, BF16, 1);
    return failed + test_ok("convert/NaN stays", isnan(back[0]));
}

/* store: the values of convert, and the first that the type does not hold */
static int stores(void)
{
    enum { MANY = 9000 };
    static float x[MANY];
    static uint16_t y[MANY], want[MANY];
    const struct { DType type; float bad; } cases[] = {{F16, 65520}, {BF16, 0x1.ffp127f}, {BF16, INFINITY}, {F32, NAN},
                                                         {F16, -1e6f}};
    float back[MANY];
    int failed = 0;
    for (size_t c = 0; c < sizeof cases/sizeof *cases; c++) {
        void *to = cases[c].type == F32 ? (void *)back : y;
        uint64_t unfit = UINT64_MAX;
        uint32_t bits;
        for (int i = 0; i < MANY; i++)
            x[i] = cases[c].type == F16 ? (float)(i%4096) - 65519 : (float)i*1e34f - 1e37f;
        x[5] = cases[c].type == F16 ? 0x1.ffdfp15f : cases[c].type == BF16 ? 0x1.fefffep127f : 0x1.fffffep127f;
        op->store(to, cases[c].type, x, MANY, &unfit);
        failed += test_ok("store/all fits", unfit == UINT64_MAX);
        x[8000] = x[5001] = cases[c].bad;
        memcpy(&bits, &x[5001], sizeof bits);
        op->store(to, cases[c].type, x, MANY, &unfit);
        failed += test_ok("store/the first that does not", unfit == ((uint64_t)5001 << 32 | bits));
        unfit = 7;
        op->store(to, cases[c].type, x, MANY, &unfit);
        failed += test_ok("store/an earlier one stays", unfit == 7);
        dtype_from_f32(want, cases[c].type == F32 ? F16 : cases[c].type, x, MANY);
        failed += cases[c].type == F32 ? test_same("store/values", back, x, sizeof x)
                                       : test_same("store/values", y, want, sizeof y);
    }
    return failed;
}

static int moves(void)
{
    int failed = 0;
    float y[24];
    op->upsample(y, F32, (float[]){1, 2, 3, 4}, F32, 1, 2, 1, 2, 4, 2); /* (1,2) and (3,4), twice along each side */
    failed += test_same("upsample", y, (float[]){1, 2, 1, 2, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4, 3, 4}, 16*sizeof(float));
    uint16_t h[16];
    op->upsample(h, BF16, (float[]){1, 2}, F32, 1, 1, 1, 2, 2, 2);
    failed += test_same("upsample bf16", h, (uint16_t[]){0x3f80, 0x4000, 0x3f80, 0x4000, 0x3f80, 0x4000, 0x3f80,
                                                         0x4000}, 16);
    op->upsample(y, F32, (float[]){1, 2, 3}, F32, 1, 1, 3, 1, 1, 5);        /* not whole: floor(w*3/5) = 0 0 1 1 2 */
    failed += test_same("upsample 3 to 5", y, (float[]){1, 1, 2, 2, 3}, 5*sizeof(float));
    /* two patches side by side of 2 x 2 pixels of one channel; then one above the other, of one pixel of two */
    op->unpatch(y, (float[]){1, 2, 3, 4, 5, 6, 7, 8}, 1, 1, 2, 2, 1);
    failed += test_same("unpatch", y, (float[]){1, 2, 5, 6, 3, 4, 7, 8}, 8*sizeof(float));
    op->unpatch(y, (float[]){1, 2, 3, 4}, 1, 2, 1, 1, 2);
    failed += test_same("unpatch of one pixel", y, (float[]){1, 2, 3, 4}, 4*sizeof(float));
    /* 2 images of 1 x 1 patch of 2 x 2 pixels of 3 channels: pixels in their order */
    for (int i = 0; i < 24; i++)
        y[i] = -1;
    op->unpatch(y, (float[]){1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24}, 2,
                1, 1, 2, 3);
    failed += test_same("unpatch of two images", y, (float[]){1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,
                        18, 19, 20, 21, 22, 23, 24}, 24*sizeof(float));
    const float table[] = {0, 1, 10, 11, 20, 21}, position[] = {100, 200, 300, 400};
    op->embed(y, table, position, (int32_t[]){2, 0, 1, 1}, 4, 2, 2);
    failed += test_same("embed", y, (float[]){120, 221, 300, 401, 110, 211, 310, 411}, 8*sizeof(float));
    op->embed(y, table, NULL, (int32_t[]){1}, 1, 1, 2);
    failed += test_same("embed without position", y, (float[]){10, 11}, 2*sizeof(float));

    float *a = op_values(N, 1), *b = op_values(N, 2), *sum = op_values(N, 1), *less = op_values(N, 3),
        *want = op_values(N, 4);
    op->add(sum, b, N);
    op->subtract(less, a, b, N);
    for (int i = 0; i < N; i++)
        want[i] = a[i] + b[i];
    failed += test_same("add", sum, want, N*sizeof *sum);
    for (int i = 0; i < N; i++)
        want[i] = a[i] - b[i];
    failed += test_same("subtract", less, want, N*sizeof *sum);
    for (int t = 0; t < 2; t++) {
        const DType type = t ? BF16 : F32;
        void *x = op_typed(a, type, N), *y_t = op_typed(b, type, N), *part = op_typed(b, type, N), *product;
        for (int i = 0; i < N; i++)
            want[i] = a[i]*b[i];
        product = op_typed(want, type, N);
        omp_set_num_threads(2);
        op->multiply(y_t, x, type, N);
        failed += test_same(t ? "multiply bf16" : "multiply", y_t, product, N*dtype_size(type));
        omp_set_num_threads(1);
        op->multiply(part, x, type, 777);
        failed += test_same("multiply/same bytes of a part", part, product, 777*dtype_size(type));
        free(x); free(y_t); free(part); free(product);
    }
    free(a); free(b); free(sum); free(less); free(want);
    return failed;
}

static int sampler(void)
{
    /* out = 1 + 2 (3 - 1) = 5; x0 = (10 - 0.6*5)/0.8 = 8.75; x = 0.9*8.75 + 0.4*5 = 9.875 */
    float x = 10;
    const float uncond = 1, cond = 3;
    op->ddim_step(&x, &uncond, &cond, 2, 0.8f, 0.6f, 0.9f, 0.4f, PREDICT_EPSILON, 1);
    int failed = test_close("ddim/hand", &x, (float[]){9.875f}, 1, 2e-6f, 0);
    /* v = 5: x0 = 8 - 3 = 5; eps = 4 + 6 = 10; x = 4.5 + 4 */
    x = 10;
    op->ddim_step(&x, &uncond, &cond, 2, 0.8f, 0.6f, 0.9f, 0.4f, PREDICT_V, 1);
    failed += test_close("ddim/hand v", &x, (float[]){8.5f}, 1, 2e-6f, 0);
    /* x0 = 5: eps = (10 - 4)/0.6 = 10; x = 4.5 + 4 */
    x = 10;
    op->ddim_step(&x, &uncond, &cond, 2, 0.8f, 0.6f, 0.9f, 0.4f, PREDICT_SAMPLE, 1);
    failed += test_close("ddim/hand sample", &x, (float[]){8.5f}, 1, 2e-6f, 0);
    x = 10;
    op->ddim_step(&x, NULL, &cond, 7, 0.8f, 0.6f, 0.9f, 0.4f, PREDICT_EPSILON, 1);   /* x0 = 10.25 */
    failed += test_close("ddim/hand unguided", &x, (float[]){0.9f*10.25f + 1.2f}, 1, 2e-6f, 0);

    /* out = 5; x0 = (10 - 3)/0.8 = 8.75, was 6; x = 0.5*10 + 2*8.75 + 0.25*2.75 */
    float picture = 6;
    x = 10;
    op->dpm_step(&x, &picture, &uncond, &cond, 2, 0.8f, 0.6f, 0.5f, 2, 0.25f, PREDICT_EPSILON, 1);
    failed += test_close("dpm/hand", (float[]){x, picture}, (float[]){23.1875f, 8.75f}, 2, 4e-6f, 0);
    /* v = 3 without guidance: x0 = 8 - 1.8 = 6.2 */
    x = 10;
    op->dpm_step(&x, &picture, NULL, &cond, 2, 0.8f, 0.6f, 0.5f, 2, 0.25f, PREDICT_V, 1);
    failed += test_close("dpm/hand v", (float[]){x, picture}, (float[]){5 + 12.4f + 0.25f*(6.2f - 8.75f), 6.2f}, 2,
                         4e-6f, 0);

    /* out = 5: (3*5 - 2*4 + 7 - 2*1)/2; a place of what came before takes out */
    const float first = 4, second = 7;
    float third = 1, y;
    const float *const outputs[] = {&first, &second, &third};
    op->multistep(&y, &third, &uncond, &cond, 2, outputs, (float[]){3, -2, 1, -2}, 0.5f, 1);
    failed += test_close("multistep/hand", (float[]){y, third}, (float[]){6, 5}, 2, 0, 0);
    op->multistep(&y, NULL, NULL, &cond, 2, outputs, (float[]){1, 0, 0, 1}, 0.25f, 1);
    failed += test_close("multistep/hand unguided", &y, (float[]){2}, 1, 0, 0);

    /* each operation rounded by itself */
    float *many = op_values(1000, 1), *want = op_values(1000, 1), *c = op_values(1000, 2), *u = op_values(1000, 3);
    for (int i = 0; i < 1000; i++) {
        volatile float t = c[i] - u[i];
        t = 7.5f*t;
        volatile float eps = u[i] + t;
        t = 0.6f*eps;
        t = want[i] - t;
        volatile float x0 = t/0.8f;
        t = 0.9f*x0;
        volatile float direction = 0.4f*eps;
        want[i] = t + direction;
    }
    op->ddim_step(many, u, c, 7.5f, 0.8f, 0.6f, 0.9f, 0.4f, PREDICT_EPSILON, 1000);
    failed += test_same("ddim/roundings", many, want, 1000*sizeof *many);
    for (int i = 0; i < 1000; i++) {
        volatile float t = c[i] - u[i];
        t = 7.5f*t;
        t = u[i] + t;
        t = 0.6f*t;
        t = want[i] - t;
        const float now = t/0.8f;
        volatile float kept = 0.5f*want[i], data = 2*now, change = now - c[i];
        change = 0.3f*change;
        kept = kept + data;
        want[i] = kept + change;
    }
    float *before = op_values(1000, 2);
    op->dpm_step(many, before, u, c, 7.5f, 0.8f, 0.6f, 0.5f, 2, 0.3f, PREDICT_EPSILON, 1000);
    failed += test_same("dpm/roundings", many, want, 1000*sizeof *many);
    static const float weight[] = {55, -59, 37, -9};
    float *left = op_values(1000, 4), *outs = op_space(1000*sizeof *outs);
    for (int i = 0; i < 1000; i++) {
        volatile float t = c[i] - u[i];
        t = 7.5f*t;
        t = u[i] + t;
        outs[i] = t;
        volatile float sum = 55*t, of_before = -59*many[i];
        sum = sum + of_before;
        of_before = 37*before[i];
        sum = sum + of_before;
        of_before = -9*left[i];
        sum = sum + of_before;
        want[i] = (float)(1/24.0)*sum;
    }
    op->multistep(many, left, u, c, 7.5f, (const float *const []){many, before, left}, weight, (float)(1/24.0), 1000);
    failed += test_same("multistep/roundings", many, want, 1000*sizeof *many);
    failed += test_same("multistep/output kept", left, outs, 1000*sizeof *left);
    free(left); free(outs); free(before);
    free(many); free(want); free(c); free(u);
    return failed;
}

static int backends(void)
{
    Err e = {0};
    int failed = test_ok("backend/unknown is refused", backend_pick("gpu", 0, &e) == -1 && strstr(e.text, "'gpu'"));
    e = (Err){0};
    failed += test_ok("backend/bad number is refused", backend_pick("cuda:x", 0, &e) == -1
                                                        && strstr(e.text, "'cuda:x'"));
    e = (Err){0};
    failed += test_ok("backend/auto always answers", backend_pick("auto", 0, &e) == 0);
    e = (Err){0};
    return failed + test_ok("backend/cpu", backend_pick("cpu", 2, &e) == 0 && strcmp(op->name, "cpu") == 0);
}

int main(void)
{
    int failed = backends();
    const CpuLevel best = cpu_level;
    for (int level = CPU_ANY; level <= (int)best; level++) {
        cpu_choose((CpuLevel)level, false);
        test_note("level %d", level);
        failed += activations() + conversions() + stores() + moves() + sampler();
    }
    return failed != 0;
}
