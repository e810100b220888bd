/* SPDX-License-Identifier: MIT */
/* op_sae_dense.c -- ops on all of h: cases by hand, plain loops in double, the same bytes for any number of threads.
 *
 * Tolerance: sums in f32 of as many products of order 1 as a case has, up to some thousand. */
#include "tests/unit/op_test.h"

static int by_hand(void)
{
    /* h + b = (1, 0.5, -1), thresholds 0.5: the second does not exceed its own */
    float h[] = {2, 0, 0}, z[3], g[] = {10, 20, 30}, d[3] = {0}, C[4];
    const float b[] = {-1, 0.5f, -1}, threshold[] = {0.5f, 0.5f, 0.5f};
    op->sae.jump(z, h, b, threshold, 1, 3);
    int failed = test_same("hand/jump", z, (float[]){1, 0, 0}, sizeof z)
               + test_same("hand/h has its bias", h, (float[]){1, 0.5f, -1}, sizeof h);
    /* window of 1.1: |1 - 0.5| and |0.5 - 0.5| are inside; (0.5*10 + 3)/1.1, (0.5*20 + 3)/1.1 */
    op->sae.jump_grad(g, d, h, threshold, 3, 1.1f, 1, 3);
    failed += test_close("hand/threshold's gradient", d, (float[]){-8/1.1f, -13/1.1f, 0}, 3, 1e-5f, 0)
            + test_same("hand/through the jump", g, (float[]){10, 0, 0}, sizeof g);
    float one[] = {2, 0, 0}, through[] = {10, 20, 30};
    op->sae.jump(z, one, b, NULL, 1, 3);
    op->sae.jump_grad(through, NULL, one, NULL, 3, 0, 1, 3);
    failed += test_same("hand/relu", z, (float[]){1, 0.5f, 0}, sizeof z)
            + test_same("hand/through relu, with its |a|_1", through, (float[]){13, 23, 0}, sizeof through);

    /* gate = (1, 1, -1), m = 2h + b_mag = (4, -1, 8) */
    float p[3], open[] = {2, 1, 3}, b_gate[3] = {0}, r[3] = {0}, b_mag[3] = {0};
    const float gate_b[] = {-1, 0, -4}, log_two[] = {logf(2), logf(2), logf(2)}, mag_b[] = {0, -3, 2};
    op->sae.gated(z, p, open, gate_b, log_two, mag_b, 1, 3);
    failed += test_close("hand/gated", z, (float[]){4, 0, 0}, 3, 1e-6f, 0)
            + test_same("hand/gate", p, (float[]){1, 1, 0}, sizeof p);
    /* dm = (5, 0, 0), dgate = (10 + 1, 20 + 1, 0): g = 2 dm + dgate, d_r = dm * 2h */
    float to_h[] = {5, 6, 7};
    op->sae.gated_grad(to_h, (float[]){10, 20, 30}, b_gate, r, b_mag, open, gate_b, log_two, mag_b, 1, 1, 3);
    failed += test_close("hand/through the gate", to_h, (float[]){21, 21, 0}, 3, 1e-5f, 0)
            + test_close("hand/b_gate", b_gate, (float[]){11, 21, 0}, 3, 1e-6f, 0)
            + test_close("hand/r_mag", r, (float[]){20, 0, 0}, 3, 1e-5f, 0)
            + test_close("hand/b_mag", b_mag, (float[]){5, 0, 0}, 3, 1e-6f, 0);

    int32_t count[] = {1, 0, 0};
    const float kept[] = {1, 0, 2, 3, 0, -1};
    op->sae.count_dense(count, kept, 2, 3);
    failed += test_same("hand/count", count, (int32_t[]){3, 0, 1}, sizeof count)
            + test_ok("hand/most of a row", op->sae.row_most(kept, 2, 3) == 2);
    op->sae.gemm(C, false, (float[]){1, 2, 3, 4}, false, (float[]){1, 1, 0, 1}, false, 2, 2, 2);
    failed += test_same("hand/AB", C, (float[]){1, 3, 3, 7}, sizeof C);
    op->sae.gemm(C, true, (float[]){1, 2, 3, 4}, true, (float[]){1, 1, 0, 1}, true, 2, 2, 2);
    failed += test_same("hand/+= A^T B^T", C, (float[]){5, 6, 9, 11}, sizeof C);
    op->sae.jump(z, (float[]){NAN, 1, 1}, b, threshold, 1, 3);
    return failed + test_ok("hand/a NaN stays one", isnan(z[0]));
}

/* A is read as (M,K), or as it lies turned */
static int products(int M, int N, int K)
{
    char name[160];
    float *A = op_values((size_t)M*K, 1), *B = op_values((size_t)K*N, 2), *C = op_values((size_t)M*N, 3);
    float *want = op_space(sizeof(float)*M*N), *got = op_space(sizeof(float)*M*N), *again = op_space(sizeof(float)*M*N);
    const int threads = omp_get_max_threads();
    int failed = 0;
    for (int way = 0; way < 8; way++) {
        const bool add = way & 1, A_turned = way & 2, B_turned = way & 4;
        for (int m = 0; m < M; m++)
            for (int n = 0; n < N; n++) {
                double sum = add ? C[m*N + n] : 0;
                for (int k = 0; k < K; k++)
                    sum += (double)A[A_turned ? k*M + m : m*K + k]*B[B_turned ? n*K + k : k*N + n];
                want[m*N + n] = (float)sum;
            }
        memcpy(got, C, sizeof(float)*M*N);
        memcpy(again, C, sizeof(float)*M*N);
        op->sae.gemm(got, add, A, A_turned, B, B_turned, M, N, K);
        omp_set_num_threads(threads == 1 ? 3 : 1);
        op->sae.gemm(again, add, A, A_turned, B, B_turned, M, N, K);
        omp_set_num_threads(threads);
        op_name(name, "gemm/%dx%dx%d%s%s%s", M, N, K, add ? " add" : "", A_turned ? " A^T" : "",
                B_turned ? " B^T" : "");
        failed += test_close(name, got, want, (size_t)M*N, 1e-4f, 1e-5f)
                + test_same("gemm/other threads", again, got, sizeof(float)*M*N);
    }
    free(A); free(B); free(C); free(want); free(got); free(again);
    return failed;
}

typedef struct Case {               /* values (N,F) and (F), and room for what two runs give */
    int N, F;
    float *h, *g, *g_p, *b, *threshold, *r, *b_mag;
    float *z, *p, *d[3];
} Case;

static Case make_case(int N, int F)
{
    const size_t n = (size_t)N*F;
    Case c = {N, F, op_values(n, 1), op_values(n, 2), op_values(n, 3), op_values(F, 4), op_values(F, 5),
              op_values(F, 6), op_values(F, 7), op_space(sizeof(float)*n), op_space(sizeof(float)*n),
              {op_values(F, 8), op_values(F, 9), op_values(F, 10)}};
    for (int f = 0; f < F; f++)
        c.threshold[f] = fabsf(c.threshold[f])/2;
    return c;
}

static void free_case(Case *c)
{
    free(c->h); free(c->g); free(c->g_p); free(c->b); free(c->threshold); free(c->r); free(c->b_mag);
    free(c->z); free(c->p); free(c->d[0]); free(c->d[1]); free(c->d[2]);
}

static int same_case(const char *name, const Case *a, const Case *b)
{
    const size_t n = sizeof(float)*(size_t)a->N*(size_t)a->F, f = sizeof(float)*(size_t)a->F;
    return test_ok(name, memcmp(a->h, b->h, n) == 0 && memcmp(a->z, b->z, n) == 0 && memcmp(a->p, b->p, n) == 0
                   && memcmp(a->g, b->g, n) == 0 && memcmp(a->d[0], b->d[0], f) == 0
                   && memcmp(a->d[1], b->d[1], f) == 0 && memcmp(a->d[2], b->d[2], f) == 0);
}

static void run_jump(Case *c, bool jumps)
{
    op->sae.jump(c->z, c->h, c->b, jumps ? c->threshold : NULL, c->N, c->F);
    op->sae.jump_grad(c->g, jumps ? c->d[0] : NULL, c->h, jumps ? c->threshold : NULL, 0.25f, 0.3f, c->N, c->F);
}

static int jumps(int N, int F, bool jumps_at_all)
{
    Case c = make_case(N, F), one = make_case(N, F), want = make_case(N, F);
    int32_t *count = op_space(sizeof(int32_t)*F), *want_count = op_space(sizeof(int32_t)*F);
    int most = 0;
    for (int n = 0; n < N; n++) {
        int kept = 0;
        for (int f = 0; f < F; f++) {
            const int at = n*F + f;
            const float h = want.h[at] += want.b[f], t = jumps_at_all ? want.threshold[f] : 0, g = want.g[at];
            want.z[at] = h > t ? h : 0;
            want.g[at] = h > t ? g + (jumps_at_all ? 0 : 0.25f) : 0;
            if (jumps_at_all && fabsf(h - t) < 0.15f)
                want.d[0][f] -= (t*g + 0.25f)/0.3f;
            kept += h > t;
            want_count[f] += h > t;
        }
        most = kept > most ? kept : most;
    }
    const int threads = omp_get_max_threads();
    run_jump(&c, jumps_at_all);
    op->sae.count_dense(count, c.z, N, F);
    const size_t n = (size_t)N*F;
    int failed = test_same(jumps_at_all ? "jump/z" : "relu/z", c.z, want.z, sizeof(float)*n)
               + test_close("jump/g", c.g, want.g, n, 1e-6f, 0)
               + test_close("jump/threshold", c.d[0], want.d[0], (size_t)F, 1e-4f, 1e-5f)
               + test_same("jump/count", count, want_count, sizeof(int32_t)*F)
               + test_ok("jump/most of a row", op->sae.row_most(c.z, N, F) == most);
    omp_set_num_threads(threads == 1 ? 3 : 1);
    run_jump(&one, jumps_at_all);
    failed += same_case("jump/other threads", &one, &c);
    omp_set_num_threads(threads);
    free_case(&c); free_case(&one); free_case(&want);
    free(count); free(want_count);
    return failed;
}

static void run_gated(Case *c)
{
    op->sae.gated(c->z, c->p, c->h, c->b, c->r, c->b_mag, c->N, c->F);
    op->sae.gated_grad(c->g, c->g_p, c->d[0], c->d[1], c->d[2], c->h, c->b, c->r, c->b_mag, 0.25f, c->N, c->F);
}

static int gates(int N, int F)
{
    Case c = make_case(N, F), one = make_case(N, F), want = make_case(N, F);
    for (int n = 0; n < N; n++)
        for (int f = 0; f < F; f++) {
            const int at = n*F + f;
            const double h = want.h[at], gate = want.h[at] + want.b[f], scale = exp(want.r[f]);
            const double m = scale*h + want.b_mag[f];
            const double dm = gate > 0 && m > 0 ? want.g[at] : 0, dgate = gate > 0 ? want.g_p[at] + 0.25 : 0;
            want.p[at] = (float)fmax(gate, 0);
            want.z[at] = gate > 0 ? (float)fmax(m, 0) : 0;
            want.g[at] = (float)(scale*dm + dgate);
            want.d[0][f] += (float)dgate;
            want.d[1][f] += (float)(dm*scale*h);
            want.d[2][f] += (float)dm;
        }
    const int threads = omp_get_max_threads();
    const size_t n = (size_t)N*F;
    run_gated(&c);
    int failed = test_close("gated/z", c.z, want.z, n, 1e-6f, 1e-6f) + test_close("gated/p", c.p, want.p, n, 1e-6f, 0)
               + test_close("gated/g", c.g, want.g, n, 1e-5f, 1e-6f)
               + test_close("gated/b_gate", c.d[0], want.d[0], (size_t)F, 1e-4f, 1e-5f)
               + test_close("gated/r_mag", c.d[1], want.d[1], (size_t)F, 1e-4f, 1e-5f)
               + test_close("gated/b_mag", c.d[2], want.d[2], (size_t)F, 1e-4f, 1e-5f);
    omp_set_num_threads(threads == 1 ? 3 : 1);
    run_gated(&one);
    failed += same_case("gated/other threads", &one, &c);
    omp_set_num_threads(threads);
    free_case(&c); free_case(&one); free_case(&want);
    return failed;
}

int main(void)
{
    Err e = {0};
    if (backend_pick("cpu", 2, &e))
        return test_ok(e.text, 0);
    const CpuLevel best = cpu_level;
    int failed = 0;
    for (int level = CPU_ANY; level <= (int)best; level++) {
        test_note("level %d", level);
        for (int tiles = 1; tiles >= 0; tiles--) {
            cpu_choose((CpuLevel)level, tiles);
            failed += by_hand() + products(5, 7, 3) + products(300, 530, 129) + products(600, 17, 1000);
        }
        failed += jumps(3, 5, true) + jumps(300, 530, true) + jumps(300, 530, false) + gates(3, 5) + gates(300, 530);
    }
    return failed != 0;
}
