/* SPDX-License-Identifier: MIT */
/* fit_gate.h -- where the thread that reads the input and the one that trains meet.
 *
 *     reader      fit_push ... waits here while the buffer has no room         fit_gate_leave
 *     trainer     fit_gate_wait, fit_make_room, again and again                fit_gate_close
 *
 * Rounds of training come at the same tokens as when one thread does both: a round begins when the reader holds a
 * token for which there is no place. While it lasts, the reader fills the places of tokens that have been trained
 * on. */
#ifndef SRC_MODELS_FIT_GATE_H
#define SRC_MODELS_FIT_GATE_H

#include <stdbool.h>
#include "formats/err.h"

typedef struct FitGate FitGate;
struct Fit;

typedef enum { GATE_NOTHING, GATE_ASKED, GATE_LEFT } GateEvent;

FitGate *fit_gate_create(Err *e);                   /* NULL: out of memory */
void fit_gate_free(FitGate *g);                     /* NULL is fine */

/* Trainer: waits, 50 ms at most, until the reader asks for room in *fit, which only fit_make_room gives, or has
 * left. */
GateEvent fit_gate_wait(FitGate *g, struct Fit **fit);
void fit_gate_open(FitGate *g);                     /* before a reader begins */
void fit_gate_close(FitGate *g);                    /* the reader waits no longer, fit_push returns 1 */
void fit_gate_leave(FitGate *g);                    /* reader: it has ended */

/* ---- for sae_fit.c; g may be NULL, which is one thread by itself ---- */

void fit_gate_lock(FitGate *g);
void fit_gate_unlock(FitGate *g);
/* The reader, with the lock of a gate that is not closed: asks for room in fit and waits until something has
 * changed. */
void fit_gate_ask(FitGate *g, struct Fit *fit);
bool fit_gate_closed(const FitGate *g);
/* The trainer, with the lock: there is room in fit, or it is done. */
void fit_gate_changed(FitGate *g, const struct Fit *fit);

#endif
