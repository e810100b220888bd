/* SPDX-License-Identifier: MIT */
/* workspace.c -- a stack of device memory in pieces, made one piece when it has been used once. */
#include <assert.h>
#include "kernels/op.h"
#include "src/models/workspace.h"

enum { ALIGNMENT = 256, SMALLEST_PIECE = 8 << 20 };

void *workspace_take(Workspace *w, size_t bytes, Err *e)
{
    const size_t size = (bytes + ALIGNMENT - 1)/ALIGNMENT*ALIGNMENT;
    if (w->failed)
        return NULL;
    while (w->top.at < w->pieces && w->top.used + size > w->piece[w->top.at].size) {
        w->top.at++;
        w->top.used = 0;
    }
    if (w->top.at == w->pieces) {
        const size_t twice = w->pieces ? 2*w->piece[w->pieces - 1].size : SMALLEST_PIECE;
        const size_t wanted = twice < size ? size : twice;
        /* twice the last where that is to be had, else what is needed */
        Err quiet = {0};
        char *data = w->pieces == WORKSPACE_PIECES ? NULL : op->alloc(wanted, &quiet);
        size_t got = wanted;
        if (!data && w->pieces < WORKSPACE_PIECES && wanted > size)
            data = op->alloc(got = size, e);
        if (!data) {
            err_set(e, "out of memory: %zu MiB of activations in use, %zu MiB more needed", w->top.live >> 20,
                    size >> 20);
            w->failed = true;
            return NULL;
        }
        w->piece[w->pieces].data = data;
        w->piece[w->pieces++].size = got;
    }
    char *p = w->piece[w->top.at].data + w->top.used;
    w->top.used += size;
    w->top.live += size;
    if (w->top.live > w->peak)
        w->peak = w->top.live;
    return p;
}

WorkspaceMark workspace_mark(const Workspace *w)
{
    return w->top;
}

void workspace_release(Workspace *w, WorkspaceMark mark)
{
    w->top = mark;
    w->failed = false;
}

void *workspace_upload(Workspace *w, const float *values, size_t n, DType type, Err *e)
{
    float *f32 = workspace_take(w, n*sizeof *f32, e);
    void *as_type = type == F32 ? f32 : workspace_take(w, n*dtype_size(type), e);
    if (!as_type)
        return NULL;
    op->upload(f32, values, n*sizeof *f32);
    if (type != F32)
        op->convert(as_type, type, f32, F32, (int64_t)n);
    return as_type;
}

int workspace_settle(Workspace *w, Err *e)
{
    assert(w->top.live == 0);
    if (w->pieces < 2)
        return 0;
    const size_t peak = w->peak;
    workspace_free(w);
    w->peak = peak;
    w->piece[0].data = op->alloc(peak, e);
    if (!w->piece[0].data)
        return -1;
    w->piece[0].size = peak;
    w->pieces = 1;
    return 0;
}

void workspace_free(Workspace *w)
{
    for (int i = 0; i < w->pieces; i++)
        op->free(w->piece[i].data);
    *w = (Workspace){0};
}

int device_grow(void **p, size_t *have, size_t bytes, Err *e)
{
    if (bytes <= *have)
        return 0;
    if (*p)
        op->free(*p);
    *have = 0;
    *p = op->alloc(bytes, e);
    if (!*p)
        return -1;
    *have = bytes;
    return 0;
}
