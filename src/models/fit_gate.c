/* SPDX-License-Identifier: MIT */
/* fit_gate.c -- one lock, one condition, and which fit is asked for room. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include "src/models/fit_gate.h"

enum { WAIT_NS = 50*1000*1000 };

struct FitGate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct Fit *asked;              /* NULL: none */
    bool closed, left;
};

FitGate *fit_gate_create(Err *e)
{
    pthread_condattr_t clock;
    FitGate *g = calloc(1, sizeof *g);
    if (!g) {
        err_set(e, "out of memory");
        return NULL;
    }
    pthread_mutex_init(&g->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&g->changed, &clock);
    pthread_condattr_destroy(&clock);
    return g;
}

void fit_gate_free(FitGate *g)
{
    if (!g)
        return;
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

void fit_gate_lock(FitGate *g)
{
    if (g)
        pthread_mutex_lock(&g->lock);
}

void fit_gate_unlock(FitGate *g)
{
    if (g)
        pthread_mutex_unlock(&g->lock);
}

GateEvent fit_gate_wait(FitGate *g, struct Fit **fit)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAIT_NS;
    until.tv_sec += until.tv_nsec/1000000000;
    until.tv_nsec %= 1000000000;
    fit_gate_lock(g);
    while (!g->asked && !g->left && pthread_cond_timedwait(&g->changed, &g->lock, &until) == 0) {}
    *fit = g->asked;
    const GateEvent event = g->asked ? GATE_ASKED : g->left ? GATE_LEFT : GATE_NOTHING;
    fit_gate_unlock(g);
    return event;
}

/* One of the gate's flags; nobody asks for room any more, or yet. */
static void set(FitGate *g, bool *flag, bool value)
{
    fit_gate_lock(g);
    *flag = value;
    g->asked = NULL;
    pthread_cond_broadcast(&g->changed);
    fit_gate_unlock(g);
}

void fit_gate_open(FitGate *g)
{
    set(g, &g->closed, false);
    set(g, &g->left, false);
}

void fit_gate_close(FitGate *g)
{
    set(g, &g->closed, true);
}

void fit_gate_leave(FitGate *g)
{
    set(g, &g->left, true);
}

void fit_gate_ask(FitGate *g, struct Fit *fit)
{
    g->asked = fit;
    pthread_cond_broadcast(&g->changed);
    pthread_cond_wait(&g->changed, &g->lock);
}

bool fit_gate_closed(const FitGate *g)
{
    return g && g->closed;
}

void fit_gate_changed(FitGate *g, const struct Fit *fit)
{
    if (!g)
        return;
    if (g->asked == fit)
        g->asked = NULL;
    pthread_cond_broadcast(&g->changed);
}
