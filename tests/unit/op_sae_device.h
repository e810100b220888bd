/* SPDX-License-Identifier: MIT */
/* op_sae_device.h -- a device's autoencoder ops, but for encoding, against the CPU's, or against plain loops where the
 * CPU has none.
 *
 * op_sae_cuda.c runs it on a GPU, op_sae_simt.c on the same kernels played on the host; there `large` is false.
 *
 * What chooses, moves or counts is compared byte for byte. Tolerances elsewhere: f32 sums of K products of order 1 in
 * another order, 4e-6 sqrt(K). */
#ifndef TESTS_UNIT_OP_SAE_DEVICE_H
#define TESTS_UNIT_OP_SAE_DEVICE_H

#include "tests/unit/op_sae_decode_device.h"

/* ---- kept features ---- */

static int reconstructions(int64_t N, int D, int F, int K)
{
    char name[160];
    const size_t ND = (size_t)N*(size_t)D, FD = (size_t)F*(size_t)D, NK = (size_t)N*(size_t)K;
    float *x = op_values(ND, 1), *W = op_values(FD, 2), *b = op_values((size_t)D, 3), *a = op_space(4*NK),
        *g = op_space(4*ND), *g_a = op_space(4*NK);
    int32_t *i = op_space(4*NK);
    make_codes(a, i, (int64_t)NK, F);
    void *dx = to_device(x, 4*ND), *dW = to_device(W, 4*FD), *db = to_device(b, 4*(size_t)D), *da = to_device(a, 4*NK),
        *di = to_device(i, 4*NK), *dg = device_space(4*ND), *dg_a = device_space(4*NK);
    double want, got[2], *sum = device_space(sizeof *sum);
    cpu->sae.reconstruct(g, g_a, &want, a, i, W, b, x, N, D, K);
    for (int twice = 0; twice < 2; twice++) {
        gpu->sae.reconstruct(dg, dg_a, sum, da, di, dW, db, dx, N, D, K);
        gpu->download(&got[twice], sum, sizeof *got);
    }
    op_name(name, "reconstruct %ldx%d F %d K %d: g", (long)N, D, F, K);
    int failed = close_floats(name, dg, g, ND, 4e-6f*sqrtf((float)K))
                 + close_floats("reconstruct/codes", dg_a, g_a, NK, 4e-6f*sqrtf((float)D*(float)K))
                 + test_ok("reconstruct/square", fabs(got[0] - want) <= 1e-5*want)
                 + test_ok("reconstruct/square, same double", got[0] == got[1]);
    gpu->free(dx); gpu->free(dW); gpu->free(db); gpu->free(da); gpu->free(di); gpu->free(dg); gpu->free(dg_a);
    gpu->free(sum);
    free(x); free(W); free(b); free(a); free(g); free(g_a); free(i);
    return failed;
}

static int lists(int64_t N, int F, int K)
{
    const int64_t n = N*K;
    const size_t NK = (size_t)n;
    float *a = op_space(4*NK), *b = op_space(4*NK), *t = op_values((size_t)F, 5), *scale = op_values((size_t)F, 6),
        *offset = op_values((size_t)F, 7);
    int32_t *i = op_space(4*NK), *count = op_space(4*(size_t)F), *start = op_space(4*((size_t)F + 1)),
            *order = op_space(4*NK);
    make_codes(a, i, n, F);
    const size_t row = 4*(size_t)F;
    void *da = to_device(a, 4*NK), *db = device_space(4*NK), *di = to_device(i, 4*NK), *dt = to_device(t, row),
        *dscale = to_device(scale, row), *doffset = to_device(offset, row), *dcount = device_space(row),
        *dstart = device_space(row + 4), *dorder = device_space(4*NK);
    cpu->sae.head(b, a, N, K, K/2);
    gpu->sae.head(db, da, N, K, K/2);
    int failed = same_bytes("lists/head", db, b, 4*NK);
    cpu->sae.select(b, a, i, F/4, F/2 + 1, n);
    gpu->sae.select(db, da, di, F/4, F/2 + 1, n);
    failed += same_bytes("lists/select", db, b, 4*NK);
    for (int twice = 0; twice < 2; twice++) {
        cpu->sae.count(count, a, i, N, K);
        gpu->sae.count(dcount, da, di, N, K);
    }
    failed += same_bytes("lists/count", dcount, count, 4*(size_t)F);
    cpu->sae.invert(start, order, i, N, F, K);
    gpu->sae.invert(dstart, dorder, di, N, F, K);
    failed += same_bytes("lists/invert: starts", dstart, start, 4*((size_t)F + 1));
    failed += same_bytes("lists/invert: order", dorder, order, 4*NK);
    double full, *dfull = device_space(sizeof *dfull);
    cpu->sae.full_rows(&full, a, N, K);
    gpu->sae.full_rows(dfull, da, N, K);
    failed += same_bytes("lists/full rows", dfull, &full, sizeof full);
    memcpy(b, a, 4*NK);
    gpu->copy(db, da, 4*NK);
    cpu->sae.gate(b, i, t, scale, offset, n);
    gpu->sae.gate(db, di, dt, dscale, doffset, n);
    failed += close_floats("lists/gate", db, b, NK, 1e-6f);
    memcpy(b, a, 4*NK);
    gpu->copy(db, da, 4*NK);
    cpu->sae.gate(b, i, NULL, NULL, NULL, n);
    gpu->sae.gate(db, di, NULL, NULL, NULL, n);
    failed += same_bytes("lists/gate of nothing", db, b, 4*NK);
    gpu->free(da); gpu->free(db); gpu->free(di); gpu->free(dt); gpu->free(dscale); gpu->free(doffset);
    gpu->free(dcount); gpu->free(dstart); gpu->free(dorder); gpu->free(dfull);
    free(a); free(b); free(t); free(scale); free(offset); free(i); free(count); free(start); free(order);
    return failed;
}

/* coarse: few different values, so that ties are cut */
static int largest(int64_t n, int64_t keep, int64_t groups, bool coarse)
{
    char name[160];
    const size_t all = (size_t)(n*groups), bytes = sizeof(double)*(size_t)groups;
    float *a = op_values(all, 9);
    double *want = op_space(bytes);
    for (size_t e = 0; e < all; e++)
        a[e] = !(a[e] > 0) ? 0 : coarse ? ceilf(a[e]*3) : a[e];
    void *da = to_device(a, 4*all), *least = device_space(bytes);
    cpu->sae.keep_largest(want, a, n, keep, groups);
    gpu->sae.keep_largest(least, da, n, keep, groups);
    op_name(name, "keep %ld of %ld%s, %ld times", (long)keep, (long)n, coarse ? " with ties" : "", (long)groups);
    const int failed = same_bytes(name, da, a, 4*all) + same_bytes("keep/least", least, want, bytes);
    gpu->free(da); gpu->free(least);
    free(a); free(want);
    return failed;
}

static int gradients(int64_t N, int D, int F, int K)
{
    char name[160];
    const size_t ND = (size_t)N*(size_t)D, FD = (size_t)F*(size_t)D, NK = (size_t)N*(size_t)K, row = 4*(size_t)F;
    float *x = op_values(ND, 1), *g = op_values(ND, 2), *W = op_values(FD, 3), *a = op_space(4*NK),
        *g_a = op_space(4*NK), *x_length = op_space(4*(size_t)N), *g_length = op_space(4*(size_t)N);
    float *dec = op_values(FD, 5), *enc = op_values(FD, 6), *b = op_values((size_t)F, 7), *bound[2];
    int32_t *i = op_space(4*NK), *start = op_space(row + 4), *order = op_space(4*NK);
    make_codes(a, i, (int64_t)NK, F);
    cpu->sae.invert(start, order, i, N, F, K);
    void *dx = to_device(x, 4*ND), *dg = to_device(g, 4*ND), *dW = to_device(W, 4*FD), *da = to_device(a, 4*NK),
        *dg_a = device_space(4*NK), *ddec = to_device(dec, 4*FD), *denc = to_device(enc, 4*FD), *db = to_device(b, row),
        *di = to_device(i, 4*NK), *dstart = to_device(start, row + 4), *dorder = to_device(order, 4*NK), *dbound[2],
        *dx_length = device_space(4*(size_t)N), *dg_length = device_space(4*(size_t)N);
    for (int k = 0; k < 2; k++) {
        bound[k] = op_values((size_t)F, 8);
        dbound[k] = to_device(bound[k], row);
    }
    const CodePart part = {a, g_a, g, start, order, -0.5f, K, F/5, F},
        on_device = {da, dg_a, dg, dstart, dorder, -0.5f, K, F/5, F};
    cpu->sae.code_grad(g_a, g, a, i, W, N, D, K);
    cpu->sae.row_lengths(x_length, x, N, D);
    cpu->sae.row_lengths(g_length, g, N, D);
    cpu->sae.code_sums(b, bound[0], bound[1], &part, g_length, x_length);
    cpu->sae.row_grads(dec, enc, &part, x, D);
    gpu->sae.code_grad(dg_a, dg, da, di, dW, N, D, K);
    gpu->sae.row_lengths(dx_length, dx, N, D);
    gpu->sae.row_lengths(dg_length, dg, N, D);
    gpu->sae.code_sums(db, dbound[0], dbound[1], &on_device, dg_length, dx_length);
    gpu->sae.row_grads(ddec, denc, &on_device, dx, D);
    const float width = 4e-6f*sqrtf((float)D), rows = 4e-6f*sqrtf((float)(N*K)), both = rows*sqrtf((float)D);
    int failed = close_floats(op_name(name, "grad/codes %ldx%d", (long)N, D), dg_a, g_a, NK, width)
                 + close_floats("grad/lengths", dx_length, x_length, (size_t)N, width)
                 + close_floats("grad/W_dec", ddec, dec, FD, rows) + close_floats("grad/W_enc", denc, enc, FD, both)
                 + close_floats("grad/b_enc", db, b, (size_t)F, both)
                 + close_floats("grad/bound of W_dec", dbound[0], bound[0], (size_t)F, both)
                 + close_floats("grad/bound of W_enc", dbound[1], bound[1], (size_t)F, both);
    for (int k = 0; k < 2; k++) {
        gpu->free(dbound[k]);
        free(bound[k]);
    }
    gpu->free(dx); gpu->free(dg); gpu->free(dW); gpu->free(da); gpu->free(dg_a); gpu->free(ddec); gpu->free(denc);
    gpu->free(db); gpu->free(di); gpu->free(dstart); gpu->free(dorder); gpu->free(dx_length); gpu->free(dg_length);
    free(x); free(g); free(W); free(a); free(g_a); free(dec); free(enc); free(b); free(i); free(start); free(order);
    free(x_length); free(g_length);
    return failed;
}

static void make_unit(float *row, int64_t rows, int D)
{
    for (int64_t r = 0; r < rows; r++, row += D) {
        double square = 0;
        for (int d = 0; d < D; d++)
            square += (double)row[d]*row[d];
        for (int d = 0; d < D; d++)
            row[d] = (float)(row[d]/sqrt(square));
    }
}

/* Row f within share*size[f]^power + 1e-5 |want| */
static int close_rows(const char *name, const void *device, const float *want, const double *size, double share,
                      double power, int F, int D)
{
    const size_t FD = (size_t)F*(size_t)D;
    float *got = op_space(4*FD);
    gpu->download(got, device, 4*FD);
    size_t wrong = 0;
    for (size_t j = 0; j < FD; j++)
        wrong += !(fabs((double)got[j] - want[j])
                   <= share*pow(size[j/(size_t)D], power) + 1e-5*fabs((double)want[j]));
    free(got);
    if (wrong)
        printf("%zu of %zu outside: ", wrong, FD);
    return test_ok(name, wrong == 0);
}

/* What row f's gradient sums without its signs, over all parts; |g|, |x| <= 1. */
static double *unsigned_sums(const CodePart *part, int parts, const float *of, int F)
{
    double *size = op_space(sizeof *size*(size_t)F);
    for (int p = 0; p < parts; p++)
        for (int f = part[p].from; f < part[p].to; f++)
            for (int e = part[p].start[f]; e < part[p].start[f + 1]; e++)
                size[f] += fabs((double)part[p].c*of[part[p].order[e]]);
    return size;
}

/* Pairs of moments: a few are rounded the other way, where what is rounded differs by its last bits. */
static int close_pairs(const char *name, const void *device, const float *host, size_t n)
{
    uint32_t *got = malloc(4*n);
    size_t other = 0, far = 0;
    gpu->download(got, device, 4*n);
    for (size_t j = 0; j < n; j++) {
        uint32_t want;
        memcpy(&want, &host[j], 4);
        other += got[j] != want;
        for (int half = 0; half < 2; half++) {
            const uint32_t bits[2] = {half ? got[j] << 16 : got[j] & 0xffff0000, half ? want << 16 : want & 0xffff0000};
            float x[2];
            memcpy(x, bits, 8);
            far += !(fabsf(x[0] - x[1]) <= 0.01f*fabsf(x[1]) + 1e-6f);
        }
    }
    free(got);
    return test_ok(name, far == 0 && other <= n/50 + 1);
}

/* Two halves of the features and all of them again: in one go the bytes of row_grads and adam, and near the CPU's: a
 * gradient of terms that add up to s without their signs is known to 1e-6 s, m to a share of that, and v, of g^2, to
 * one of 2 s times it. An encoder that took part is as one that is packed afterwards. pairs: both moments in one, where
 * those of near values may be rounded apart. */
static int updates(int64_t N, int D, int F, int K, DType type, bool pairs)
{
    enum { P, M, V, GRADIENT };
    static const char *const names[] = {"W_dec", "m of W_dec", "v of W_dec", "dW_dec",
                                        "W_enc", "m of W_enc", "v of W_enc", "dW_enc"};
    char name[160];
    const size_t ND = (size_t)N*(size_t)D, FD = (size_t)F*(size_t)D, NK = (size_t)N*(size_t)K, row = 4*(size_t)F;
    float *x = op_values(ND, 1), *g = op_values(ND, 2), *g2 = op_values(ND, 8), *a = op_space(4*NK),
        *g_a = op_values(NK, 5), *host[8];
    int32_t *i = op_space(4*NK), *start = op_space(row + 4), *order = op_space(4*NK);
    make_codes(a, i, (int64_t)NK, F - F/5);             /* a fifth is never kept */
    cpu->sae.invert(start, order, i, N, F, K);
    void *dx = to_device(x, 4*ND), *dg = to_device(g, 4*ND), *dg2 = to_device(g2, 4*ND), *da = to_device(a, 4*NK),
        *dg_a = to_device(g_a, 4*NK), *dstart = to_device(start, row + 4), *dorder = to_device(order, 4*NK), *two[8],
        *one[8];
    for (int p = 0; p < 8; p++) {
        host[p] = p%4 == GRADIENT ? op_space(4*FD) : op_values(FD, (uint32_t)p + 20);
        for (size_t j = 0; p%4 == V && j < FD; j++)
            host[p][j] = host[p][j]*host[p][j] + 0.1f;
        if (p == P)
            make_unit(host[p], F, D);
        if (p%4 == V && pairs)
            op_pairs(host[p - 1], host[p], FD);
    }
    for (int p = 0; p < 8; p++) {
        two[p] = to_device(host[p], 4*FD);
        one[p] = to_device(host[p], 4*FD);
    }
    const CodePart part[] = {{a, g_a, g, start, order, 1, K, 0, F/2}, {a, g_a, g2, start, order, 0.25f, K, F/2, F},
                             {a, g_a, g2, start, order, -0.5f, K, 0, F}},
        on_device[] = {{da, dg_a, dg, dstart, dorder, 1, K, 0, F/2}, {da, dg_a, dg2, dstart, dorder, 0.25f, K, F/2, F},
                       {da, dg_a, dg2, dstart, dorder, -0.5f, K, 0, F}};
    AdamStep step = {.rate = 1e-3f, .scale = 0.3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .unbias1 = 1.1f,
                     .unbias2 = 1.2f}, unit = step;
    unit.unit_rows = true;
    for (int p = 0; p < 3; p++)
        gpu->sae.row_grads(two[GRADIENT], two[4 + GRADIENT], &on_device[p], dx, D);
    AdamState on_host[2], by_one[2], by_two[2];
    for (int w = 0; w < 2; w++) {
        on_host[w] = op_state(host[4*w + P], host[4*w + M], pairs ? NULL : host[4*w + V]);
        by_one[w] = op_state(one[4*w + P], one[4*w + M], pairs ? NULL : one[4*w + V]);
        by_two[w] = op_state(two[4*w + P], two[4*w + M], pairs ? NULL : two[4*w + V]);
    }
    gpu->sae.adam(&by_two[0], two[GRADIENT], F, D, &unit);
    gpu->sae.adam(&by_two[1], two[4 + GRADIENT], F, D, &step);
    double want, got, *sum = device_space(sizeof *sum), *size[] = {unsigned_sums(part, 3, a, F),
                                                                  unsigned_sums(part, 3, g_a, F)};
    void *b_enc = to_device(host[V], row), *b_dec = to_device(x, 4*(size_t)D), *value[2], *feature[2];
    SaeEncoder *along = op_encoder(gpu, D, F, type, one[4], b_dec, b_dec), *after;
    cpu->sae.row_update(&want, &on_host[0], &on_host[1], part, 3, x, F, D, &step, NULL);
    gpu->sae.row_update(sum, &by_one[0], &by_one[1], on_device, 3, dx, F, D, &step, along);
    gpu->download(&got, sum, sizeof got);
    gpu->sae.encoder_pack(along, NULL, b_enc, b_dec, NULL, F);
    after = op_encoder(gpu, D, F, type, two[4], b_enc, b_dec);
    for (int w = 0; w < 2; w++) {
        value[w] = device_space(4*NK);
        feature[w] = device_space(4*NK);
        gpu->sae.encode(w ? after : along, value[w], feature[w], dx, N, K);
    }
    int failed = test_ok(op_name(name, "update/squares %ldx%d F %d", (long)N, D, F), fabs(got - want) <= 1e-5*want);
    failed += same_on_device("update/encoder's values", value[0], value[1], 4*NK);
    failed += same_on_device("update/encoder's features", feature[0], feature[1], 4*NK);
    for (int w = 0; w < 2; w++) {
        gpu->sae.encoder_free(w ? after : along);
        gpu->free(value[w]);
        gpu->free(feature[w]);
    }
    const double known = 1e-6*step.scale, share[] = {0, known*(1 - step.beta1),
                                                     2*known*step.scale*(1 - step.beta2)};
    for (int p = 0; p < 8; p++) {
        if (p%4 != GRADIENT)
            failed += same_on_device(op_name(name, "update/%s as by two ops", names[p]), one[p], two[p], 4*FD);
        op_name(name, "update/%s as the CPU", names[p]);
        if (p%4 == P)
            failed += close_floats(name, one[p], host[p], FD, 1e-5f);
        else if (p%4 == M && pairs)
            failed += close_pairs(name, one[p], host[p], FD);
        else if (p%4 != GRADIENT)
            failed += close_rows(name, one[p], host[p], size[p/4], share[p%4], p%4 == V ? 2 : 1, F, D);
        gpu->free(one[p]);
        gpu->free(two[p]);
        free(host[p]);
    }
    gpu->free(sum); gpu->free(b_enc); gpu->free(b_dec); free(size[0]); free(size[1]);
    gpu->free(dx); gpu->free(dg); gpu->free(dg2); gpu->free(da); gpu->free(dg_a); gpu->free(dstart); gpu->free(dorder);
    free(x); free(g); free(g2); free(a); free(g_a); free(i); free(start); free(order);
    return failed;
}

/* In unit rows from v of some size, which keeps a step's error in proportion to its gradient's: where the part along
 * the row cancels nearly all of it, the first step from v = 0 is its sign. */
static int adam(int64_t rows, int D, bool unit_rows, bool pairs)
{
    char name[160];
    const size_t n = (size_t)rows*(size_t)D;
    float *p = op_values(n, 1), *m = op_space(4*n), *v = op_space(4*n), *dp = op_values(n, 2);
    AdamStep s = {.rate = 0.01f, .scale = 1, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .unbias1 = 1/(1 - 0.9f),
                  .unbias2 = 1/(1 - 0.999f), .unit_rows = unit_rows};
    for (size_t j = 0; unit_rows && j < n; j++)
        v[j] = 0.1f + p[j]*p[j];
    if (unit_rows)
        make_unit(p, rows, D);
    if (pairs)
        op_pairs(m, v, n);
    void *dev_p = to_device(p, 4*n), *dev_m = to_device(m, 4*n), *dev_v = to_device(v, 4*n), *dev_dp = to_device(dp,
                                                                                                                 4*n);
    const AdamState on_host = op_state(p, m, pairs ? NULL : v),
        on_device = op_state(dev_p, dev_m, pairs ? NULL : dev_v);
    for (int step = 0; step < 3; step++) {
        cpu->sae.adam(&on_host, dp, rows, D, &s);
        gpu->sae.adam(&on_device, dev_dp, rows, D, &s);
        const float *again = dp;                /* zeros */
        int failed = same_bytes("adam/gradient is cleared", dev_dp, again, 4*n);
        if (failed)
            return failed;
        for (size_t j = 0; j < n; j++)
            dp[j] = p[j]*0.5f + 0.1f;
        gpu->upload(dev_dp, dp, 4*n);
    }
    op_name(name, "adam %ldx%d%s%s", (long)rows, D, unit_rows ? " in unit rows" : "", pairs ? ", pairs" : "");
    int failed = close_floats(name, dev_p, p, n, pairs ? 1e-4f : 1e-5f);
    if (pairs)
        failed += close_pairs("adam/pairs", dev_m, m, n);
    else
        failed += close_floats("adam/m", dev_m, m, n, 1e-5f) + close_floats("adam/v", dev_v, v, n, 1e-5f);
    gpu->free(dev_p); gpu->free(dev_m); gpu->free(dev_v); gpu->free(dev_dp);
    free(p); free(m); free(v); free(dp);
    return failed;
}

/* ---- sums ---- */

static int near(const char *name, double got, double want)
{
    return test_ok(name, fabs(got - want) <= 1e-5*want);
}

static int sums(int64_t N, int D)
{
    char name[160];
    const size_t ND = (size_t)N*(size_t)D;
    const float tolerance = 4e-6f*sqrtf((float)N);
    float *x = op_values(ND, 1), *y = op_values(ND, 2), *w = op_values((size_t)N, 3), *g = op_space(4*ND),
        *mean = op_space(4*(size_t)D), *column = op_values((size_t)D, 4);
    void *dx = to_device(x, 4*ND), *dy = to_device(y, 4*ND), *dw = to_device(w, 4*(size_t)N), *dg = device_space(4*ND),
        *dmean = device_space(4*(size_t)D), *dcolumn = to_device(column, 4*(size_t)D);
    double spread, square[2], *sum = device_space(2*sizeof *sum), got[2], again;
    cpu->sae.moments(mean, &spread, x, N, D);
    cpu->sae.sum_squares(&square[0], x, (int64_t)ND);
    cpu->sae.difference(g, &square[1], y, x, (int64_t)ND);
    gpu->sae.moments(dmean, sum, dx, N, D);
    gpu->download(got, sum, sizeof *got);
    gpu->sae.moments(dmean, sum, dx, N, D);
    gpu->download(&again, sum, sizeof again);
    int failed = near(op_name(name, "sums/spread %ldx%d", (long)N, D), got[0], spread)
                 + close_floats("sums/mean", dmean, mean, (size_t)D, 1e-6f)
                 + test_ok("sums/spread, same double", again == got[0]);
    gpu->sae.sum_squares(&sum[0], dx, (int64_t)ND);
    gpu->sae.difference(dg, &sum[1], dy, dx, (int64_t)ND);
    gpu->download(got, sum, sizeof got);
    failed += near("sums/squares", got[0], square[0]) + near("sums/difference", got[1], square[1]);
    failed += same_bytes("sums/y - x", dg, g, 4*ND);
    cpu->sae.difference(y, &square[1], y, x, (int64_t)ND);
    gpu->sae.difference(dy, &sum[1], dy, dx, (int64_t)ND);
    failed += same_bytes("sums/y - x in place", dy, y, 4*ND);
    cpu->sae.column_sum(column, -2, w, x, N, D);
    cpu->sae.column_sum(column, 0.5f, NULL, x, N, D);
    gpu->sae.column_sum(dcolumn, -2, dw, dx, N, D);
    gpu->sae.column_sum(dcolumn, 0.5f, NULL, dx, N, D);
    failed += close_floats("sums/columns", dcolumn, column, (size_t)D, tolerance);
    cpu->sae.center(g, x, mean, N, D);
    gpu->upload(dmean, mean, 4*(size_t)D);
    gpu->sae.center(dg, dx, dmean, N, D);
    failed += same_bytes("sums/center", dg, g, 4*ND);
    gpu->free(dx); gpu->free(dy); gpu->free(dw); gpu->free(dg); gpu->free(dmean); gpu->free(dcolumn);
    gpu->free(sum);
    free(x); free(y); free(w); free(g); free(mean); free(column);
    return failed;
}

/* Falling rows of few different values, by rank of other lengths, up to none. */
static int largest_of_all(int64_t N, int ranks, int keep)
{
    char name[160];
    int K[TEAM_MOST], failed = 0;
    const int64_t stride = N*keep;
    const size_t bytes = sizeof(float)*(size_t)(stride*ranks);
    float *all = op_values((size_t)(stride*ranks), 9), *a = op_space(bytes);
    for (int r = 0; r < ranks; r++) {
        K[r] = r%3 == 1 ? 0 : keep - r%3;
        for (int64_t n = 0; n < N; n++)
            for (int j = 0; j < K[r]; j++) {
                float *v = all + r*stride + n*K[r] + j;
                *v = roundf(4*fabsf(*v))/4;
                *v = j && *v > v[-1] ? v[-1] : *v;
            }
    }
    void *dall = to_device(all, bytes), *da = device_space(bytes);
    for (int r = 0; r < ranks; r++) {
        const size_t own = sizeof *a*(size_t)(N*K[r]);
        memcpy(a, all + r*stride, own);
        gpu->upload(da, a, own);
        cpu->sae.keep_of_all(a, all, stride, K, r, ranks, N, keep);
        gpu->sae.keep_of_all(da, dall, stride, K, r, ranks, N, keep);
        if (own)
            failed += same_bytes(op_name(name, "lists/%d of all: rank %d of %d", keep, r, ranks), da, a, own);
    }
    gpu->free(dall); gpu->free(da);
    free(all); free(a);
    return failed;
}

/* All of it. large: sizes of Stable Diffusion too. */
static int sae_against_cpu(const Ops *device, bool large)
{
    cpu = cpu_ops();
    gpu = device;
    int failed = 0;
    failed += decode(6, 64, 40, 7) + decode(3, 1283, 30, 5) + decode(2, 1300, 9, 1);
    failed += steer(6, 64, 40, 7, 10, false, false) + steer(6, 64, 40, 7, 10, true, true)
            + steer(3, 64, 40, 1, 10, true, false)
            + steer(3, 1283, 30, 5, 15, false, true) + steer(3, 129, 700, 5, 350, true, false)
            + steer(2, 1300, 9, 2, 3, true, false);
    failed += reconstructions(90, 64, 40, 9) + reconstructions(33, 132, 70, 32) + reconstructions(300, 200, 50, 40)
        + reconstructions(2, 1284, 30, 8) + reconstructions(20, 43, 30, 8) + reconstructions(7, 64, 40, 5);
    failed += lists(50, 70, 6) + lists(900, 1500, 4) + lists(3600, 5, 1)
        + lists(1000, 3, 1) + lists(1, 2100, 9);
    failed += largest(1, 1, 1, false) + largest(5000, 700, 1, false) + largest(5000, 1200, 1, true)
        + largest(5000, 4000, 1, true) + largest(3000, 0, 1, false) + largest(300, 9999, 2, true)
        + largest(900, 100, 7, false) + largest(1300, 300, 3, true) + largest(3, 2, 300, true);
    failed += largest_of_all(50, 5, 8) + largest_of_all(3, 2, 33);
    for (int64_t keep = 1; keep < 64; keep++)
        failed += largest(64, keep, 1, true);
    failed += gradients(50, 128, 40, 8) + gradients(33, 21, 24, 5) + gradients(800, 36, 12, 3);
    for (int pairs = 0; pairs < 2; pairs++)
        failed += updates(70, 40, 60, 5, BF16, pairs) + updates(33, 129, 200, 8, F32, pairs)
            + updates(900, 132, 24, 2, F32, pairs) + updates(40, 1284, 30, 4, BF16, pairs)
            + updates(20, 2052, 9, 3, F32, pairs) + updates(33, 43, 2100, 8, BF16, pairs)
            + updates(20, pairs ? 1536 : 1024, 30, 4, F32, pairs)       /* 48 KB of shared memory, and its own */
            + adam(5, 300, true, pairs) + adam(3, 7, true, pairs) + adam(4, 130, false, pairs)
            + adam(1, 1, true, pairs);
    failed += sums(1, 5) + sums(1000, 130) + sums(65, 300) + sums(64, 1);
    failed += product(5, 7, 3) + product(130, 140, 33) + product(1, 200, 16);
    failed += jumps(130, 300, true) + jumps(64, 5, false) + jumps(1, 1, true) + gates(130, 300) + gates(3, 2)
            + dense_nans();
    if (large) {
        failed += decode(4096, 1280, 20480, 32) + steer(4096, 1280, 20480, 32, 5120, false, true)
            + steer(4096, 1280, 20480, 32, 40, true, false) + reconstructions(4096, 1280, 20480, 32)
            + gradients(4096, 1280, 20480, 32)
            + updates(4096, 1280, 20480, 32, BF16, false) + updates(4096, 1280, 20480, 32, BF16, true)
            + adam(20480, 1280, true, false)
            + sums(4096, 1280) + lists(4096, 20480, 32) + largest(4096*128, 4096*32, 1, false)
            + largest(256*128, 256*32, 16, false) + largest(3, 2, 70000, true) + product(500, 1280, 2048);
    }
    return failed;
}

#endif
