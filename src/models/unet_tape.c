/* SPDX-License-Identifier: MIT */
/* unet_tape.c -- evaluations of the UNet: run, and from the third of its kind on played from a tape where the backend
 * takes them down.
 *
 * All that changes from step to step are values in memory: x, the sinusoids of t, the text's keys and values. The first
 * evaluation of a kind makes the workspace, the libraries' plans and scratch memory; the next one is taken down. */
#include <math.h>
#include <string.h>
#include "src/models/unet_parts.h"

enum { MOST_TIME_CHANNELS = 1 << 13 };

/* As torch computes it in f32 (get_timestep_embedding). */
static void sinusoids(float *y, float t, int C, bool cos_first, double freq_shift)
{
    const int half = C/2;
    const float rate = (float)-log(10000), steps = (float)((double)half - freq_shift);
    for (int i = 0; i < half; i++) {
        const float angle = t*expf(rate*(float)i/steps);
        y[i] = cos_first ? cosf(angle) : sinf(angle);
        y[half + i] = cos_first ? sinf(angle) : cosf(angle);
    }
    if (C%2)
        y[C - 1] = 0;
}

static int set_time(UNet *u, float t, Err *e)
{
    const UNetConfig *c = &u->config;
    float host[MOST_TIME_CHANNELS];
    if (c->C[0] > MOST_TIME_CHANNELS)
        return err_set(e, "\"block_out_channels\" begins with %d, at most %d is implemented", c->C[0],
                       MOST_TIME_CHANNELS);
    if (!u->waves && !(u->waves = op->alloc((size_t)c->C[0]*sizeof *host, e)))
        return -1;
    sinusoids(host, t, c->C[0], c->flip_sin_to_cos, c->freq_shift);
    op->upload(u->waves, host, (size_t)c->C[0]*sizeof *host);
    return 0;
}

/* The tape of a kind of evaluation; a new kind takes the place that was not asked for longest, and *known is false. */
static UNetTape *tape_for(UNet *u, const UNetKey *key, bool *known)
{
    UNetTape *oldest = &u->tape[0];
    *known = false;
    u->evaluations++;
    for (int i = 0; i < UNET_TAPES && !*known; i++) {
        UNetTape *t = &u->tape[i];
        *known = memcmp(&t->key, key, sizeof *key) == 0;
        if (*known || t->used < oldest->used)
            oldest = t;
    }
    if (!*known) {
        tape_free(oldest->tape);
        *oldest = (UNetTape){.key = *key};
    }
    oldest->used = u->evaluations;
    return oldest;
}

static void take_down(UNet *u, UNetTape *kind, float *eps, const float *x, int64_t H, int64_t W)
{
    Err quiet = {0};
    Tape *t = tape_begin();
    const int failed = t ? unet_evaluate(u, eps, x, H, W, t, &quiet) : -1;
    if (t && tape_end(t) && !failed) {
        kind->tape = t;
    } else {
        tape_free(t);
        kind->refused = true;
    }
}

int unet_eval(UNet *u, float *eps, const float *x, int64_t B, int64_t H, int64_t W, float t, Err *e)
{
    if (B != u->B)
        return err_set(e, "a batch of %lld images, but text for %lld", (long long)B, (long long)u->B);
    if (set_time(u, t, e))
        return -1;
    const UNetKey key = {B, H, W, u->S, u->text_rows, u->hooks.count, x, eps, u->kv, u->kv_index, u->shift_rows,
                         u->work.piece[0].data};
    bool known = false;
    UNetTape *kind = tape_for(u, &key, &known);
    if (known && !kind->tape && !kind->refused)
        take_down(u, kind, eps, x, H, W);
    if (kind->tape)
        return tape_play(kind->tape, &u->hooks, e);
    return unet_evaluate(u, eps, x, H, W, NULL, e) ? -1 : workspace_settle(&u->work, e);
}

void unet_free_tapes(UNet *u)
{
    for (int i = 0; i < UNET_TAPES; i++)
        tape_free(u->tape[i].tape);
    if (u->waves)
        op->free(u->waves);
}
