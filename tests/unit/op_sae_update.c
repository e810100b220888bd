/* SPDX-License-Identifier: MIT */
/* op_sae_update.c -- the autoencoder's updates: Adam by hand, with its moments in f32 and both in one word, and along
 * gradients that are summed as it goes. */
#include "tests/unit/op_test.h"

/* Two parts of the same codes over halves of the features, with gradients of their own: in one go as by row_grads and
 * adam, bit for bit, whatever the threads; and an encoder that took part as one that is packed afterwards. pairs: both
 * moments in one. */
static int updates(int N, int D, int F, int K, DType type, bool pairs)
{
    const size_t FD = (size_t)F*(size_t)D, bytes = sizeof(float)*FD;
    float *x = op_values((size_t)N*D, 1), *g = op_values((size_t)N*D, 2), *g2 = op_values((size_t)N*D, 8),
        *a = op_values((size_t)N*K, 4), *g_a = op_values((size_t)N*K, 5);
    int32_t *i = op_space(sizeof(int32_t)*N*K), *start = op_space(sizeof(int32_t)*(F + 1)),
        *order = op_space(sizeof(int32_t)*N*K);
    float *all[2][8];               /* p, m, v, dp of W_dec and W_enc, twice */
    double of_dec, of_enc, got;
    int failed = 0;
    for (int e = 0; e < N*K; e++) {
        i[e] = (int32_t)((uint32_t)e*2654435761u % (uint32_t)(F - F/5));       /* a fifth is never kept */
        a[e] = a[e] > 0 ? a[e] : 0;
    }
    op->sae.invert(start, order, i, N, F, K);
    const CodePart part[] = {{a, g_a, g, start, order, 1, K, 0, F/2}, {a, g_a, g2, start, order, 0.25f, K, F/2, F},
                             {a, g_a, g2, start, order, -0.5f, K, 0, F}};
    const AdamStep step = {.rate = 1e-3f, .scale = 0.3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .unbias1 = 1.1f,
                           .unbias2 = 1.2f};
    for (int w = 0; w < 2; w++)
        for (int p = 0; p < 8; p++) {
            all[w][p] = p % 4 == 3 ? op_space(bytes) : op_values(FD, (uint32_t)p + 20);
            for (size_t j = 0; p % 4 == 2 && j < FD; j++)
                all[w][p][j] *= all[w][p][j];
            if (p%4 == 2 && pairs)
                op_pairs(all[w][p - 1], all[w][p], FD);
        }
    float **one = all[0], **two = all[1];
    for (int p = 0; p < 3; p++)
        op->sae.row_grads(one[3], one[7], &part[p], x, D);
    op->sae.sum_squares(&of_dec, one[3], (int64_t)FD);
    op->sae.sum_squares(&of_enc, one[7], (int64_t)FD);
    AdamStep unit = step;
    unit.unit_rows = true;
    AdamState by_two[2], by_one[2];
    for (int w = 0; w < 2; w++) {
        by_two[w] = op_state(one[4*w], one[4*w + 1], pairs ? NULL : one[4*w + 2]);
        by_one[w] = op_state(two[4*w], two[4*w + 1], pairs ? NULL : two[4*w + 2]);
    }
    op->sae.adam(&by_two[0], one[3], F, D, &unit);
    op->sae.adam(&by_two[1], one[7], F, D, &step);
    const float *b_enc = x, *b_dec = g;                 /* any F and D values */
    SaeEncoder *taken_along = op_encoder(op, D, F, type, two[4], b_enc, b_dec);
    op->sae.row_update(&got, &by_one[0], &by_one[1], part, 3, x, F, D, &step, taken_along);
    op->sae.encoder_pack(taken_along, NULL, b_enc + 1, b_dec, NULL, F);
    SaeEncoder *afterwards = op_encoder(op, D, F, type, one[4], b_enc + 1, b_dec);
    float *value[2];
    int32_t *feature[2];
    for (int w = 0; w < 2; w++) {
        value[w] = op_space(sizeof(float)*N*K);
        feature[w] = op_space(sizeof(int32_t)*N*K);
        op->sae.encode(w ? afterwards : taken_along, value[w], feature[w], x, N, K);
    }
    failed += test_same("update/encoder's values", value[0], value[1], sizeof(float)*N*K);
    failed += test_same("update/encoder's features", feature[0], feature[1], sizeof(int32_t)*N*K);
    for (int w = 0; w < 2; w++) {
        op->sae.encoder_free(w ? afterwards : taken_along);
        free(value[w]);
        free(feature[w]);
    }
    const double squares = of_dec + of_enc;
    static const char *const names[] = {"W_dec", "m of W_dec", "v of W_dec", "", "W_enc", "m of W_enc", "v of W_enc"};
    for (int p = 0; p < 7; p++) {
        char title[60];
        snprintf(title, sizeof title, "update/%s as by two ops", names[p]);
        failed += p == 3 ? 0 : test_same(title, two[p], one[p], bytes);
    }
    failed += test_ok("update/squares", fabs(got - squares) <= 1e-5*squares);
    for (int w = 0; w < 2; w++)
        for (int p = 0; p < 8; p++)
            free(all[w][p]);
    free(x); free(g); free(g2); free(a); free(g_a); free(i); free(start); free(order);
    return failed;
}

static int adam(void)
{
    /* first step: m/unbias = g, v/unbias = g^2, so p moves by rate against the sign of g */
    float p[] = {1, 2, 3}, m[3] = {0}, v[3] = {0}, dp[] = {0.1f, -4, 0};
    AdamStep s = {.rate = 0.5f, .scale = 2, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .unbias1 = 1/(1 - 0.9f),
                  .unbias2 = 1/(1 - 0.999f)};
    const AdamState w = op_state(p, m, v);
    op->sae.adam(&w, dp, 1, 3, &s);
    int failed = test_close("adam/first step", p, (float[]){0.5f, 2.5f, 3}, 3, 1e-5f, 0);
    failed += test_same("adam/gradient is cleared", dp, (float[3]){0}, sizeof dp);
    /* unit rows: what lies along the row goes, the rest turns it */
    float row[] = {1, 0}, along[] = {7, 1}, m2[2] = {0}, v2[2] = {0};
    s.unit_rows = true;
    const AdamState unit = op_state(row, m2, v2);
    op->sae.adam(&unit, along, 1, 2, &s);
    failed += test_close("adam/unit rows", row, (float[]){2/sqrtf(5), -1/sqrtf(5)}, 2, 1e-5f, 0);
    return failed;
}

/* The mean of n moments: of floats, or of the upper or lower halves of pairs. */
static double mean_moment(const void *moments, int n, bool pairs, bool upper)
{
    double sum = 0;
    for (int j = 0; j < n; j++) {
        uint32_t bits = ((const uint32_t *)moments)[j];
        float x;
        if (pairs)
            bits = upper ? bits & 0xffff0000 : bits << 16;
        memcpy(&x, &bits, sizeof x);
        sum += (double)x;
    }
    return sum/n;
}

/* Both moments in one: what is cut off stays on the mean, where rounding to the nearest would keep v as it is; p moves
 * as with f32; and a part of the values has the bytes that it has among all. */
static int adam_pairs(void)
{
    enum { N = 40000, PART = 1000, STEPS = 700 };
    float *p = op_values(N, 1), *q = op_values(N, 1), *own = op_values(N, 1), *g = op_values(N, 2), *dp = op_space(4*N),
        *m = op_space(4*N), *v = op_space(4*N);
    uint32_t *pairs = op_space(4*N), *part = op_space(4*N);
    const AdamStep s = {.rate = 1e-3f, .scale = 1, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .unbias1 = 1,
                        .unbias2 = 1};
    AdamState both = {.p = p, .pairs = pairs, .chance = 3};
    const AdamState rest = {.p = own + PART, .pairs = part, .chance = 3, .first = PART}, floats = op_state(q, m, v);
    int failed = 0;
    for (int j = 0; j < N; j++)
        g[j] = fabsf(g[j]);
    for (int step = 0; step < STEPS; step++) {          /* one with a gradient: m is soon small, v falls to a half */
        both.chance = 3 + (uint32_t)step*2654435761u;
        if (step == 0)
            memcpy(dp, g, 4*N);
        op->sae.adam(&both, dp, 1, N, &s);
        if (step == 0)
            memcpy(dp, g, 4*N);
        op->sae.adam(&floats, dp, 1, N, &s);
        if (step == 0) {
            memcpy(dp, g, 4*N);
            op->sae.adam(&rest, dp + PART, 1, N - PART, &s);
            memset(dp, 0, 4*N);
            failed += test_same("pairs/a part of all", part, pairs + PART, 4*(N - PART));
            failed += test_same("pairs/first step", p, q, 4*N);
        }
        for (int upper = 0; upper < 2 && (step == 20 || step == STEPS - 1); upper++) {
            const double want = mean_moment(upper ? m : v, N, false, false), got = mean_moment(pairs, N, true, upper);
            failed += test_ok(upper ? "pairs/m's mean" : "pairs/v's mean", fabs(got - want) < 0.002*want);
        }
    }
    failed += test_close("pairs/p", p, q, N, 2e-3f, 0);
    free(p); free(q); free(own); free(g); free(dp); free(m); free(v); free(pairs); free(part);
    return failed;
}

int main(void)
{
    Err e = {0};
    if (backend_pick("cpu", 2, &e))
        return test_ok(e.text, 0);
    int failed = adam() + adam_pairs();
    for (int pairs = 0; pairs < 2; pairs++)
        failed += updates(70, 40, 60, 5, pairs ? F32 : BF16, pairs)
            + updates(33, 129, 200, 8, pairs ? BF16 : F32, pairs);
    return failed != 0;
}
