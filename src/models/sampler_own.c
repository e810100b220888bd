/* SPDX-License-Identifier: MIT */
/* sampler_own.c -- pictures that are there before they are drawn: with noise, and by an inversion (sampler.h). */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/latent.h"
#include "src/models/mask.h"
#include "src/models/sampler_parts.h"

void sampler_draw_noise(Sampler *s)
{
    #pragma omp parallel for
    for (int i = 0; i < s->n; i++)
        noise_draw(&s->noise[i], s->planes + sampler_latent(s)*i, sampler_latent(s));
}

void sampler_put(Sampler *s, float *x)
{
    #pragma omp parallel for
    for (int i = 0; i < s->n; i++)
        latent_to_rows(s->host + sampler_latent(s)*i, s->planes + sampler_latent(s)*i, s->C, s->H * s->W);
    op->upload(x, s->host, sampler_latent(s) * s->n * sizeof *x);
}

static void put_starts(Sampler *s, const CondBatch *b, float *x)
{
    for (int i = 0; i < s->n; i++)
        memcpy(s->planes + sampler_latent(s)*i, b->item[s->picture[i]].start, sampler_latent(s) * sizeof *s->planes);
    sampler_put(s, x);
}

void sampler_put_noised(Sampler *s, const CondBatch *b, float *x)
{
    sampler_draw_noise(s);
    for (int i = 0; i < s->n; i++)
        scheduler_add_noise(s->scheduler, s->step, s->planes + sampler_latent(s)*i, b->item[s->picture[i]].start,
                            sampler_latent(s));
    sampler_put(s, x);
}

int sampler_own_create(Sampler *s, Err *e)
{
    const size_t batch = sampler_latent(s) * s->options.batch * sizeof(float);
    Err why = {0};
    s->change = op->alloc(batch, &why);
    s->traced = s->change ? op->alloc(batch * s->scheduler->steps, &why) : NULL;
    return s->traced ? 0 : err_set(e, "out of memory for an inversion of %d pictures x %d steps; try a smaller --batch",
                                   s->options.batch, s->scheduler->steps);
}

void sampler_own_free(Sampler *s)
{
    if (s->change)
        op->free(s->change);
    if (s->traced)
        op->free(s->traced);
    if (s->where)
        op->free(s->where);
}

void sampler_own_begin(Sampler *s)
{
    op->clear(s->change, sampler_latent(s) * s->n * sizeof(float));
}

void sampler_own_before(Sampler *s, const CondBatch *b)
{
    sampler_put_noised(s, b, s->x);
    op->add(s->x, s->change, (int64_t)(sampler_latent(s) * s->n));
}

int sampler_mask(Sampler *s, const Image *mask, Err *e)
{
    const size_t bytes = sampler_latent(s) * sizeof *s->where;
    if (!s->where && !(s->where = op->alloc(bytes, e)))
        return -1;
    mask_tokens(s->planes, mask, s->H, s->W);
    for (size_t i = 0; i < sampler_latent(s); i++)
        s->host[i] = s->planes[i / (size_t)s->C];
    op->upload(s->where, s->host, bytes);
    return 0;
}

void sampler_own_after(Sampler *s, const CondBatch *b)
{
    const size_t picture = sampler_latent(s), all = picture * s->n;
    scheduler_mean(s->scheduler, s->step, s->x, s->halves == 2 ? s->eps : NULL, s->eps + all*(s->halves - 1),
                   (float)s->options.guidance, (int64_t)all);
    for (int i = 0; i < s->n; i++) {
        const int place = s->traced_at[b->item[s->picture[i]].place];
        float *mean = s->x + picture*i;
        float *own = s->traced + picture*((size_t)s->step * s->options.batch + place);
        if (s->tracing) {
            op->copy(own, mean, picture * sizeof(float));
            continue;
        }
        op->subtract(s->change + picture*i, mean, own, (int64_t)picture);
        if (s->where)
            op->multiply(s->change + picture*i, s->where, F32, (int64_t)picture);
    }
}

void sampler_own_end(Sampler *s, const CondBatch *b)
{
    put_starts(s, b, s->x);
    op->add(s->x, s->change, (int64_t)(sampler_latent(s) * s->n));
}
