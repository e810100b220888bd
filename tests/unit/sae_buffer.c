/* SPDX-License-Identifier: MIT */
/* sae_buffer.c -- the token buffer gives each token once a pass, mixes what came late with what came early, and keeps
 * types' bits; the fit over it counts passes and tokens, and does not depend on how the input was cut. */
#include <pthread.h>
#include "kernels/op.h"
#include "src/models/sae_fit.h"
#include "src/models/token_buffer.h"
#include "tests/unit/test.h"

static Err err;

static void die_if(int failed)
{
    if (failed) {
        printf("FAIL %s\n", err.text);
        exit(1);
    }
}

static int passes(void)
{
    enum { N = 1000 };
    TokenBuffer *b;
    float token, got[N];
    int32_t tag[N];
    int seen[2*N] = {0}, same = 1, failed = 0;
    die_if(token_buffer_create(&b, &(BufferOptions){.capacity = N, .D = 1, .unit = 1, .type = F32, .seed = 5}, &err));
    for (int j = 0; j < N; j++) {
        token = (float)j;
        token_buffer_add(b, &token, j, 1);
    }
    failed += test_ok("buffer/full", token_buffer_room(b) == 0 && token_buffer_held(b) == N);
    token_buffer_shuffle(b);
    failed += test_ok("buffer/all are given", token_buffer_read(b, 0, got, tag, N + 5) == N
                                          && token_buffer_read(b, N, got, NULL, 1) == 0);
    for (int j = 0; j < N; j++)
        same &= tag[j] == (int)got[j];
    token_buffer_shuffle(b);
    token_buffer_read(b, 0, got, NULL, N/2);
    token_buffer_drop(b, N/2);
    for (int j = 0; j < N/2; j++)
        seen[(int)got[j]]++;
    for (int j = N; j < N + N/2; j++) {
        token = (float)j;
        token_buffer_add(b, &token, j, 1);
    }
    token_buffer_shuffle(b);
    token_buffer_read(b, 0, got, tag, N);
    int late = 0;
    for (int j = 0; j < N; j++) {
        seen[(int)got[j]]++;
        same &= tag[j] == (int)got[j];
        late += j < N/2 && got[j] >= N;
    }
    for (int j = 0; j < N + N/2; j++)
        same &= seen[j] == 1;
    failed += test_ok("buffer/each once, with its tag", same);
    failed += test_ok("buffer/late and early are mixed", late > N/2*0.4 && late < N/2*0.6);
    token_buffer_free(b);

    const uint16_t half[] = {0x3c01, 0x8001, 0x7bff};       /* 1 + 2^-10, the smallest negative, the largest */
    float wide[3];
    die_if(token_buffer_create(&b, &(BufferOptions){.capacity = 1, .D = 3, .unit = 1, .type = F16}, &err));
    token_buffer_add(b, half, 0, 1);
    token_buffer_shuffle(b);
    token_buffer_read(b, 0, wide, NULL, 1);
    failed += test_same("buffer/f16", wide, (float[]){1 + 0x1p-10f, -0x1p-24f, 65504}, sizeof wide);
    token_buffer_free(b);
    return failed;
}

/* Fills a buffer, drops half of it and fills it again, three times over; early: what comes again comes before the
 * drop. */
static void refill(float *got, int n, bool early)
{
    TokenBuffer *b;
    float next = 0;
    die_if(token_buffer_create(&b, &(BufferOptions){.capacity = n, .D = 1, .unit = 2, .type = F32, .seed = 7}, &err));
    for (int round = 0; round < 4; round++) {
        for (; token_buffer_room(b) > 0; next += 2)
            token_buffer_add(b, (float[]){next, next + 1}, 0, 2);
        token_buffer_shuffle(b);
        for (int read = 2; early && round < 3 && read <= n/2; read += 2, next += 2) {
            token_buffer_spare(b, read);
            token_buffer_add(b, (float[]){next, next + 1}, 0, 2);
        }
        if (round < 3)
            token_buffer_drop(b, n/2);
    }
    token_buffer_read(b, 0, got, NULL, n);
    token_buffer_free(b);
}

static int late(void)
{
    enum { N = 60 };
    float after[N], before[N];
    refill(after, N, false);
    refill(before, N, true);
    return test_same("buffer/late as if after the drop", before, after, sizeof after);
}

/* Units of 4 stay whole and in order, whatever is read at a time. */
static int units(void)
{
    enum { N = 40, UNIT = 4 };
    TokenBuffer *b;
    float token[N], got[N];
    int together = 1;
    die_if(token_buffer_create(&b, &(BufferOptions){.capacity = N, .D = 1, .unit = UNIT, .type = F32, .seed = 1},
                               &err));
    for (int j = 0; j < N; j++)
        token[j] = (float)j;
    token_buffer_add(b, token, 0, N);
    token_buffer_shuffle(b);
    int failed = test_ok("buffer/units are all given", token_buffer_read(b, 0, got, NULL, 12) == 12
                                                    && token_buffer_read(b, 12, got + 12, NULL, N) == N - 12);
    for (int j = 0; j < N; j++)
        together &= (int)got[j] % UNIT == j % UNIT && (int)got[j]/UNIT == (int)got[j/UNIT*UNIT]/UNIT;
    failed += test_ok("buffer/units stay together", together);
    failed += test_ok("buffer/units are shuffled", memcmp(got, token, sizeof got) != 0);
    token_buffer_free(b);
    return failed;
}

typedef struct Seen { int64_t steps, tokens, total; double first, last; int stop_after; } Seen;

static int on_step(void *context, int learner, const FitReport *r)
{
    Seen *s = (Seen *)context + learner;
    s->first = s->steps++ ? s->first : r->rate;
    s->tokens = r->tokens;
    s->total = r->total;
    s->last = r->rate;
    return s->stop_after && s->steps == s->stop_after;
}

enum { D = 8, TOKENS = 4000 };
static float data[TOKENS*D];

typedef struct Case { LearnerOptions learner[2]; int learners; FitOptions fit; } Case;

static const TrainOptions small = {.K = 2, .F = 32, .batch = 100, .clip = 1};

typedef struct Pushing { Fit *fit; FitGate *gate; int cut, full; } Pushing;

static void *push_all(void *context)
{
    Pushing *p = context;
    p->full = 0;
    for (int n = 0; n < TOKENS && !p->full; n += p->cut)
        p->full = fit_push(p->fit, data + n*D, F32, D, 0, TOKENS - n < p->cut ? TOKENS - n : p->cut, &err);
    if (p->gate)
        fit_gate_leave(p->gate);
    return NULL;
}

/* The same by a thread of its own, while this one trains. */
static void push_beside(Pushing *p)
{
    pthread_t pusher;
    Fit *asked;
    fit_gate_open(p->gate);
    if (pthread_create(&pusher, NULL, push_all, p))
        exit(2);
    for (GateEvent event = GATE_NOTHING; event != GATE_LEFT;)
        if ((event = fit_gate_wait(p->gate, &asked)) == GATE_ASKED)
            die_if(fit_make_room(asked, &err));
    pthread_join(pusher, NULL);
}

/* Pushes TOKENS tokens `cut` at a time, over again while asked to; W_dec of the last learner to the caller, who frees
 * it. s: one for each learner. */
static float *fit(Case c, int cut, bool file, Seen *s)
{
    Fit *f;
    Sae *sae;
    c.fit.learner = c.learner;
    c.fit.learners = c.learners ? c.learners : 1;
    for (int l = 0; l < c.fit.learners; l++)
        s[l] = (Seen){.stop_after = s[l].stop_after};
    die_if(fit_create(&f, &c.fit, on_step, s, &err));
    for (int again = 1; again == 1;) {
        Pushing p = {.fit = f, .gate = c.fit.gate, .cut = cut};
        if (p.gate)
            push_beside(&p);
        else
            push_all(&p);
        again = p.full ? p.full < 0 ? -1 : 0 : fit_input_ended(f, file, &err);
        die_if(again < 0);
    }
    float *W = malloc(sizeof(float)*32*D);
    die_if(fit_export(f, c.fit.learners - 1, &sae, &err));
    op->download(W, sae->W_dec, sizeof(float)*32*D);
    sae_free(sae);
    fit_free(f);
    return W;
}

/* A learner beside one with larger batches learns what it would alone. */
static int beside(Case one)
{
    Seen s[2] = {0};
    Case two = one;
    two.learners = 2;
    two.learner[1] = one.learner[0];
    two.learner[0].train.batch = 250;
    two.learner[0].train.K = 5;
    float *a = fit(one, 100, true, s), *b = fit(two, 100, true, s);
    const int failed = test_same("fit/beside another as alone", a, b, sizeof(float)*32*D)
                     + test_ok("fit/both have all tokens", s[0].tokens == s[1].tokens);
    free(a);
    free(b);
    return failed;
}

/* Whether one thread pushes and trains, or two do: the same steps, the same weights. */
static int gated(const char *name, Case c, bool file)
{
    Seen s[2] = {0}, other[2] = {0};
    int failed = 0;
    c.fit.gate = NULL;
    float *a = fit(c, 64, file, s);
    if (!(c.fit.gate = fit_gate_create(&err)))
        exit(2);
    for (int cut = 1; cut <= 333; cut += 166) {
        float *b = fit(c, cut, file, other);
        failed += test_same(name, a, b, sizeof(float)*32*D)
                + test_ok(name, s[0].tokens == other[0].tokens && s[0].steps == other[0].steps);
        free(b);
    }
    free(a);
    fit_gate_free(c.fit.gate);
    return failed;
}

static int fits(void)
{
    uint32_t state = 9;
    Seen s = {0}, other = {0};
    for (int j = 0; j < TOKENS*D; j++) {
        state = state*1664525u + 1013904223u;
        data[j] = (float)((int32_t)state >> 8)*0x1p-23f;
    }
    const LearnerOptions learner = {.train = small, .decay = 0.5, .rate = 0.01};
    const Case whole = {.learner = {learner}, .fit = {.epochs = 3, .buffer = 5000}},
        part = {.learner = {learner}, .fit = {.epochs = 3, .buffer = 1000}};
    float *a = fit(whole, 64, false, &s), *b = fit(whole, 1000, false, &other);
    int failed = test_ok("fit/a pipe that fits is passed over as asked", s.tokens == 3*TOKENS && s.total == 3*TOKENS);
    failed += test_same("fit/however the input is cut", a, b, sizeof(float)*32*D);
    failed += test_ok("fit/the rate falls to nearly 0", s.first == 0.01 && s.last < 0.0002 && s.last > 0);
    free(a); free(b);
    a = fit(part, 64, true, &s);
    b = fit(part, 333, true, &other);
    failed += test_ok("fit/a file that does not fit is read again", s.tokens == 3*TOKENS && s.last < 0.0002);
    failed += test_same("fit/however that is cut", a, b, sizeof(float)*32*D);
    free(a); free(b);
    free(fit(part, 64, false, &s));
    failed += test_ok("fit/a pipe that does not fit is passed over once", s.tokens == TOKENS && s.last < 0.0011);
    Case some = part;
    some.fit.tokens = 2500;
    free(fit(some, 64, true, &s));
    failed += test_ok("fit/--tokens", s.tokens >= 2500 && s.tokens < 2600);
    some.fit.tokens = 9000;
    some.fit.buffer = 5000;
    free(fit(some, 64, false, &s));
    failed += test_ok("fit/--tokens from memory", s.tokens == 9000 && s.total == 9000);
    s.stop_after = 7;
    free(fit(part, 64, true, &s));
    failed += test_ok("fit/stopped", s.tokens == 3*86 + 2*84 + 2*86);     /* 256 in three batches */
    Case two = part, odd = part;
    two.learners = 2;
    two.learner[1] = learner;
    two.learner[0].train.batch = 90;
    odd.fit.buffer = 777;
    failed += gated("fit/by two threads, from memory", whole, false)
            + gated("fit/by two threads, read again", part, true)
            + gated("fit/by two threads, once", odd, false) + gated("fit/by two threads, two learners", two, true);
    some.fit.buffer = 900;
    failed += gated("fit/by two threads, --tokens", some, true);
    return failed + beside(whole) + beside(part);
}

int main(void)
{
    die_if(backend_pick("cpu", 1, &err));
    const int failed = passes() + late() + units() + fits();
    return failed != 0;
}
