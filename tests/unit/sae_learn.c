/* SPDX-License-Identifier: MIT */
/* sae_learn.c -- training: gradients against finite differences of the loss in double, known features found again,
 * the same weights for any number of threads.
 *
 * Tolerance of the gradients: f32 against central differences of a quadratic, which are exact but for rounding. */
#include <omp.h>
#include "kernels/op.h"
#include "src/models/sae_train.h"
#include "tests/unit/test.h"

static Err err;

static void die_if(int failed)
{
    if (failed) {
        printf("FAIL %s\n", err.text);
        exit(1);
    }
}

static uint32_t state = 1;
static double uniform(void)     /* [-1, 1) */
{
    state = state*1664525u + 1013904223u;
    return (double)((int32_t)state >> 8)*0x1p-23;
}

/* ---- gradients ---- */

enum { D = 6, F = 10, K = 2, K_AUX = 3, N = 7, W_ENC = 0, W_DEC = F*D, B_ENC = 2*F*D, B_DEC = 2*F*D + F,
       ALL = 2*F*D + F + D };
static const double AUXK = 0.4;

/* what a small change of weights leaves alone */
typedef struct Chosen { int kept[N][K], dead[N][K_AUX]; double e[N][D]; } Chosen;

static double feature(const double *w, const double *x, int f)
{
    double h = w[B_ENC + f];
    for (int d = 0; d < D; d++)
        h += (x[d] - w[B_DEC + d])*w[W_ENC + f*D + d];
    return h;
}

static void choose(int *kept, int count, const double *w, const double *x)
{
    int taken[F] = {0};
    for (int j = 0; j < count; j++) {
        int best = -1;
        for (int f = 0; f < F; f++)
            if (!taken[f] && (best < 0 || feature(w, x, f) > feature(w, x, best)))
                best = f;
        taken[best] = 1;
        kept[j] = best;
    }
}

static void decode(double *y, const int *kept, int count, const double *w, const double *x, int with_bias)
{
    for (int d = 0; d < D; d++)
        y[d] = with_bias ? w[B_DEC + d] : 0;
    for (int j = 0; j < count; j++)
        for (int d = 0; d < D; d++)
            y[d] += fmax(feature(w, x, kept[j]), 0)*w[W_DEC + kept[j]*D + d];
}

static double loss(const double *w, double x[N][D], const Chosen *c)
{
    double mean[D] = {0}, spread = 0, square = 0, aux = 0, y[D];
    for (int n = 0; n < N; n++)
        for (int d = 0; d < D; d++)
            mean[d] += x[n][d]/N;
    for (int n = 0; n < N; n++) {
        decode(y, c->kept[n], K, w, x[n], 1);
        for (int d = 0; d < D; d++) {
            square += pow(x[n][d] - y[d], 2);
            spread += pow(x[n][d] - mean[d], 2);
        }
        decode(y, c->dead[n], K_AUX, w, x[n], 0);
        for (int d = 0; d < D; d++)
            aux += pow(c->e[n][d] - y[d], 2);
    }
    return square/spread + AUXK*aux/spread;
}

static int gradients(void)
{
    /* -1: all are dead */
    const TrainOptions o = {.D = D, .F = F, .K = K, .batch = N, .auxk = AUXK, .k_aux = K_AUX, .dead = -1, .seed = 3};
    Trainer *t;
    float x[N*D], host[ALL], want[ALL];
    double wide[N][D], w[ALL];
    for (int j = 0; j < N*D; j++)
        wide[j/D][j % D] = x[j] = (float)(uniform() + 0.3);
    die_if(trainer_create(&t, &o, &err) || trainer_start(t, x, N, &err));
    Sae *s = trainer_sae(t);
    float *const weight[] = {s->W_enc, s->W_dec, s->b_enc, s->b_dec};
    static const int at[] = {W_ENC, W_DEC, B_ENC, B_DEC, ALL};
    for (int p = 0; p < 4; p++) {               /* encoder and decoder apart, biases not 0 */
        for (int j = at[p]; j < at[p + 1]; j++)
            host[j] = (float)uniform()*(p < 2 ? 0.6f : 0.2f);
        op->upload(weight[p], host + at[p], sizeof(float)*(size_t)(at[p + 1] - at[p]));
    }
    for (int j = 0; j < ALL; j++)
        w[j] = host[j];
    Chosen c;
    for (int n = 0; n < N; n++) {
        double y[D];
        choose(c.kept[n], K, w, wide[n]);
        choose(c.dead[n], K_AUX, w, wide[n]);
        decode(y, c.kept[n], K, w, wide[n], 1);
        for (int d = 0; d < D; d++)
            c.e[n][d] = wide[n][d] - y[d];
    }
    for (int j = 0; j < ALL; j++) {
        const double kept = w[j], step = 1e-5;
        w[j] = kept + step;
        const double above = loss(w, wide, &c);
        w[j] = kept - step;
        want[j] = (float)((above - loss(w, wide, &c))/(2*step));
        w[j] = kept;
    }
    Gradients g;
    TrainStep step;
    die_if(trainer_gradients(t, x, NULL, N, &g, &step, &err));
    const float *const got[] = {g.W_enc, g.W_dec, g.b_enc, g.b_dec};
    static const char *const names[] = {"gradient/W_enc", "gradient/W_dec", "gradient/b_enc", "gradient/b_dec"};
    int failed = 0;
    for (int p = 0; p < 4; p++) {
        const size_t n = (size_t)(at[p + 1] - at[p]);
        op->download(host, got[p], sizeof(float)*n);
        for (size_t j = 0; j < n; j++)
            host[j] *= (float)g.factor;
        failed += test_close(names[p], host, want + at[p], n, 2e-5f, 1e-4f);
    }
    failed += test_ok("gradient/loss", fabs(step.fvu + AUXK*step.aux - loss(w, wide, &c)) < 1e-5);
    trainer_free(t);
    return failed;
}

/* ---- features put in are found ---- */

enum { WIDTH = 32, TRUE_FEATURES = 64, ACTIVE = 3, LEARNED = 128, BATCH = 512, STEPS = 400 };

/* Half of the features of a skewed batch are of the first TRUE_FEATURES/4: f = TRUE_FEATURES u^2. */
static void draw(float *x, const double feature_of[TRUE_FEATURES][WIDTH], int count, bool skewed)
{
    memset(x, 0, sizeof(float)*(size_t)count*WIDTH);
    for (int n = 0; n < count; n++)
        for (int j = 0; j < ACTIVE; j++) {
            const double u = (uniform() + 1)/2;
            const int f = (int)((skewed ? u*u : u)*TRUE_FEATURES);
            const double a = 1.5 + 0.5*uniform();
            for (int d = 0; d < WIDTH; d++)
                x[n*WIDTH + d] += (float)(a*feature_of[f][d]);
        }
}

static Trainer *learn(const double feature_of[TRUE_FEATURES][WIDTH], SaeVariant variant, TrainStep *last)
{
    const TrainOptions o = {.variant = variant, .D = WIDTH, .F = LEARNED, .K = ACTIVE,
                            .batch = BATCH, .auxk = 1/32., .dead = 5000,
                            .clip = 1, .seed = 1, .levels = variant == VARIANT_MATRYOSHKA ? 2 : 0,
                            .level = {TRUE_FEATURES/4, TRUE_FEATURES}};
    static float x[BATCH*WIDTH];
    Trainer *t;
    state = 17;
    draw(x, feature_of, BATCH, variant == VARIANT_MATRYOSHKA);
    die_if(trainer_create(&t, &o, &err) || trainer_start(t, x, BATCH, &err));
    const int steps = variant == VARIANT_TOPK ? STEPS : 2*STEPS;    /* over a batch they are the slower ones */
    for (int s = 0; s < steps; s++) {
        draw(x, feature_of, BATCH, variant == VARIANT_MATRYOSHKA);
        die_if(trainer_step(t, x, NULL, BATCH, 4e-3*fmin(1, 2*(1 - (double)s/steps)), last, &err));
    }
    return t;
}

/* As exported it keeps about as many a token as are there. */
static int encodes_as_many(Trainer *t, const double feature_of[TRUE_FEATURES][WIDTH], SaeVariant variant)
{
    static float x[BATCH*WIDTH], a[BATCH*LEARNED];
    static int32_t i[BATCH*LEARNED];
    int kept = 0;
    Sae *s;
    draw(x, feature_of, BATCH, variant == VARIANT_MATRYOSHKA);
    die_if(trainer_export(t, &s, &err) || sae_prepare(s, F32, &err));
    sae_encode(s, a, i, x, BATCH);
    for (int j = 0; j < BATCH*s->K; j++)
        kept += a[j] > 0;
    printf("     exported it keeps %.3f a token, at most %d\n", (double)kept/BATCH, s->K);
    const int failed = test_ok("recovery/kept as exported", kept > BATCH*ACTIVE*0.8 && kept < BATCH*ACTIVE*1.2);
    sae_free(s);
    return failed;
}

/* Nine in ten are asked for, and a reconstruction. matryoshka sees features of unequal frequency, the commonest of
 * which fill its inner level; it pays for the level with some of the others: 8 in 10. relu finds them all, but |a|_1
 * shrinks what it decodes so much that its fvu (0.84 at 3 features a token) says nothing. */
static int recovery(SaeVariant variant)
{
    static double feature_of[TRUE_FEATURES][WIDTH];
    static float one[LEARNED*WIDTH], two[LEARNED*WIDTH];
    TrainStep last;
    for (int f = 0; f < TRUE_FEATURES; f++) {
        double square = 0;
        for (int d = 0; d < WIDTH; d++)
            square += pow(feature_of[f][d] = uniform() + uniform() + uniform(), 2);
        for (int d = 0; d < WIDTH; d++)
            feature_of[f][d] /= sqrt(square);
    }
    Trainer *t = learn(feature_of, variant, &last);
    op->download(one, trainer_sae(t)->W_dec, sizeof one);
    int failed = variant == VARIANT_TOPK ? 0 : encodes_as_many(t, feature_of, variant);
    trainer_free(t);
    int found = 0, unit = 1;
    for (int f = 0; f < TRUE_FEATURES; f++) {
        double best = -1;
        for (int r = 0; r < LEARNED; r++) {
            double cosine = 0;
            for (int d = 0; d < WIDTH; d++)
                cosine += feature_of[f][d]*(double)one[r*WIDTH + d];
            best = fmax(best, cosine);
        }
        found += best > 0.95;
    }
    for (int r = 0; r < LEARNED; r++) {
        double square = 0;
        for (int d = 0; d < WIDTH; d++)
            square += pow(one[r*WIDTH + d], 2);
        unit &= fabs(square - 1) < 1e-5;
    }
    printf("     %s: %d of %d features found, fvu %.4f, %d dead\n", sae_variant_name(variant), found, TRUE_FEATURES,
           last.fvu, last.dead);
    failed += test_ok("recovery/features", found >= TRUE_FEATURES*(variant == VARIANT_MATRYOSHKA ? 8 : 9)/10)
                 + test_ok("recovery/fvu", last.fvu < (variant == VARIANT_RELU ? 1 : 0.1))
                 + test_ok("recovery/rows of W_dec are unit", unit);
    const int threads = omp_get_max_threads();
    omp_set_num_threads(threads == 1 ? 3 : 1);
    t = learn(feature_of, variant, &last);
    op->download(two, trainer_sae(t)->W_dec, sizeof two);
    trainer_free(t);
    omp_set_num_threads(threads);
    return failed + test_same("recovery/other threads, same weights", two, one, sizeof one);
}

int main(void)
{
    die_if(backend_pick("cpu", 2, &err));
    const int failed = gradients() + recovery(VARIANT_TOPK) + recovery(VARIANT_BATCHTOPK)
                     + recovery(VARIANT_MATRYOSHKA) + recovery(VARIANT_JUMPRELU) + recovery(VARIANT_GATED)
                     + recovery(VARIANT_RELU);
    return failed != 0;
}
