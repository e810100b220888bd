/* SPDX-License-Identifier: MIT */
/* sae_fit.c -- buffer, passes, learning rate: from a stream of tokens to training steps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
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
    int64_t skip;                   /* tokens of this pass that came before the checkpoint */
    int64_t taken;                  /* tokens of the buffer's present round trained on; -1: none is under way */
    int64_t memory_pass;            /* rounds ended, once all of the input is in the buffer */
    bool again;                     /* asked for another reading, which has not begun */
    bool last_round;                /* on what is left of an input that does not fit */
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
    f->total = f->taken = -1;
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

/* Shuffles, and trains on up to `most` tokens in whole batches; a buffer smaller than a batch is one. After a
 * checkpoint: goes on with the round that was under way. */
static int train(Fit *f, int64_t most, Err *e)
{
    int64_t batch = f->options.train.batch;
    if (f->taken < 0)
        token_buffer_shuffle(f->buffer);
    if (!f->trainer) {
        const int64_t n = token_buffer_take(f->buffer, f->x, START_TOKENS);
        if (trainer_create(&f->trainer, &f->options.train, e) || trainer_start(f->trainer, f->x, n, e))
            return -1;
        token_buffer_shuffle(f->buffer);
    }
    if (batch > most)
        batch = most;
    if (f->taken < 0)
        f->taken = 0;
    while (f->taken + batch <= most && batch > 0 && !f->done) {
        f->taken += batch;
        if (step(f, token_buffer_take(f->buffer, f->x, batch), e))
            return -1;
    }
    f->taken = -1;
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
    f->again = false;
    if (f->skip > 0) {
        const int64_t known = n < f->skip ? n : f->skip;
        tokens = (const char *)tokens + (size_t)known*(size_t)D*dtype_size(type);
        n -= known;
        f->skip -= known;
    }
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
    for (; !f->done && (f->options.tokens > 0 || f->memory_pass < f->options.epochs); f->memory_pass++)
        if (train(f, held, e))
            return -1;
    f->done = true;
    return 0;
}

int fit_input_ended(Fit *f, bool again, Err *e)
{
    if (f->done || !f->buffer)
        return 0;
    if (f->skip > 0)
        return err_set(e, "the input ends %lld tokens before the place of the checkpoint: is it the same input?",
                       (long long)f->skip);
    if (!f->overflowed)
        return passes_from_memory(f, e);
    if (f->again)
        return 1;
    const bool wanted = !f->last_round && (f->options.tokens > 0 || ++f->pass < f->options.epochs);
    if (wanted && again) {
        f->again = true;
        if (f->options.tokens == 0)
            know_total(f, f->seen*f->options.epochs, trainer_tokens(f->trainer));
        f->seen = 0;
        return 1;
    }
    f->cut_short |= wanted;
    f->last_round = true;
    know_total(f, trainer_tokens(f->trainer) + token_buffer_held(f->buffer), trainer_tokens(f->trainer));
    const int failed = train(f, token_buffer_held(f->buffer), e);
    f->done = true;
    return failed;
}

/* ---- checkpoint ---- */

int fit_store(const Fit *f, Checkpoint *c, const char *part, Err *e)
{
    const FitReport *r = &f->last;
    if (!f->buffer)
        return json_object_set_new(checkpoint_fields(c), part, json_object());
    json_t *fields = json_pack("{s:s, s:i, s:b}", "type", dtype_name(f->type), "width", f->options.train.D, "trainer",
                               f->trainer != NULL);
    const int64_t place[] = {
        f->seen, f->pass, f->taken, f->memory_pass, f->again, f->last_round, f->overflowed,
        f->done && !f->stopped, f->cut_short, f->total, f->decay_from, r->tokens, r->total, r->steps, r->step.dead,
    };
    const double figures[] = {r->step.fvu, r->step.aux, r->step.l0, r->step.gradient, r->rate, f->recent_error,
                              f->recent};
    if (!fields || json_object_set_new(checkpoint_fields(c), part, fields))
        return err_set(e, "out of memory");
    return checkpoint_put(c, part, "place", I64, place, sizeof place/sizeof *place, false, e)
        || checkpoint_put(c, part, "figures", F64, figures, sizeof figures/sizeof *figures, false, e)
        || token_buffer_store(f->buffer, c, part, e)
        || (f->trainer && trainer_store(f->trainer, c, part, e));
}

int fit_restore(Fit *f, Checkpoint *c, const char *part, Err *e)
{
    const json_t *fields = json_object_get(checkpoint_fields(c), part);
    const char *name = json_string_value(json_object_get(fields, "type"));
    const json_int_t D = json_integer_value(json_object_get(fields, "width"));
    FitReport *r = &f->last;
    int64_t place[15];
    double figures[7];
    if (!json_is_object(fields))
        return err_set(e, "the checkpoint holds no %s", part);
    if (!name)                  /* no token had come */
        return 0;
    const DType type = strcmp(name, dtype_name(F16)) == 0 ? F16 : strcmp(name, dtype_name(BF16)) == 0 ? BF16 : F32;
    if (D < 1 || D > 1 << 17)
        return err_set(e, "checkpoint: %s: a width of %lld cannot be", part, (long long)D);
    if (begin(f, type, (int)D, e)
        || checkpoint_get(c, part, "place", I64, place, sizeof place/sizeof *place, false, e)
        || checkpoint_get(c, part, "figures", F64, figures, sizeof figures/sizeof *figures, false, e)
        || token_buffer_restore(f->buffer, c, part, e))
        return -1;
    if (json_is_true(json_object_get(fields, "trainer"))
        && (trainer_create(&f->trainer, &f->options.train, e) || trainer_restore(f->trainer, c, part, e)))
        return -1;
    f->seen = f->skip = place[0];
    f->pass = place[1];
    f->taken = place[2];
    f->memory_pass = place[3];
    f->again = place[4];
    f->last_round = place[5];
    f->overflowed = place[6];
    f->cut_short = place[8];
    f->total = place[9];
    f->decay_from = place[10];
    *r = (FitReport){.tokens = place[11], .total = place[12], .steps = place[13]};
    f->done = place[7] || (f->options.tokens > 0 && r->tokens >= f->options.tokens);
    r->step = (TrainStep){.fvu = figures[0], .aux = figures[1], .l0 = figures[2], .gradient = figures[3],
                          .dead = (int)place[14]};
    r->rate = figures[4];
    f->recent_error = figures[5];
    f->recent = figures[6];
    return 0;
}
