/* SPDX-License-Identifier: MIT */
/* sae_resample.c -- dead features begun anew: which ones, how many at a time, and what becomes of them and of the
 * others. */
#include <stdbool.h>
#include "src/models/noise.h"
#include "src/models/sae_trainer.h"
#include "tests/unit/golden.h"
#include "tests/unit/stream_test.h"

enum { N = 20, D = 6, F = 24, DEAD = 100, FIRST = 10, ANEW = 3 };   /* an eighth of 20 tokens, rounded up */

typedef struct State { float W_enc[F*D], W_dec[F*D], b_enc[F], m[F*D], v[F*D]; } State;

static State state_of(const Trainer *t)
{
    State s;
    op->download(s.W_enc, t->param[W_ENC].value, sizeof s.W_enc);
    op->download(s.W_dec, t->param[W_DEC].value, sizeof s.W_dec);
    op->download(s.b_enc, t->param[B_ENC].value, sizeof s.b_enc);
    op->download(s.m, t->param[W_DEC].m, sizeof s.m);
    op->download(s.v, t->param[W_DEC].v, sizeof s.v);
    return s;
}

static double length(const float *row)
{
    return sqrt(trainer_square_length(row, D));
}

static bool same_row(const State *a, const State *b, int f)
{
    const size_t bytes = sizeof(float)*D, at = (size_t)f*D;
    return memcmp(a->W_enc + at, b->W_enc + at, bytes) == 0 && memcmp(a->W_dec + at, b->W_dec + at, bytes) == 0
        && memcmp(a->m + at, b->m + at, bytes) == 0 && memcmp(a->v + at, b->v + at, bytes) == 0
        && a->b_enc[f] == b->b_enc[f];
}

/* The token whose x - x' has row's direction, of g = x' - x; -1: none has. */
static int token_of(const float *row, const float *g)
{
    for (int n = 0; n < N; n++) {
        double along = 0;
        for (int d = 0; d < D; d++)
            along -= (double)row[d]*(double)g[n*D + d];
        if (along > (1 - 1e-6)*length(g + n*D))
            return n;
    }
    return -1;
}

static bool is_times(const float *row, const float *unit, double times)
{
    for (int d = 0; d < D; d++)
        if (!(fabs((double)row[d] - times*(double)unit[d]) <= 1e-6*times))
            return false;
    return true;
}

/* Features FIRST to FIRST + dead - 1 have not fired for one token too many, all others for as long as is allowed. */
static int begins_anew(SaeVariant variant, int dead)
{
    const TrainOptions o = {.variant = variant, .D = D, .F = F, .K = 2, .batch = N, .sample = N/2, .auxk = 1,
                            .dead = DEAD, .clip = 1, .seed = 3};
    const char *name = sae_variant_name(variant);
    const double share = variant == VARIANT_RELU || variant == VARIANT_JUMPRELU ? 0.2 : 0.5;
    float x[N*D], g[N*D];
    bool taken[N] = {false};
    Trainer *t;
    TrainStep step;
    noise_torch(x, N*D, 5);
    die_if(trainer_create(&t, &o, &err) || trainer_start(t, x, N, &err));
    for (int i = 0; i < 10; i++)
        die_if(trainer_step(t, x, NULL, N, 0.01, &step, &err));
    for (int f = 0; f < F; f++)
        t->fired[f] = t->tokens - DEAD - (f >= FIRST && f < FIRST + dead);
    op->download(g, t->g, sizeof g);
    const State before = state_of(t);
    die_if(trainer_resample(t, N, &err));
    const State now = state_of(t);
    double living = 0;
    for (int f = 0; f < F; f++)
        living += f >= FIRST && f < FIRST + dead ? 0 : length(before.W_enc + (size_t)f*D)/(F - dead);
    int anew = 0, wrong = 0;
    for (int f = 0; f < F; f++) {
        const float *enc = now.W_enc + (size_t)f*D, *dec = now.W_dec + (size_t)f*D;
        if (same_row(&now, &before, f))
            continue;
        const int token = token_of(dec, g);
        anew++;
        wrong += f < FIRST || f >= FIRST + dead || token < 0 || taken[token] || fabs(length(dec) - 1) > 1e-6
              || fabs(length(enc) - share*living) > 1e-5*living || !is_times(enc, dec, length(enc))
              || now.b_enc[f] != 0 || length(now.m + (size_t)f*D) != 0 || length(now.v + (size_t)f*D) != 0
              || t->fired[f] != t->tokens;
        if (token >= 0)
            taken[token] = true;
    }
    trainer_free(t);
    test_note("%s: %d of %d dead features begun anew", name, anew, dead);
    return test_ok(name, anew == (dead < ANEW ? dead : ANEW) && wrong == 0);
}

int main(void)
{
    die_if(backend_pick("cpu", 1, &err));
    int failed = 0;
    for (int dead = 0; dead <= 9; dead += dead < 4 ? 1 : 5)
        failed += begins_anew(VARIANT_TOPK, dead) + begins_anew(VARIANT_RELU, dead);
    return failed != 0;
}
