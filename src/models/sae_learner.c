/* SPDX-License-Identifier: MIT */
/* sae_learner.c -- learning rate, running figures, and the checkpoint of one autoencoder of a fit. */
#include <math.h>
#include "src/models/sae_learner.h"

enum { RECENT_TOKENS = 1 << 16 };

int learner_settle(Learner *l, int D, int unit, Err *e)
{
    LearnerOptions *o = &l->options;
    o->train.D = D;
    if (o->train.F == 0) {
        if (o->expansion*D > SAE_MAX_FEATURES)
            return err_set(e, "%lld times width %d are more than 16M features", (long long)o->expansion, D);
        o->train.F = (int)(o->expansion*D);
    }
    if (o->train.K > o->train.F)
        return err_set(e, "%d features kept of %d cannot be", o->train.K, o->train.F);
    if (o->train.batch == 0)
        o->train.batch = o->train.F < 8192 ? 1024 : 4096;
    o->train.batch = o->train.batch < unit ? unit : o->train.batch/unit*unit;
    o->train.sample = unit;
    if (train_options_settle(&o->train, e))
        return -1;
    if (o->train.dead == 0)
        o->train.dead = 50*(int64_t)o->train.F/o->train.K;
    if (o->rate == 0)
        o->rate = 7e-4/sqrt(o->train.F/16384.0);
    l->total = -1;
    return 0;
}

int learner_start(Learner *l, int labels, const float *x, int64_t N, Err *e)
{
    l->options.train.labels = labels;
    return train_options_settle(&l->options.train, e)
        || trainer_create(&l->trainer, &l->options.train, e) || trainer_start(l->trainer, x, N, e) ? -1 : 0;
}

int64_t learner_part(const Learner *l, int64_t n)
{
    const int64_t batch = l->options.train.batch;
    return n < batch ? n : n/batch*batch;
}

int64_t learner_tokens(const Learner *l)
{
    return l->trainer ? trainer_tokens(l->trainer) : 0;
}

double learner_gradient(const Learner *l)
{
    return l->stepped ? trainer_gradient(l->trainer) : l->gradient;
}

void learner_know_total(Learner *l, int64_t total)
{
    if (l->total >= 0)
        return;
    l->total = total;
    l->decay_from = total - (int64_t)(l->options.decay*(double)total);
    if (l->decay_from < learner_tokens(l))
        l->decay_from = learner_tokens(l);
}

/* The part of the rate that is left before `tokens`. */
static double decayed(const Learner *l, int64_t tokens)
{
    return l->total < 0 || tokens <= l->decay_from ? 1
         : fmax(0, (double)(l->total - tokens)/(double)(l->total - l->decay_from));
}

void learner_end_after(Learner *l, int64_t tokens)
{
    const int64_t now = learner_tokens(l);
    const double left = decayed(l, now);
    if (l->total >= 0 && l->total <= now + tokens)
        return;
    l->total = -1;
    learner_know_total(l, now + tokens);
    if (left > 0 && left < 1)
        l->decay_from = l->total - (int64_t)((double)tokens/left);
}

static double rate_at(const Learner *l, int64_t tokens)
{
    const LearnerOptions *o = &l->options;
    double rate = o->rate;
    if (tokens < o->warmup)
        rate *= (double)(tokens + o->train.batch)/(double)(o->warmup + o->train.batch);
    return rate*decayed(l, tokens);
}

/* At half of the tokens it ends: what is begun late would not be learned (Bricken et al. resample up to there). */
static int resample(Learner *l, int64_t n, Err *e)
{
    const int64_t tokens = trainer_tokens(l->trainer), every = l->options.resample;
    const bool due = every > 0 && tokens/every != (tokens - n)/every && (l->total < 0 || tokens <= l->total/2);
    return due ? trainer_resample(l->trainer, n, e) : 0;
}

int learner_step(Learner *l, const float *x, const uint8_t *label, int64_t n, Err *e)
{
    FitReport *r = &l->last;
    const double rate = rate_at(l, trainer_tokens(l->trainer));
    if (trainer_step(l->trainer, x, label, n, rate, &r->step, e) || resample(l, n, e))
        return -1;
    const double keep = fmax(0, 1 - (double)n/RECENT_TOKENS);
    l->recent_error = keep*l->recent_error + (double)n*r->step.fvu;
    l->recent = keep*l->recent + (double)n;
    r->step.fvu = l->recent_error/l->recent;
    r->rate = rate;
    r->tokens = trainer_tokens(l->trainer);
    r->total = l->total;
    r->steps++;
    l->stepped = true;
    l->done = l->options.tokens > 0 && r->tokens >= l->options.tokens;
    return 0;
}

/* ---- checkpoint ---- */

enum { PLACES = 9, FIGURES = 9 };

int learner_store(const Learner *l, Checkpoint *c, const char *part, Err *e)
{
    const FitReport *r = &l->last;
    const int64_t place[PLACES] = {l->trainer != NULL, l->taken, l->total, l->decay_from, r->tokens, r->total, r->steps,
                                   r->step.dead, l->options.train.labels};
    const double figures[FIGURES] = {r->step.fvu, r->step.aux, r->step.l0, learner_gradient(l), r->step.sparsity,
                                     r->rate, l->recent_error, l->recent, r->step.supervised};
    return checkpoint_put(c, part, "learner.place", I64, place, PLACES, false, e)
        || checkpoint_put(c, part, "learner.figures", F64, figures, FIGURES, false, e)
        || (l->trainer && trainer_store(l->trainer, c, part, e)) ? -1 : 0;
}

int learner_restore(Learner *l, Checkpoint *c, const char *part, int labels, Err *e)
{
    FitReport *r = &l->last;
    int64_t place[PLACES];
    double figures[FIGURES];
    if (checkpoint_get(c, part, "learner.place", I64, place, PLACES, false, e)
        || checkpoint_get(c, part, "learner.figures", F64, figures, FIGURES, false, e))
        return -1;
    const int64_t expected = place[0] ? labels : 0;
    if (place[8] != expected || expected > l->options.train.F)
        return err_set(e, "checkpoint: %s: %lld labels, expected %lld, at most %d", part, (long long)place[8],
                       (long long)expected, l->options.train.F);
    static const int least[] = {0, 0, -1, -1, 0, -1, 0, 0};
    for (int p = 0; p < (int)(sizeof least/sizeof *least); p++)
        if (place[p] < least[p] || place[p] > (p == 7 ? l->options.train.F : MOST_TOKENS))
            return err_set(e, "checkpoint: %s: learner.place: value %d is %lld, which cannot be", part, p,
                           (long long)place[p]);
    l->options.train.labels = (int)place[8];
    if (place[0] && (train_options_settle(&l->options.train, e) || trainer_create(&l->trainer, &l->options.train, e)
                     || trainer_restore(l->trainer, c, part, e)))
        return -1;
    l->taken = place[1];
    l->total = place[2];
    l->decay_from = place[3];
    *r = (FitReport){.tokens = place[4], .total = place[5], .steps = place[6], .rate = figures[5]};
    r->step = (TrainStep){.fvu = figures[0], .aux = figures[1], .l0 = figures[2], .sparsity = figures[4],
                          .supervised = figures[8], .dead = (int)place[7]};
    l->gradient = figures[3];
    l->recent_error = figures[6];
    l->recent = figures[7];
    l->done = l->options.tokens > 0 && r->tokens >= l->options.tokens;
    return 0;
}
