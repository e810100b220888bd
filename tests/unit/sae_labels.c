/* SPDX-License-Identifier: MIT */
/* sae_labels.c -- features tied to labels: the numbers that labels get, and the supervised terms' gradients against
 * finite differences of the terms in double.
 *
 * The terms are added to the rest of the loss, so their gradients are what changes when their weights go from 0 to 1.
 * Tolerance: differences of f32 sums. */
#include <math.h>
#include "src/models/labels.h"
#include "kernels/op.h"
#include "src/models/sae_train.h"
#include "tests/unit/test.h"

enum { D = 6, F = 12, K = 3, N = 9, C = 4 };
static const double ASSIGN = 0.7, DECORRELATE = 0.4;

static Err err;

static void die_if(int failed)
{
    if (failed) {
        printf("FAIL %s\n", err.text);
        exit(1);
    }
}

/* ---- labels ---- */

static json_t *fields(const char *concept, const char *theme)
{
    json_t *f = json_object();
    if (concept)
        json_object_set_new(f, "concept", json_string(concept));
    if (theme)
        json_object_set_new(f, "theme", json_string(theme));
    return f;
}

static int32_t tag(Labels *l, const char *concept, const char *theme)
{
    json_t *f = fields(concept, theme);
    const int32_t t = labels_tag(l, f, &err);
    json_decref(f);
    return t;
}

static int numbers(void)
{
    Labels *l, *again;
    uint8_t on[3];
    die_if(labels_create(&l, "theme,concept", &err) || labels_create(&again, "theme,concept", &err));
    const int32_t fish = tag(l, "Fishes", "Winter"), cat = tag(l, "Cats", NULL), none = tag(l, NULL, NULL);
    int failed = test_ok("labels/the same set, the same tag", tag(l, "Fishes", "Winter") == fish && cat != fish);
    failed += test_ok("labels/none before they are settled", labels_count(l) == 0);
    failed += test_ok("labels/all of them", labels_settle(l, &err) == 3 && labels_count(l) == 3);
    labels_fill(l, fish, on);           /* theme=Winter 0, concept=Cats 1, concept=Fishes 2 */
    failed += test_same("labels/by kind, then by name", on, (uint8_t[]){1, 0, 1}, sizeof on);
    labels_fill(l, cat, on);
    failed += test_same("labels/one of two kinds", on, (uint8_t[]){0, 1, 0}, sizeof on);
    labels_fill(l, none, on);
    failed += test_same("labels/none", on, (uint8_t[]){0, 0, 0}, sizeof on);
    failed += test_ok("labels/a late one is an error", tag(l, "Dogs", NULL) == -1 && strstr(err.text, "Dogs"));
    json_t *stored = labels_store(l), *a = labels_json(l);
    err = (Err){0};
    die_if(labels_restore(again, stored, &err));
    json_t *b = labels_json(again);
    labels_fill(again, fish, on);
    failed += test_ok("labels/stored and restored", json_equal(a, b) && on[0] && !on[1] && on[2]);
    json_decref(a);
    json_decref(b);
    json_decref(stored);
    labels_free(l);
    labels_free(again);
    return failed;
}

/* ---- gradients ---- */

typedef struct Point { double W_enc[F][D], b_enc[F], b_dec[D], W_dec[F][D]; } Point;

static double terms(const Point *p, double x[N][D], const uint8_t *label)
{
    double loss = 0;
    for (int n = 0; n < N; n++)
        for (int f = 0; f < C; f++) {
            double h = p->b_enc[f];
            for (int d = 0; d < D; d++)
                h += (x[n][d] - p->b_dec[d])*p->W_enc[f][d];
            loss += ASSIGN/N*log1p(exp(label[n*C + f] ? -h : h));
        }
    for (int f = 0; f < C; f++)
        for (int g = 0; g < C; g++) {
            double dot = 0;
            for (int d = 0; d < D && f != g; d++)
                dot += p->W_dec[f][d]*p->W_dec[g][d];
            loss += DECORRELATE/C*dot*dot;
        }
    return loss;
}

static double slope(Point *p, double *at, double x[N][D], const uint8_t *label)
{
    const double kept = *at, step = 1e-5;
    *at = kept + step;
    const double above = terms(p, x, label);
    *at = kept - step;
    const double below = terms(p, x, label);
    *at = kept;
    return (above - below)/(2*step);
}

enum { ALL = 2*F*D + F + D };

/* All gradients of a trainer whose terms have these weights; its weights and scaled input as doubles. */
static void gradients_at(float got[ALL], Point *p, double wide[N][D], const float *x, const uint8_t *label,
                         double assign, double decorrelate, TrainStep *step)
{
    const TrainOptions o = {.D = D, .F = F, .K = K, .batch = N, .labels = C, .assign = assign,
                            .decorrelate = decorrelate, .dead = 1 << 20, .seed = 5};
    Trainer *t;
    Gradients g;
    float W_dec[F*D], b_dec[D];
    double square = 0;
    die_if(trainer_create(&t, &o, &err) || trainer_start(t, x, N, &err)
           || trainer_gradients(t, x, label, N, &g, step, &err));
    const float *const from[] = {g.W_enc, g.W_dec, g.b_enc, g.b_dec};
    static const int at[] = {0, F*D, 2*F*D, 2*F*D + F, ALL};
    for (int i = 0; i < 4; i++)
        op->download(got + at[i], from[i], sizeof(float)*(size_t)(at[i + 1] - at[i]));
    for (int j = 0; j < ALL; j++)
        got[j] *= (float)g.factor;
    op->download(W_dec, trainer_sae(t)->W_dec, sizeof W_dec);   /* W_enc begins as W_dec, b_enc as 0 */
    op->download(b_dec, trainer_sae(t)->b_dec, sizeof b_dec);
    *p = (Point){0};
    for (int j = 0; j < F*D; j++)
        p->W_enc[j/D][j % D] = p->W_dec[j/D][j % D] = W_dec[j];
    for (int j = 0; j < N*D; j++)
        square += (double)x[j]*x[j]/N;
    for (int d = 0; d < D; d++)
        p->b_dec[d] = b_dec[d];
    for (int j = 0; j < N*D; j++)
        wide[j/D][j % D] = x[j]*sqrt(D/square);
    trainer_free(t);
}

static int gradients(void)
{
    float x[N*D], with[ALL], without[ALL], want[ALL];
    uint8_t label[N*C];
    double wide[N][D];
    uint32_t state = 3;
    Point p;
    TrainStep step, plain;
    for (int j = 0; j < N*D; j++) {
        state = state*1664525u + 1013904223u;
        x[j] = (float)((int32_t)state >> 8)*0x1p-22f + 0.3f;
    }
    for (int j = 0; j < N*C; j++)
        label[j] = j % 3 == 0;
    gradients_at(without, &p, wide, x, label, 0, 0, &plain);
    gradients_at(with, &p, wide, x, label, ASSIGN, DECORRELATE, &step);
    for (int j = 0; j < F*D; j++) {
        want[j] = (float)slope(&p, &p.W_enc[j/D][j % D], wide, label);
        want[F*D + j] = (float)slope(&p, &p.W_dec[j/D][j % D], wide, label);
    }
    for (int f = 0; f < F; f++)
        want[2*F*D + f] = (float)slope(&p, &p.b_enc[f], wide, label);
    for (int d = 0; d < D; d++)
        want[2*F*D + F + d] = (float)slope(&p, &p.b_dec[d], wide, label);
    for (int j = 0; j < ALL; j++)
        with[j] -= without[j];
    return test_close("labels/gradient", with, want, ALL, 2e-5f, 1e-4f)
         + test_ok("labels/loss", fabs(step.supervised - terms(&p, wide, label)) < 1e-5 && plain.supervised == 0);
}

int main(void)
{
    die_if(backend_pick("cpu", 2, &err));
    return numbers() + gradients() != 0;
}
