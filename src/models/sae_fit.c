/* SPDX-License-Identifier: MIT */
/* sae_fit.c -- buffer, passes, learning rate: from a stream of tokens to training steps. */
#include <math.h>
#include <stdlib.h>
#include "src/models/sae_fit.h"
#include "src/models/token_buffer.h"

enum { BUFFER_TOKENS = 1 << 20, BUFFER_BYTES = 512 << 20, START_TOKENS = 4096, RECENT_TOKENS = 1 << 16 };

struct Fit {
    FitOptions options;
    FitFn report;
    void *context;
    TokenBuffer *buffer;
    Trainer *trainer;
    DType type;                     /* of the tokens */
    float *x;                       /* one batch */
    int64_t seen, pass;             /* tokens pushed in this pass; passes ended */
    bool overflowed;                /* the input does not fit the buffer */
    bool done, stopped, cut_short;
    int64_t total, decay_from;      /* tokens to be trained on, -1 until known; where the rate begins to fall */
    FitReport last;
    double recent_error, recent;    /* running sums for last.step.fvu */
};

int fit_create(Fit **out, const FitOptions *options, FitFn report, void *context, Err *e)
{
    Fit *f = *out = calloc(1, sizeof *f);
    if (!f)
        return err_set(e, "out of memory");
    f->options = *options;
    f->report = report;
    f->context = context;
    f->total = -1;
    return 0;
}

void fit_free(Fit *f)
{
    if (!f)
        return;
    token_buffer_free(f->buffer);
    trainer_free(f->trainer);
    free(f->x);
    free(f);
}

bool fit_cut_short(const Fit *f)
{
    return f->cut_short;
}

bool fit_stopped(const Fit *f)
{
    return f->stopped;
}

const FitReport *fit_last(const Fit *f)
{
    return &f->last;
}

Sae *fit_sae(Fit *f)
{
    return f->trainer ? trainer_sae(f->trainer) : NULL;
}

/* ---- sizes are known with the first token ---- */

static int begin(Fit *f, DType type, int D, Err *e)
{
    FitOptions *o = &f->options;
    const int64_t size = (int64_t)D*(int64_t)dtype_size(type);
    o->train.D = D;
    if (o->train.F == 0) {
        if (o->expansion*D > 1 << 24)
            return err_set(e, "%lld times width %d are more than 16M features", (long long)o->expansion, D);
        o->train.F = (int)(o->expansion*D);
    }
    if (o->train.batch == 0)
        o->train.batch = o->train.F < 8192 ? 1024 : 4096;
    if (o->buffer == 0)
        o->buffer = BUFFER_BYTES/size < BUFFER_TOKENS ? BUFFER_BYTES/size : BUFFER_TOKENS;
    if (o->buffer < 2*o->train.batch)
        o->buffer = 2*o->train.batch;
    if (o->rate == 0)
        o->rate = 7e-4/sqrt(o->train.F/16384.0);
    f->type = type;
    f->x = malloc(sizeof(float)*(size_t)D*(size_t)(o->train.batch > START_TOKENS ? o->train.batch : START_TOKENS));
    return !f->x ? err_set(e, "out of memory") : token_buffer_create(&f->buffer, o->buffer, D, type, o->train.seed, e);
}

static void know_total(Fit *f, int64_t total, int64_t trained)
{
    if (f->total >= 0)
        return;
    f->total = total;
    f->decay_from = total - (int64_t)(f->options.decay*(double)total);
    if (f->decay_from < trained)
        f->decay_from = trained;
}

static double rate_at(const Fit *f, int64_t tokens)
{
    double rate = f->options.rate;
    if (tokens < f->options.warmup)
        rate *= (double)(tokens + f->options.train.batch)/(double)(f->options.warmup + f->options.train.batch);
    if (f->total >= 0 && tokens > f->decay_from)
        rate *= fmax(0, (double)(f->total - tokens)/(double)(f->total - f->decay_from));
    return rate;
}

/* ---- training ---- */

static int step(Fit *f, int64_t n, Err *e)
{
    FitReport *r = &f->last;
    const double rate = rate_at(f, trainer_tokens(f->trainer));
    if (trainer_step(f->trainer, f->x, n, rate, &r->step, e))
        return -1;
    const double keep = fmax(0, 1 - (double)n/RECENT_TOKENS);
    f->recent_error = keep*f->recent_error + (double)n*r->step.fvu;
    f->recent = keep*f->recent + (double)n;
    r->step.fvu = f->recent_error/f->recent;
    r->rate = rate;
    r->tokens = trainer_tokens(f->trainer);
    r->total = f->total;
    r->steps++;
    f->stopped = f->report && f->report(f->context, r);
    f->done = f->stopped || (f->options.tokens > 0 && r->tokens >= f->options.tokens);
    return 0;
}

/* Shuffles, and trains on up to `most` tokens in whole batches; a buffer smaller than a batch is one. */
static int train(Fit *f, int64_t most, Err *e)
{
    int64_t batch = f->options.train.batch;
    token_buffer_shuffle(f->buffer);
    if (!f->trainer) {
        const int64_t n = token_buffer_take(f->buffer, f->x, START_TOKENS);
        if (trainer_create(&f->trainer, &f->options.train, e) || trainer_start(f->trainer, f->x, n, e))
            return -1;
        token_buffer_shuffle(f->buffer);
    }
    if (batch > most)
        batch = most;
    for (int64_t taken = 0; taken + batch <= most && batch > 0 && !f->done; taken += batch)
        if (step(f, token_buffer_take(f->buffer, f->x, batch), e))
            return -1;
    return 0;
}

int fit_push(Fit *f, const void *tokens, DType type, int D, int64_t n, Err *e)
{
    if (f->done || n == 0)
        return f->done;
    if (!f->buffer && begin(f, type, D, e))
        return -1;
    if (type != f->type)
        return err_set(e, "activations change from %s to %s", dtype_name(f->type), dtype_name(type));
    while (n > 0 && !f->done) {
        if (token_buffer_room(f->buffer) == 0) {
            f->overflowed = true;
            if (f->options.tokens > 0)
                know_total(f, f->options.tokens, 0);
            if (train(f, token_buffer_held(f->buffer)/2, e))
                return -1;
            token_buffer_drop(f->buffer);
        }
        const int64_t room = token_buffer_room(f->buffer), now = n < room ? n : room;
        token_buffer_add(f->buffer, tokens, now);
        tokens = (const char *)tokens + (size_t)now*(size_t)D*dtype_size(type);
        n -= now;
        f->seen += now;
    }
    return f->done;
}

/* All of the input is in the buffer. */
static int passes_from_memory(Fit *f, Err *e)
{
    const int64_t held = token_buffer_held(f->buffer), batch = f->options.train.batch;
    const int64_t pass = held < batch ? held : held/batch*batch;
    know_total(f, f->options.tokens > 0 ? f->options.tokens : f->options.epochs*pass, 0);
    for (int64_t p = 0; !f->done && (f->options.tokens > 0 || p < f->options.epochs); p++)
        if (train(f, held, e))
            return -1;
    f->done = true;
    return 0;
}

int fit_input_ended(Fit *f, bool again, Err *e)
{
    if (f->done || !f->buffer)
        return 0;
    if (!f->overflowed)
        return passes_from_memory(f, e);
    const bool wanted = f->options.tokens > 0 || ++f->pass < f->options.epochs;
    if (wanted && again) {
        if (f->options.tokens == 0)
            know_total(f, f->seen*f->options.epochs, trainer_tokens(f->trainer));
        f->seen = 0;
        return 1;
    }
    f->cut_short = wanted;
    know_total(f, trainer_tokens(f->trainer) + token_buffer_held(f->buffer), trainer_tokens(f->trainer));
    const int failed = train(f, token_buffer_held(f->buffer), e);
    f->done = true;
    return failed;
}
