/* SPDX-License-Identifier: MIT */
/* mmdit_text.c -- what Stable Diffusion 3's transformer makes of its texts before any step.
 *
 *     context = W state      pooled' = W2 silu(W1 pooled)
 *
 *   state (images*S,E)     context (images*S,D)     pooled (images,P)     pooled' (images,D)
 *
 * Images of one text share both by index. diffusers models/embeddings.py (PixArtAlphaTextProjection). */
#include <stdlib.h>
#include "src/models/mmdit_parts.h"

/* Rows index[b]*S + s of the states in the order of the batch, and index itself. */
static int set_rows(MMDiT *m, const int32_t *index, int64_t B, int64_t S, Err *e)
{
    const size_t bytes = (size_t)(B*S)*sizeof(int32_t);
    void *state_rows = m->state_rows, *pooled_rows = m->pooled_rows;
    int32_t *row = malloc(bytes), *at = row;
    const int failed = !row ? err_set(e, "out of memory")
        : device_grow(&state_rows, &m->state_rows_bytes, bytes, e)
        || device_grow(&pooled_rows, &m->pooled_rows_bytes, (size_t)B*sizeof *index, e) ? -1 : 0;
    m->state_rows = state_rows;
    m->pooled_rows = pooled_rows;
    for (int64_t b = 0; b < B && !failed; b++)
        for (int64_t s = 0; s < S; s++)
            *at++ = (int32_t)(index[b]*S + s);
    if (!failed) {
        op->upload(m->state_rows, row, bytes);
        op->upload(m->pooled_rows, index, (size_t)B*sizeof *index);
    }
    free(row);
    return failed;
}

/* y (N,D) device = last(first(x)), x (N,width) host; first NULL: last(x). */
static int project(MMDiT *m, float *y, const float *x, int64_t N, int width, Conv *first, Conv *last, Err *e)
{
    const WorkspaceMark mark = workspace_mark(&m->work);
    const void *in = workspace_upload(&m->work, x, (size_t)(N*width), first ? F32 : m->type, e);
    float *h = first ? workspace_take(&m->work, (size_t)(N*m->config.D)*sizeof *h, e) : NULL;
    const bool taken = in && (h || !first);
    if (taken) {
        if (first)
            op->conv_run(first, h, in, 1, N, 1, false);
        op->conv_run(last, y, first ? h : in, 1, N, 1, false);
    }
    workspace_release(&m->work, mark);
    return taken ? 0 : -1;
}

static int grow(float **p, size_t *have, int64_t N, int D, Err *e)
{
    void *device = *p;
    const int failed = device_grow(&device, have, (size_t)(N*D)*sizeof **p, e);
    *p = device;
    return failed;
}

int mmdit_set_text(MMDiT *m, const float *states, int64_t images, int64_t S, const int32_t *index, int64_t B, Err *e)
{
    if (text_index_check(index, B, images, e))
        return -1;
    if (images*S > INT32_MAX)
        return err_set(e, "%lld text states of %lld tokens are too many", (long long)images, (long long)S);
    m->B = 0;                       /* no text until all is there */
    m->has_pooled = false;
    if (set_rows(m, index, B, S, e) || grow(&m->state, &m->state_bytes, images*S, m->config.D, e)
        || project(m, m->state, states, images*S, m->config.E, NULL, m->context, e))
        return -1;
    m->B = B;
    m->S = S;
    m->images = images;
    return 0;
}

int mmdit_set_added(MMDiT *m, const float *pooled, Err *e)
{
    if (!m->B)
        return err_set(e, "a pooled embedding for no text");
    m->has_pooled = false;
    if (grow(&m->pooled, &m->pooled_bytes, m->images, m->config.D, e)
        || project(m, m->pooled, pooled, m->images, m->config.P, m->pooled1, m->pooled2, e))
        return -1;
    m->has_pooled = true;
    return 0;
}
