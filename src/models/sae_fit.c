/* SPDX-License-Identifier: MIT */
/* sae_fit.c -- buffer and passes: from a stream of tokens to the learners' steps. Its checkpoint: sae_fit_state.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/sae_fit_parts.h"

/* PIECE: bytes that are added to the buffer while the gate is locked */
enum { BUFFER_TOKENS = 1 << 20, BUFFER_BYTES = 512 << 20, START_TOKENS = 4096, PIECE = 256 << 10 };

int fit_create(Fit **out, const FitOptions *options, FitFn report, void *context, Err *e)
{
    Fit *f = *out = calloc(1, sizeof *f);
    if (!f || !(f->learner = calloc((size_t)options->learners, sizeof *f->learner))) {
        free(f);
        *out = NULL;
        return err_set(e, "out of memory");
    }
    f->options = *options;
    f->report = report;
    f->context = context;
    for (; f->learners < options->learners; f->learners++) {
        f->learner[f->learners].options = options->learner[f->learners];
        f->learner[f->learners].options.tokens = options->tokens;
    }
    return 0;
}

void fit_free(Fit *f)
{
    if (!f)
        return;
    batches_free(f->batches);
    token_buffer_free(f->buffer);
    for (int l = 0; l < f->learners; l++)
        trainer_free(f->learner[l].trainer);
    free(f->learner);
    free(f);
}

bool fit_cut_short(const Fit *f)
{
    return f->cut_short;
}

void fit_stop(Fit *f)
{
    f->stopped |= !f->done;
    f->done = true;
}

bool fit_stopped(const Fit *f)
{
    return f->stopped;
}

const LearnerOptions *fit_options(const Fit *f, int learner)
{
    return &f->learner[learner].options;
}

const FitReport *fit_last(const Fit *f, int learner)
{
    return &f->learner[learner].last;
}

double fit_gradient(const Fit *f, int learner)
{
    return learner_gradient(&f->learner[learner]);
}

int fit_export(Fit *f, int learner, Sae **s, Err *e)
{
    *s = NULL;
    return f->learner[learner].trainer ? trainer_export(f->learner[learner].trainer, s, e) : 0;
}

int fit_begin(Fit *f, DType type, int D, int unit, Err *e)
{
    FitOptions *o = &f->options;
    const int64_t size = (int64_t)D*(int64_t)dtype_size(type);
    int64_t batch = START_TOKENS > unit ? START_TOKENS : unit;
    for (int l = 0; l < f->learners; l++) {
        if (learner_settle(&f->learner[l], D, unit, e))
            return -1;
        if (f->learner[l].options.train.batch > batch)
            batch = f->learner[l].options.train.batch;
        if (o->buffer > 0 && o->buffer < 2*f->learner[l].options.train.batch)
            o->buffer = 2*f->learner[l].options.train.batch;
    }
    if (o->buffer == 0)
        o->buffer = BUFFER_BYTES/size < BUFFER_TOKENS ? BUFFER_BYTES/size : BUFFER_TOKENS;
    if (o->buffer < 2*unit)
        o->buffer = 2*unit;
    f->type = type;
    f->D = D;
    f->unit = unit;
    const BufferOptions b = {.capacity = o->buffer, .D = D, .unit = unit, .type = type, .seed = o->seed};
    f->batch = batch;
    return token_buffer_create(&f->buffer, &b, e);
}

/* ---- training ---- */

static int start(Fit *f, Err *e)
{
    const int labels = f->options.labels ? labels_settle(f->options.labels, e) : 0;
    if (f->options.labels && !labels)
        return -1;
    float *x = batches_scratch(f->batches);
    const int64_t n = token_buffer_read(f->buffer, 0, x, NULL, START_TOKENS > f->unit ? START_TOKENS : f->unit);
    for (int l = 0; l < f->learners; l++)
        if (learner_start(&f->learner[l], labels, x, n, e))
            return -1;
    token_buffer_shuffle(f->buffer);
    return 0;
}

/* The last learner has trained on the first n tokens of what will be dropped. */
static void spare(Fit *f, int64_t n)
{
    fit_gate_lock(f->options.gate);
    token_buffer_spare(f->buffer, n);
    fit_gate_changed(f->options.gate, f);
    fit_gate_unlock(f->options.gate);
}

/* A pass over the buffer, of which all stays, the rest of the last whole batch for another pass; its front, which drops
 * then; what it holds when the input has ended. Of these two no token is left out: batches are a little smaller, all by
 * the same, where they have to be. */
typedef enum { PASS, FRONT, LAST } Round;

static int64_t batch_of(const Learner *l, Round round, int64_t most, int unit)
{
    const int64_t batch = l->options.train.batch, steps = (most + batch - 1)/batch;
    return round == PASS ? batch < most ? batch : most : ((most + steps - 1)/steps + unit - 1)/unit*unit;
}

/* One learner's way through the first `most` tokens of the order, from where it is. */
static int teach(Fit *f, int number, Round round, int64_t most, Err *e)
{
    Learner *l = &f->learner[number];
    const int64_t part = round == PASS ? learner_part(l, most) : most, batch = batch_of(l, round, most, f->unit);
    int failed = batches_begin(f->batches, l->taken, part, batch, e);
    while (!failed && l->taken < part && !l->done && !f->stopped) {
        const Batch *b = batches_next(f->batches);
        l->taken += b->n;
        failed = learner_step(l, b->x, b->label, b->n, e);
        if (failed)
            break;
        if (round == FRONT && number == f->learners - 1)
            spare(f, l->taken);
        f->stopped = f->report && f->report(f->context, number, &l->last);
    }
    batches_end(f->batches);
    return failed;
}

/* The buffer is shuffled, and all learn from the first `most` of it. After a checkpoint: goes on with the round that
 * was under way. */
static int train(Fit *f, int64_t most, Round round, Err *e)
{
    if (!f->batches && batches_create(&f->batches, f->buffer, f->options.labels,
                                      f->learner[0].options.train.team, f->D, f->batch, e))
        return -1;
    if (!f->in_round)
        token_buffer_shuffle(f->buffer);
    if (!f->learner[0].trainer && start(f, e))
        return -1;
    f->in_round = true;
    bool done = true;
    for (int l = 0; l < f->learners; l++) {
        if (teach(f, l, round, most, e))
            return -1;
        done &= f->learner[l].done;
    }
    fit_gate_lock(f->options.gate);
    f->done = done || f->stopped;
    for (int l = 0; l < f->learners; l++)
        f->learner[l].taken = 0;
    f->in_round = false;
    if (round == FRONT)
        f->seen += token_buffer_drop(f->buffer, most);
    fit_gate_changed(f->options.gate, f);
    fit_gate_unlock(f->options.gate);
    return 0;
}

/* How many tokens the front of the buffer is: half of it at most, in batches of any power of two up to MOST_STEP, which
 * have no rest then. It is the same whatever learners there are. */
static int64_t front_tokens(const Fit *f)
{
    enum { MOST_STEP = 1 << 14 };
    const int64_t half = token_buffer_held(f->buffer)/2;
    int64_t step = f->unit;
    for (int64_t power = 2; power <= MOST_STEP && (step%power == 0 || 2*step <= half); power *= 2)
        step = step%power ? 2*step : step;              /* the least multiple of unit that power divides */
    return half/step*step;
}

int fit_make_room(Fit *f, Err *e)
{
    f->overflowed = true;
    for (int l = 0; l < f->learners && f->options.tokens > 0; l++)
        learner_know_total(&f->learner[l], f->options.tokens);
    return train(f, front_tokens(f), FRONT, e);
}

/* Adds what there is room for, up to PIECE: how many. It is seen now, or, where it comes late, after the drop. */
static int64_t add(Fit *f, const char *tokens, int32_t tag, int64_t n)
{
    const int64_t size = (int64_t)f->D*(int64_t)dtype_size(f->type), held = token_buffer_held(f->buffer);
    const int64_t piece = (PIECE/size/f->unit + 1)*f->unit, room = token_buffer_room(f->buffer);
    n = n < piece ? n : piece;
    n = n < room ? n : room;
    token_buffer_add(f->buffer, tokens, tag, n);
    f->seen += token_buffer_held(f->buffer) - held;
    return n;
}

static int push(Fit *f, const char *tokens, DType type, int D, int32_t tag, int64_t n, Err *e)
{
    FitGate *gate = f->options.gate;
    if (f->done || n == 0)
        return f->done;
    if (!f->buffer && fit_begin(f, type, D, f->options.pictures ? (int)n : 1, e))
        return -1;
    if (D != f->D)
        return err_set(e, "activations of width %d, those of the checkpoint have %d", D, f->D);
    if (type != f->type)
        return err_set(e, "activations change from %s to %s", dtype_name(f->type), dtype_name(type));
    if (n % f->unit)
        return err_set(e, "records of %d tokens, then one of %lld: pictures are mixed whole, so all must be of one "
                       "size", f->unit, (long long)n);
    const size_t size = (size_t)D*dtype_size(type);
    f->again = false;
    if (f->skip > 0) {
        const int64_t known = n < f->skip ? n : f->skip;
        tokens += (size_t)known*size;
        n -= known;
        f->skip -= known;
    }
    while (n > 0 && !f->done && !fit_gate_closed(gate)) {
        if (token_buffer_room(f->buffer) == 0) {
            if (gate)
                fit_gate_ask(gate, f);
            else if (fit_make_room(f, e))
                return -1;
            continue;
        }
        const int64_t added = add(f, tokens, tag, n);
        tokens += (size_t)added*size;
        n -= added;
        fit_gate_unlock(gate);          /* the trainer may come in between */
        fit_gate_lock(gate);
    }
    return f->done || fit_gate_closed(gate);
}

int fit_push(Fit *f, const void *tokens, DType type, int D, int32_t tag, int64_t n, Err *e)
{
    fit_gate_lock(f->options.gate);
    const int full = push(f, tokens, type, D, tag, n, e);
    fit_gate_unlock(f->options.gate);
    return full;
}

/* All of the input is in the buffer. */
static int passes_from_memory(Fit *f, Err *e)
{
    const int64_t held = token_buffer_held(f->buffer);
    for (int l = 0; l < f->learners; l++)
        learner_know_total(&f->learner[l], f->options.tokens > 0 ? f->options.tokens
                                           : f->options.epochs*learner_part(&f->learner[l], held));
    for (; !f->done && (f->options.tokens > 0 || f->memory_pass < f->options.epochs); f->memory_pass++)
        if (train(f, held, PASS, e))
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
        for (int l = 0; l < f->learners && f->options.tokens == 0; l++)
            learner_know_total(&f->learner[l], f->seen*f->options.epochs);
        f->seen = 0;
        return 1;
    }
    f->cut_short |= wanted;
    f->last_round = true;
    for (int l = 0; l < f->learners; l++)
        learner_end_after(&f->learner[l], token_buffer_held(f->buffer));
    const int failed = train(f, token_buffer_held(f->buffer), LAST, e);
    f->done = true;
    return failed;
}
