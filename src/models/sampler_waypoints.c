/* SPDX-License-Identifier: MIT */
/* sampler_waypoints.c -- what runs leave on their way for later runs of the same pictures to begin with. */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/sampler_parts.h"

/* Latents of a picture at a waypoint: x, then the scheduler's memory. */
static float *left_at(const Sampler *s, int waypoint, int place)
{
    return s->left + ((size_t)waypoint * s->options.batch + place) * (1 + s->scheduler->memory) * sampler_latent(s);
}

int sampler_waypoints(Sampler *s, const int *step, int count, Err *e)
{
    const size_t latents = (size_t)count * s->options.batch * (1 + s->scheduler->memory);
    if (count == 0)
        return 0;
    s->waypoint = malloc(sizeof *s->waypoint * count);
    s->left = op->alloc(latents * sampler_latent(s) * sizeof(float), e);
    if (!s->waypoint || !s->left)
        return err_set(e, "out of memory for what variants have in common, %zu latents; try a smaller --batch",
                       latents);
    memcpy(s->waypoint, step, sizeof *s->waypoint * count);
    s->waypoints = count;
    return 0;
}

void sampler_waypoints_free(Sampler *s)
{
    free(s->waypoint);
    if (s->left)
        op->free(s->left);
}

/* Between a waypoint and the run: its latents there, or back. */
static void pass(Sampler *s, const CondBatch *b, int waypoint, bool back)
{
    const size_t size = sampler_latent(s), bytes = size * sizeof(float);
    for (int i = 0; i < s->n; i++) {
        float *left = left_at(s, waypoint, b->item[s->picture[i]].place);
        for (int m = 0; m <= s->scheduler->memory; m++) {
            float *own = m ? s->memory + ((size_t)(m - 1) * s->n + i) * size : s->x + i * size;
            op->copy(back ? own : left + m * size, back ? left + m * size : own, bytes);
        }
    }
}

void sampler_leave(Sampler *s, const CondBatch *b)
{
    for (int w = 0; w <= s->leave; w++)
        if (s->waypoint[w] == s->step)
            pass(s, b, w, false);
}

void sampler_resume(Sampler *s, const CondBatch *b)
{
    for (; s->step < s->waypoint[s->from]; s->step++)
        if (s->scheduler->step[s->step].noise > 0)
            sampler_draw_noise(s);              /* which the steps left out would have added */
    pass(s, b, s->from, true);
}
