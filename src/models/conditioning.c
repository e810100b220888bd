/* SPDX-License-Identifier: MIT */
/* conditioning.c -- batches of a conditioning stream. */
#include <stdlib.h>
#include <string.h>
#include "src/models/conditioning.h"

static float *read_state(const CondBatch *b, const Record *rec, const char *name, Err *e)
{
    const int64_t shape[] = {b->S, b->E};
    const StreamTensor *t = stream_need(b->in, rec, name, -1, 2, shape, e);
    float *y = t ? malloc(sizeof(float) * b->S * b->E) : NULL;
    if (t && !y)
        err_set(e, "out of memory for a text state");
    if (y && stream_floats(b->in, rec, t, y, e)) {
        free(y);
        return NULL;
    }
    return y;
}

static void item_clear(CondItem *item)
{
    record_clear(&item->record);
    free(item->state);
    free(item->uncond);
    *item = (CondItem){0};
}

int cond_batch_create(CondBatch **out, StreamIn *in, int capacity, int width, const char *model, Err *e)
{
    *out = NULL;
    const Record *header = stream_header(in);
    const StreamTensor *t = stream_need(in, header, "uncond", -1, 2, (const int64_t[]){-1, -1}, e);
    if (!t)
        return -1;
    if (t->dim[0] < 1 || t->dim[0] > 1 << 16 || (width && t->dim[1] != width)) {
        char text[128];
        return err_set(e, "%s: header: the text state is %s, the model takes states of width %d", stream_name(in),
                       tensor_shape_text(t, text), width);
    }
    const char *id = record_text(header, "model", "");
    if (model && *id && strcmp(id, model) != 0)
        return err_set(e, "%s: header: texts were encoded by %s, the model in use is %s", stream_name(in), id, model);

    CondBatch *b = calloc(1, sizeof *b);
    if (!b || !(b->item = calloc(capacity, sizeof *b->item))) {
        free(b);
        return err_set(e, "out of memory for a batch of %d", capacity);
    }
    b->in = in;
    b->capacity = capacity;
    b->S = (int)t->dim[0];
    b->E = (int)t->dim[1];
    if (!(b->uncond = read_state(b, header, "uncond", e))) {
        cond_batch_free(b);
        return -1;
    }
    *out = b;
    return 0;
}

int cond_batch_next(CondBatch *b, Err *e)
{
    for (int i = 0; i < b->count; i++)
        item_clear(&b->item[i]);
    b->count = 0;
    while (b->count < b->capacity) {
        Record rec;
        int got = stream_next(b->in, &rec, e);
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        CondItem *item = &b->item[b->count];
        long long seed = record_int(&rec, "seed", -1);
        if (seed < 0)
            return err_set(e, "%s: record %ld: seed is missing or negative", stream_name(b->in), rec.number);
        item->seed = (uint64_t)seed;
        record_init(&item->record, NULL);
        record_copy_fields(&item->record, &rec);
        item->record.number = rec.number;
        b->count++;
        if (!(item->state = read_state(b, &rec, "state", e)))
            return -1;
        if (record_tensor(&rec, "uncond") && !(item->uncond = read_state(b, &rec, "uncond", e)))
            return -1;
    }
    return b->count > 0;
}

void cond_batch_free(CondBatch *b)
{
    if (!b)
        return;
    for (int i = 0; i < b->count; i++)
        item_clear(&b->item[i]);
    free(b->item);
    free(b->uncond);
    free(b);
}
