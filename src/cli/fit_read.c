/* SPDX-License-Identifier: MIT */
/* fit_read.c -- the input read, decoded and put into the buffers by a thread of its own.
 *
 * The reader may be ahead of the training by what fits the buffers; what it found wrong counts when the training
 * would have come to it, and not where everyone has had enough before. */
#include <pthread.h>
#include "src/cli/fit.h"

typedef struct Reading {
    FitRun *run;
    int got;                        /* 1: no more is wanted, 0: the input has ended, -1: e */
    Err e;
} Reading;

static int wanting(const FitRun *run)
{
    Err none = {0};
    int count = 0;
    for (int j = 0; j < run->jobs; j++)
        count += fit_push(run->job[j].fit, NULL, F32, 0, 0, 0, &none) == 0;
    return count;
}

static int read_records(FitRun *run, Err *e)
{
    Act act;
    int got = 1;
    while (wanting(run) > 0 && !cli_stop && (got = activations_next(run->in, &act, e)) != 0) {
        DType type;
        const void *tokens = got < 0 ? NULL : activations_tokens(run->in, &act, &type, e);
        if (!tokens)
            return -1;
        Err why = {0};
        const int32_t tag = run->labels ? labels_tag(run->labels, act.rec->fields, &why) : 0;
        if (tag < 0
            || fit_push(run->job[act.hook].fit, tokens, type, act.tensor.D, tag, act.tensor.N, &why) < 0)
            return stream_blame(act.in, act.rec->number, &why, e);
    }
    return got;
}

static void *read_in_thread(void *context)
{
    Reading *r = context;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);       /* but while fd_read waits */
    r->got = read_records(r->run, &r->e);
    fit_gate_leave(r->run->gate);
    return NULL;
}

int fit_read_all(FitRun *run, Err *e)
{
    Reading r = {.run = run};
    pthread_t reader;
    fit_gate_open(run->gate);
    if (pthread_create(&reader, NULL, read_in_thread, &r))
        return err_set(e, "no thread can be started");
    int failed = 0;
    Fit *asked;
    for (GateEvent event = GATE_NOTHING; event != GATE_LEFT && !failed && !cli_stop && wanting(run) > 0;) {
        event = fit_gate_wait(run->gate, &asked);
        if (event == GATE_ASKED)
            failed = fit_make_room(asked, e);
    }
    fit_gate_close(run->gate);
    pthread_cancel(reader);         /* it may wait for bytes that nobody needs */
    pthread_join(reader, NULL);
    if (failed)
        return -1;
    for (int j = 0; j < run->jobs && cli_stop; j++)
        fit_stop(run->job[j].fit);
    if (wanting(run) == 0)
        return 1;
    return r.got < 0 ? err_set(e, "%s", r.e.text) : r.got;
}
