/* SPDX-License-Identifier: MIT */
/* op_norm.c -- group norm, layer norm, the same modulated, RMS norm and the gated sum: cases by hand, a plain loop in
 * double, same bytes for any batch and threads.
 *
 * Tolerance: y is of order 1 to 10 and made of a few f32 roundings; bf16 outputs are rounded to 8 bits. */
#include "tests/unit/op_norm.h"

static int by_hand(void)
{
    /* one image of two points, four channels in two groups: (1,3,5,7) and (2,2,4,4); gamma 1, beta 0
     * but the last (2, 1) */
    const float x[] = {1, 3, 2, 2, 5, 7, 4, 4}, gamma[] = {1, 1, 1, 2}, beta[] = {0, 0, 0, 1};
    float y[8];
    const float s = 1/sqrtf(5);
    NormInput in = {.x = x, .type = F32, .C = 4};
    op->group_norm(y, F32, NULL, &in, gamma, beta, 1, 2, 2, 0, ACT_NONE);
    int failed = test_close("group_norm/hand", y, (float[]){-3*s, -s, -1, -1, s, 3*s, 1, 3}, 8, 1e-6f, 0);
    const float shift[] = {1, -1, 5, 5};       /* first group becomes (2,2,6,6) */
    in.shift = shift;
    op->group_norm(y, F32, NULL, &in, gamma, beta, 1, 2, 2, 0, ACT_NONE);
    failed += test_close("group_norm/hand shift", y, (float[]){-1, -1, -1, -1, 1, 1, 1, 3}, 8, 1e-6f, 0);
    const float left[] = {1, 3, 2, 5, 7, 4}, right[] = {2, 4};     /* x of the last channel beside the others */
    float as_is[8], joined[8];
    in = (NormInput){left, F32, 3, right, 1, shift};
    op->group_norm(joined, F32, as_is, &in, gamma, beta, 1, 2, 2, 0, ACT_NONE);
    failed += test_same("group_norm/hand beside", joined, y, sizeof y);
    failed += test_same("group_norm/hand as it is", as_is, x, sizeof x);
    op->layer_norm(y, F32, x, F32, gamma, beta, 1, 4, 0);       /* (1,3,2,2): mean 2, deviation 1/sqrt 2 */
    const float r = sqrtf(2);
    failed += test_close("layer_norm/hand", y, (float[]){-r, r, 0, 1}, 4, 1e-6f, 0);
    float nan[] = {1, NAN, 2, 2};
    op->layer_norm(nan, F32, nan, F32, gamma, beta, 1, 4, 0);
    failed += test_ok("layer_norm/NaN stays, in place", isnan(nan[0]) && isnan(nan[3]));

    /* (1,3,2,2) of one image as above, (4,4,8,8) of the other as (-1,-1,1,1) */
    const float scale[] = {0, 1, -1, 9, 99, 0, 1, 1, 2}, offset[] = {0, 1, 0, 3, 99, 5, 5, 5, 5};
    op->modulate(y, F32, (float[]){1, 3, 2, 2, 4, 4, 8, 8}, offset, scale, 5, 2, 1, 4, 0);
    failed += test_close("modulate/hand", y, (float[]){-r, 2*r + 1, 0, 3, 4, 3, 7, 8}, 8, 1e-6f, 0);
    float sum[] = {1, 2, 3, 4};
    op->add_gated(sum, (float[]){10, 20, 30, 40}, F32, (float[]){1, 0.5f, 99, 0, 2}, 3, 2, 1, 2);
    failed += test_close("add_gated/hand", sum, (float[]){11, 12, 3, 84}, 4, 0, 0);
    /* two groups of two, of mean squares 12.5 and 2; what is beside them stays */
    op->rms_norm(y, F32, 5, (float[]){3, 4, 2, 0, 7}, F32, 5, (float[]){1, 10}, 1, 2, 2, 0);
    const float q = 1/sqrtf(12.5f);
    return failed + test_close("rms_norm/hand", y, (float[]){3*q, 40*q, r, 0, 4}, 5, 4e-6f, 0);
}

typedef struct Case {
    int64_t HW;
    int C, beside, groups;      /* C: with those beside */
    DType x_type, type;
    Activation act;
    bool shifted;
    float offset;
} Case;

/* Against the loop; images of it on 1 to 3 threads; what lies side by side against the same in one matrix. */
static int group_norm(Case c)
{
    enum { B = 8 };
    const int C = c.C, left = C - c.beside;
    const size_t rows = B*(size_t)c.HW, image = (size_t)(c.HW*C), n = B*image, bytes = image*dtype_size(c.type);
    float *x = op_values(n, 1), *shift = op_values(B*(size_t)C, 2), *gamma = op_values((size_t)C, 3),
        *beta = op_values((size_t)C, 4);
    float *want = op_values(n, 5);
    char *y = op_space(n*4), *one = op_space(image*4), *as_is = op_space(n*4);
    for (size_t i = 0; i < n; i++)
        x[i] += c.offset;
    if (!c.shifted)
        memset(shift, 0, B*(size_t)C*sizeof *shift);
    char *x_t = op_typed(x, c.x_type, n);
    float *a = columns(x, rows, C, 0, left), *b = columns(x, rows, C, left, c.beside);
    const NormInput whole = {.x = x_t, .type = c.x_type, .C = C, .shift = c.shifted ? shift : NULL};
    const NormInput in = !c.beside ? whole : (NormInput){a, F32, left, b, c.beside, whole.shift};
    plain_group_norm(want, x, shift, gamma, beta, B, c.HW, C, c.groups, 1e-5, c.act);
    omp_set_num_threads(2);
    op->group_norm(y, c.type, as_is, &in, gamma, beta, B, c.HW, c.groups, 1e-5f, c.act);
    float *got = op_floats(y, c.type, n);
    char name[160];
    op_name(name, "group_norm/loop %ldx%d+%d/%d %s-%s act %d%s offset %g", (long)c.HW, left, c.beside, c.groups,
            dtype_name(c.x_type), dtype_name(c.type), c.act, c.shifted ? " shift" : "", (double)c.offset);
    const float scale = 1 + fabsf(c.offset);    /* x itself is rounded at 6e-8 of its size */
    int failed = test_close(name, got, want, n, 3e-6f*scale, c.type == BF16 ? 0.004f : 2e-6f);
    void *rounded = op_typed(x, c.type, n);
    failed += test_same("group_norm/as it is", as_is, rounded, B*bytes);
    size_t wrong = 0;
    for (int k = 0; k < B; k += 3)
        for (int threads = 1; threads <= 3; threads++) {
            const size_t first = (size_t)k*(size_t)c.HW;
            NormInput alone = whole;
            if (c.beside)
                alone = (NormInput){a + first*(size_t)left, F32, left, b + first*(size_t)c.beside, c.beside, NULL};
            else
                alone.x = x_t + first*(size_t)C*dtype_size(c.x_type);
            alone.shift = c.shifted ? shift + k*C : NULL;
            omp_set_num_threads(threads);
            op->group_norm(one, c.type, NULL, &alone, gamma, beta, 1, c.HW, c.groups, 1e-5f, c.act);
            wrong += memcmp(one, y + (size_t)k*bytes, bytes) != 0;
        }
    failed += test_ok(op_name(name, "group_norm/same bytes %ldx%d/%d", (long)c.HW, C, c.groups), wrong == 0);
    op->group_norm(as_is, c.type, NULL, &whole, gamma, beta, B, c.HW, c.groups, 1e-5f, c.act);
    failed += test_same("group_norm/same bytes as in one matrix", as_is, y, B*bytes);
    free(x); free(shift); free(gamma); free(beta); free(want); free(y); free(one); free(as_is); free(x_t); free(a);
    free(b); free(got); free(rounded);
    return failed;
}

static int layer_norm(int D, DType type)
{
    enum { N = 700 };
    const size_t n = (size_t)N*(size_t)D;
    float *x = op_values(n, 1), *gamma = op_values((size_t)D, 3), *beta = op_values((size_t)D, 4),
        *want = op_values(n, 5);
    char *y = op_space(n*4), *one = op_space((size_t)D*4);
    plain_layer_norm(want, x, gamma, beta, 0, 0, 1, N, D, 1e-5);
    omp_set_num_threads(2);
    op->layer_norm(y, type, x, F32, gamma, beta, N, D, 1e-5f);
    float *got = op_floats(y, type, n);
    char name[160];
    int failed = test_close(op_name(name, "layer_norm/loop %d %s", D, dtype_name(type)), got, want, n, 3e-6f,
                            type == BF16 ? 0.004f : 2e-6f);
    size_t wrong = 0;
    const size_t bytes = (size_t)D*dtype_size(type);
    for (int i = 0; i < N; i += 97) {
        op->layer_norm(one, type, x + i*D, F32, gamma, beta, 1, D, 1e-5f);
        wrong += memcmp(one, y + (size_t)i*bytes, bytes) != 0;
    }
    failed += test_ok(op_name(name, "layer_norm/same bytes %d", D), wrong == 0);
    free(x); free(gamma); free(beta); free(want); free(y); free(one); free(got);
    return failed;
}

/* Images whose scale and shift lie side by side: against the loop, rows alone and on 1 to 3 threads, in place; then the
 * same values added to others through a gate, alone and among others. */
static int modulate(int D, int S, DType type)
{
    enum { B = 3 };
    const int64_t stride = 2*D + 3;
    const size_t rows = (size_t)(B*S), n = rows*(size_t)D, row = (size_t)D*dtype_size(type);
    float *x = op_values(n, 1), *by = op_values((size_t)(B*stride), 2), *want = op_values(n, 3), *sum = op_values(n, 4),
        *want_sum = op_values(n, 4);
    char *y = op_space(n*4), *one = op_space((size_t)D*4);
    plain_layer_norm(want, x, by + D, by, 1, stride, B, S, D, 1e-6);
    omp_set_num_threads(2);
    op->modulate(y, type, x, by, by + D, stride, B, S, D, 1e-6f);
    float *got = op_floats(y, type, n);
    char name[160];
    int failed = test_close(op_name(name, "modulate/loop %dx%d %s", S, D, dtype_name(type)), got, want, n, 4e-6f,
                            type == BF16 ? 0.004f : 3e-6f);
    op->add_gated(sum, y, type, by + 3, stride, B, S, D);
    for (size_t i = 0; i < n; i++)
        want_sum[i] += by[3 + (int64_t)i/(S*D)*stride + (int64_t)i%D]*got[i];
    failed += test_close(op_name(name, "add_gated/loop %dx%d %s", S, D, dtype_name(type)), sum, want_sum, n, 1e-6f,
                         1e-6f);
    size_t wrong = 0, wrong_sum = 0;
    for (size_t i = 0; i < rows; i += 19) {
        const float *of_image = by + (int64_t)i/S*stride;
        float *again = op_values(n, 4) + i*(size_t)D;
        omp_set_num_threads(1 + (int)(i%3));
        op->modulate(one, type, x + i*(size_t)D, of_image, of_image + D, 0, 1, 1, D, 1e-6f);
        wrong += memcmp(one, y + i*row, row) != 0;
        op->add_gated(again, y + i*row, type, of_image + 3, 0, 1, 1, D);
        wrong_sum += memcmp(again, sum + i*(size_t)D, (size_t)D*sizeof *sum) != 0;
        free(again - i*(size_t)D);
    }
    failed += test_ok(op_name(name, "modulate/same bytes %dx%d", S, D), wrong == 0);
    failed += test_ok(op_name(name, "add_gated/same bytes %dx%d", S, D), wrong_sum == 0);
    if (type == F32) {
        op->modulate(x, F32, x, by, by + D, stride, B, S, D, 1e-6f);
        failed += test_same("modulate/in place", x, y, rows*row);
    }
    free(x); free(by); free(want); free(sum); free(want_sum); free(y); free(one); free(got);
    return failed;
}

/* Rows that lie in wider ones: against the loop, rows alone and on 1 to 3 threads, in place, what is beside them. */
static int rms_norm(int groups, int D, DType x_type, DType type)
{
    enum { N = 301 };
    const int width = groups*D, x_stride = width + 3, y_stride = x_type == type ? x_stride : width + 1;
    const size_t nx = (size_t)N*(size_t)x_stride, ny = (size_t)N*(size_t)y_stride, size = dtype_size(type);
    float *x = op_values(nx, 1), *gamma = op_values((size_t)D, 2), *want = op_values(ny, 3);
    char *x_t = op_typed(x, x_type, nx), *y = op_typed(want, type, ny), *one = op_space((size_t)width*size);
    plain_rms_norm(want, y_stride, x, x_stride, gamma, N, groups, D, 1e-6);
    omp_set_num_threads(2);
    op->rms_norm(y, type, y_stride, x_t, x_type, x_stride, gamma, N, groups, D, 1e-6f);
    float *got = op_floats(y, type, ny);
    char name[160];
    int failed = test_close(op_name(name, "rms_norm/loop %dx%d %s-%s", groups, D, dtype_name(x_type), dtype_name(type)),
                            got, want, ny, 1e-6f, type == BF16 ? 0.004f : 2e-6f);
    size_t wrong = 0;
    for (int i = 0; i < N; i += 19) {
        omp_set_num_threads(1 + i%3);
        op->rms_norm(one, type, 0, x_t + (size_t)(i*x_stride)*dtype_size(x_type), x_type, 0, gamma, 1, groups, D,
                     1e-6f);
        wrong += memcmp(one, y + (size_t)(i*y_stride)*size, (size_t)width*size) != 0;
    }
    failed += test_ok(op_name(name, "rms_norm/same bytes %dx%d", groups, D), wrong == 0);
    if (x_type == type) {
        op->rms_norm(x_t, type, x_stride, x_t, type, x_stride, gamma, N, groups, D, 1e-6f);
        for (int i = 0; i < N; i++)
            wrong += memcmp(x_t + (size_t)(i*x_stride)*size, y + (size_t)(i*y_stride)*size, (size_t)width*size) != 0;
        failed += test_ok("rms_norm/in place", wrong == 0);
    }
    free(x); free(gamma); free(want); free(x_t); free(y); free(one); free(got);
    return failed;
}

int main(void)
{
    static const Case cases[] = {
        {256, 64, 0, 16, F32, F32, ACT_SILU, true, 0}, {256, 64, 0, 16, F32, BF16, ACT_SILU, false, 0},
        {16, 160, 0, 16, F32, BF16, ACT_NONE, true, 0}, {64, 288, 0, 16, F32, F32, ACT_SILU, false, 0},
        {1000, 24, 0, 8, F32, F32, ACT_NONE, true, 0}, {4, 5, 0, 5, F32, F32, ACT_SILU, false, 0},
        {4096, 16, 0, 8, F32, F32, ACT_SILU, false, 100},
        {256, 128, 0, 16, BF16, BF16, ACT_SILU, true, 0}, {50, 37, 0, 1, BF16, F32, ACT_NONE, false, 0},
        {256, 128, 64, 16, F32, BF16, ACT_SILU, false, 0}, {64, 288, 160, 16, F32, F32, ACT_SILU, true, 0},
        {1000, 25, 7, 5, F32, BF16, ACT_NONE, true, 0}, {9, 8, 3, 2, F32, F32, ACT_SILU, false, 100},
    };
    Err e = {0};
    if (backend_pick("cpu", 2, &e))
        return test_ok(e.text, 0);
    const CpuLevel best = cpu_level;
    int failed = 0;
    for (int level = CPU_ANY; level <= (int)best; level++) {
        cpu_choose((CpuLevel)level, false);
        test_note("level %d", level);
        failed += by_hand();
        for (size_t i = 0; i < sizeof cases/sizeof *cases; i++)
            failed += group_norm(cases[i]);
        for (int D = 1; D <= 1280; D = D < 16 ? D + 7 : 2*D + 3)
            failed += layer_norm(D, D & 1 ? F32 : BF16);
        failed += layer_norm(128, BF16) + layer_norm(160, F32);
        for (int D = 1; D <= 1536; D = D < 16 ? D + 7 : 4*D + 5)
            failed += modulate(D, 131, D & 1 ? F32 : BF16) + modulate(D + 1, 6, D & 1 ? BF16 : F32);
        static const DType types[] = {F32, BF16};
        static const int runs[][2] = {{1, 1}, {3, 5}, {24, 64}, {2, 33}, {1, 4096}, {1, 2051}};
        for (size_t i = 0; i < sizeof runs/sizeof *runs; i++)
            for (int t = 0; t < 4; t++)
                failed += rms_norm(runs[i][0], runs[i][1], types[t/2], types[t%2]);
    }
    return failed != 0;
}
