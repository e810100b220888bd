/* SPDX-License-Identifier: MIT */
/* unet_text.c -- keys and values of every cross attention, computed once a prompt.
 *
 *   kv = [W_k; W_v] state      state (images*S, E), kv (images*S, 2C) of each transformer block
 *
 * They depend on the text alone, so that no step computes them again, and images of one text share them by index. */
#include <stdlib.h>
#include "src/models/unet_parts.h"

typedef struct Text {
    const void *states;             /* device T (images*S, E) */
    int64_t rows;                   /* images*S */
    size_t value;                   /* bytes of a T */
    char *at;                       /* next block's place in kv */
    size_t bytes;                   /* counted so far */
} Text;

static int count(void *context, const Transformer *t, TransformerBlock *b)
{
    Text *x = context;
    (void)b;
    x->bytes += (size_t)x->rows*2*(size_t)t->C*x->value;
    return 0;
}

static int compute(void *context, const Transformer *t, TransformerBlock *b)
{
    Text *x = context;
    b->text_kv = x->at;
    op->conv_run(b->kv, b->text_kv, x->states, 1, x->rows, 1, false);
    x->at += (size_t)x->rows*2*(size_t)t->C*x->value;
    return 0;
}

/* What makes a (B,C) shift for each resnet of the time embedding's projections: its pieces, B times over, of the one
 * row that there is, or of the row of the image's text where the text adds to the embedding. */
static int set_shift_rows(UNet *u, const int32_t *index, int64_t B, Err *e)
{
    const size_t bytes = (size_t)B*(size_t)(u->temb/u->piece)*sizeof(int32_t);
    void *device = u->shift_rows;
    int32_t *row = malloc(bytes), *at = row, first = 0;
    const int failed = row ? device_grow(&device, &u->shift_rows_bytes, bytes, e) : err_set(e, "out of memory");
    u->shift_rows = device;
    for (int i = 0; i < u->resnets && !failed; i++) {
        const int pieces = u->resnet_C[i]/u->piece;
        for (int64_t b = 0; b < B; b++)
            for (int k = 0; k < pieces; k++)
                *at++ = (u->config.P ? index[b]*(u->temb/u->piece) : 0) + first + k;
        first += pieces;
    }
    if (!failed)
        op->upload(u->shift_rows, row, bytes);
    free(row);
    return failed;
}

static int set_index(UNet *u, const int32_t *index, int64_t B, Err *e)
{
    const size_t bytes = (size_t)B*sizeof *index;
    void *device = u->kv_index;
    const int failed = device_grow(&device, &u->kv_index_bytes, bytes, e);
    u->kv_index = device;
    if (!failed)
        op->upload(u->kv_index, index, bytes);
    return failed;
}

int unet_set_text(UNet *u, const float *states, int64_t images, int64_t S, const int32_t *index, int64_t B, Err *e)
{
    if (text_index_check(index, B, images, e))
        return -1;
    u->B = 0;                       /* no text until all is there */
    u->has_added = false;
    Text x = {.rows = images*S, .value = dtype_size(u->type)};
    unet_each_block(u, count, &x);
    if (device_grow(&u->kv, &u->kv_bytes, x.bytes, e) || set_index(u, index, B, e)
        || set_shift_rows(u, index, B, e))
        return -1;

    const WorkspaceMark mark = workspace_mark(&u->work);
    x.states = workspace_upload(&u->work, states, (size_t)(images*S*u->config.E), u->type, e);
    const bool taken = x.states != NULL;
    if (taken) {
        x.at = u->kv;
        unet_each_block(u, compute, &x);
        u->B = B;
        u->S = S;
        u->text_rows = x.rows;
    }
    workspace_release(&u->work, mark);
    return taken ? 0 : -1;
}
