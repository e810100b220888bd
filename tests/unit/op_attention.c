/* SPDX-License-Identifier: MIT */
/* op_attention.c -- attention: a case by hand, a plain softmax in double, strides, shared keys, causal, biased scores,
 * same bytes.
 *
 * Tolerances: f32, some roundings of values below 1; bf16, probabilities rounded to 8 bits before they meet the
 * values. */
#include "tests/unit/op_test.h"

typedef struct Case {
    int heads, d;
    int64_t Sq, Sk;
    bool causal, shared;
} Case;

/* With bias where it is not NULL. */
static void run(void *y, int64_t y_stride, const void *q, const void *k, const void *v, int64_t stride, DType type,
                int64_t B, const Case *c, const int32_t *kv, const float *bias, float scale)
{
    if (bias)
        op->attention_biased(y, y_stride, q, stride, k, stride, v, stride, type, B, c->heads, c->d, c->Sq, c->Sk, bias,
                             scale);
    else
        op->attention(y, y_stride, q, stride, k, stride, v, stride, type, B, c->heads, c->d, c->Sq, c->Sk, kv, scale,
                      c->causal);
}

static int by_hand(void)
{
    /* two keys, scores ln 1 and ln 3: weights 1/4 and 3/4; causal: the first query sees the first key only */
    const float q[] = {1, 1}, k[] = {0, 1.0986123f}, v[] = {4, 8};
    float y[2];
    op->attention(y, 1, q, 1, k, 1, v, 1, F32, 1, 1, 1, 2, 2, NULL, 1, false);
    int failed = test_close("attention/hand", y, (float[]){7, 7}, 2, 1e-6f, 0);
    op->attention(y, 1, q, 1, k, 1, v, 1, F32, 1, 1, 1, 2, 2, NULL, 1, true);
    failed += test_close("attention/hand causal", y, (float[]){4, 7}, 2, 1e-6f, 0);
    /* scores 0 and 2 ln 3; the first query's with ln 3 added to the first: weights 1/4 and 3/4, then 1/10 and 9/10 */
    op->attention_biased(y, 1, q, 1, k, 1, v, 1, F32, 1, 1, 1, 2, 2, (float[]){1.0986123f, 0, 0, 0}, 2);
    return failed + test_close("attention/hand biased", y, (float[]){7, 7.6f}, 2, 2e-6f, 0);
}

static void plain(float *y, const float *q, const float *k, const float *v, int64_t stride, const Case *c, int64_t B,
                  const int32_t *kv, const float *bias, float scale)
{
    double *p = malloc((size_t)c->Sk*sizeof *p);
    for (int64_t b = 0; b < B; b++)
        for (int h = 0; h < c->heads; h++)
            for (int64_t s = 0; s < c->Sq; s++) {
                const int64_t image = kv ? kv[b] : b, seen = c->causal && s + 1 < c->Sk ? s + 1 : c->Sk;
                double top = -INFINITY, sum = 0;
                for (int64_t j = 0; j < seen; j++) {
                    p[j] = 0;
                    for (int i = 0; i < c->d; i++)
                        p[j] += (double)q[(b*c->Sq + s)*stride + h*c->d + i]
                              * (double)k[(image*c->Sk + j)*stride + h*c->d + i];
                    p[j] *= (double)scale;
                    p[j] += bias ? (double)bias[(h*c->Sq + s)*c->Sk + j] : 0;
                    top = p[j] > top ? p[j] : top;
                }
                for (int64_t j = 0; j < seen; j++)
                    sum += p[j] = exp(p[j] - top);
                for (int i = 0; i < c->d; i++) {
                    double out = 0;
                    for (int64_t j = 0; j < seen; j++)
                        out += p[j]/sum*(double)v[(image*c->Sk + j)*stride + h*c->d + i];
                    y[(b*c->Sq + s)*c->heads*c->d + h*c->d + i] = (float)out;
                }
            }
    free(p);
}

static int attention(const Case *c, DType type, float gain, bool biased)
{
    enum { B = 4 };
    const int width = c->heads*c->d, stride = width + 3;      /* rows lie in wider ones, as q, k, v of one product do */
    const size_t nq = (size_t)(B*c->Sq*stride), nk = (size_t)(B*c->Sk*stride), ny = (size_t)(B*c->Sq*width);
    const int32_t kv[B] = {2, 0, 2, 1};
    const float scale = gain/sqrtf((float)c->d);
    const size_t nb = (size_t)(c->heads*c->Sq*c->Sk);
    float *bias = biased ? op_values(nb, 5) : NULL;
    for (size_t i = 0; bias && i < nb; i++)
        bias[i] *= 4*gain;
    float *q = op_values(nq, 1), *k = op_values(nk, 2), *v = op_values(nk, 3), *want = op_values(ny, 4);
    char *q_t = op_typed(q, type, nq), *k_t = op_typed(k, type, nk), *v_t = op_typed(v, type, nk);
    char *y = op_space(ny*4), *one = op_space(ny*4);
    omp_set_num_threads(2);
    run(y, width, q_t, k_t, v_t, stride, type, B, c, c->shared ? kv : NULL, bias, scale);
    plain(want, q, k, v, stride, c, B, c->shared ? kv : NULL, bias, scale);
    float *got = op_floats(y, type, ny);
    char name[160];
    int failed = test_close(op_name(name, "attention/loop %dx%d %ld-%ld %s gain %g%s%s%s", c->heads, c->d, (long)c->Sq,
                                    (long)c->Sk, dtype_name(type), (double)gain, c->causal ? " causal" : "",
                                    c->shared ? " shared" : "", bias ? " biased" : ""),
                            got, want, ny, type == BF16 ? 0.006f : 2e-6f*(1 + gain), 0);
    size_t wrong = 0;
    const size_t image = (size_t)(c->Sq*width)*dtype_size(type);
    for (int b = 0; b < B; b += 3)
        for (int threads = 1; threads <= 3; threads += 2) {
            const size_t at_k = c->shared ? 0 : (size_t)(b*c->Sk*stride)*dtype_size(type);
            omp_set_num_threads(threads);
            run(one, width, q_t + (size_t)(b*c->Sq*stride)*dtype_size(type), k_t + at_k, v_t + at_k, stride, type, 1, c,
                c->shared ? kv + b : NULL, bias, scale);
            wrong += memcmp(one, y + (size_t)b*image, image) != 0;
        }
    failed += test_ok(op_name(name, "attention/same bytes %dx%d %ld-%ld", c->heads, c->d, (long)c->Sq, (long)c->Sk),
                      wrong == 0);
    free(q); free(k); free(v); free(want); free(q_t); free(k_t); free(v_t); free(y); free(one); free(got);
    free(bias);
    return failed;
}

int main(void)
{
    static const Case cases[] = {
        {4, 32, 64, 64, false, false}, {4, 40, 16, 16, false, false}, {4, 32, 64, 77, false, true},
        {4, 32, 77, 77, true, false},
        {1, 96, 256, 256, false, false}, {8, 40, 300, 300, false, false}, {2, 64, 300, 300, true, false},
        {3, 5, 7, 9, false, false},
        {1, 1, 1, 1, false, false}, {1, 256, 33, 130, false, true}, {1, 17, 130, 513, true, true},
        {1, 48, 2000, 50, false, false}, {1, 512, 20, 17, false, false}, {1, 700, 9, 33, true, true},
        {4, 32, 70, 154, false, true}, {2, 40, 33, 1155, false, true},
    };
    static const Case biased[] = {
        {6, 64, 77, 77, false, false}, {3, 32, 256, 256, false, false}, {2, 5, 9, 3, false, false},
        {1, 80, 33, 517, false, false}, {1, 64, 2000, 130, false, false},
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
        for (size_t i = 0; i < sizeof cases/sizeof *cases; i++) {
            failed += attention(&cases[i], F32, 1, false) + attention(&cases[i], BF16, 1, false);
            if (i%3 == 0)       /* scores of some tens: running maxima move, weights fall to nothing */
                failed += attention(&cases[i], F32, 40, false);
        }
        for (size_t i = 0; i < sizeof biased/sizeof *biased; i++)
            failed += attention(&biased[i], F32, i%2 ? 40 : 1, true) + attention(&biased[i], BF16, 1, true);
    }
    return failed != 0;
}
