/* SPDX-License-Identifier: MIT */
/* conditioning.c -- batches of a conditioning stream. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/conditioning.h"
#include "src/models/model.h"

/* A fresh copy of tensor `name`. NULL on error. */
static float *read_tensor(const CondBatch *b, const Record *rec, const char *name, int ndim, const int64_t *shape,
                          Err *e)
{
    const StreamTensor *t = stream_need(b->in, rec, name, -1, ndim, shape, e);
    float *y = t ? malloc(sizeof(float) * tensor_count(t)) : NULL;
    if (t && !y)
        err_set(e, "out of memory for a text state");
    if (y && stream_floats(b->in, rec, t, y, e)) {
        free(y);
        return NULL;
    }
    return y;
}

/* A text's state of S tokens and, where there are any, its pooled embedding. The caller's to free, after failure
 * too. */
static int read_text(const CondBatch *b, const Record *rec, int S, const char *state, float **y, const char *pooled,
                     float **p, Err *e)
{
    if (!(*y = read_tensor(b, rec, state, 2, (int64_t[]){S, b->E}, e)))
        return -1;
    return !b->P || (*p = read_tensor(b, rec, pooled, 1, (int64_t[]){b->P}, e)) ? 0 : -1;
}

static void item_clear(CondItem *item)
{
    record_clear(&item->record);
    free(item->state);
    free(item->uncond);
    free(item->pooled);
    free(item->uncond_pooled);
    free(item->init_state);
    free(item->init_pooled);
    free(item->start);
    *item = (CondItem){0};
}

/* Texts of one kind of model are not another's: the pooled embedding tells those of Stable Diffusion XL and 3. */
static int check_pooled(const StreamIn *in, int pooled, Err *e)
{
    const Record *header = stream_header(in);
    const bool has = record_tensor(header, "uncond_pooled") != NULL;
    if (!has && !pooled)
        return 0;
    if (!has)
        return err_set(e, "%s: header: texts without a pooled embedding (\"uncond_pooled\"), the model is a Stable "
                       "Diffusion XL or 3 and takes one of width %d", stream_name(in), pooled);
    if (!pooled)
        return err_set(e, "%s: header: texts with a pooled embedding (\"uncond_pooled\"), which is of Stable "
                       "Diffusion XL or 3; the model takes none", stream_name(in));
    return stream_need(in, header, "uncond_pooled", -1, 1, (const int64_t[]){pooled}, e) ? 0 : -1;
}

/* The tokens of a text state. -1 with an error where they are more than any text has. */
static int tokens_of(const StreamIn *in, const Record *rec, const StreamTensor *t, Err *e)
{
    char where[32] = "header", text[128];
    if (t->dim[0] >= 1 && t->dim[0] <= COND_MOST_TOKENS)
        return (int)t->dim[0];
    if (rec->number > 0)
        snprintf(where, sizeof where, "record %ld", rec->number);
    return err_set(e, "%s: %s: %s is %s, expected 1 to %d tokens", stream_name(in), where, t->name,
                   tensor_shape_text(t, text), COND_MOST_TOKENS);
}

int cond_batch_create(CondBatch **out, StreamIn *in, int capacity, int width, int pooled, const char *model, Err *e)
{
    *out = NULL;
    const Record *header = stream_header(in);
    const StreamTensor *t = stream_need(in, header, "uncond", -1, 2, (const int64_t[]){-1, -1}, e);
    if (!t || check_pooled(in, pooled, e))
        return -1;
    if (width && t->dim[1] != width) {
        char text[128];
        return err_set(e, "%s: header: the text state is %s, the model takes states of width %d", stream_name(in),
                       tensor_shape_text(t, text), width);
    }
    const int S = tokens_of(in, header, t, e);
    if (S < 0)
        return -1;
    const char *id = record_text(header, "model", "");
    if (model && *id && !folder_same(id, model))
        return err_set(e, "%s: header: texts were encoded by %s, the model in use is %s", stream_name(in), id, model);

    CondBatch *b = calloc(1, sizeof *b);
    if (!b || !(b->item = calloc(capacity, sizeof *b->item))) {
        free(b);
        return err_set(e, "out of memory for a batch of %d", capacity);
    }
    b->in = in;
    b->capacity = capacity;
    b->uncond_S = S;
    b->E = (int)t->dim[1];
    b->P = pooled;
    if (read_text(b, header, S, "uncond", &b->uncond, "uncond_pooled", &b->uncond_pooled, e)) {
        cond_batch_free(b);
        return -1;
    }
    *out = b;
    return 0;
}

/* The record as an item, which is the caller's to clear, after failure too. */
static int read_item(const CondBatch *b, const Record *rec, CondItem *item, Err *e)
{
    const long long seed = record_int(rec, "seed", -1);
    *item = (CondItem){.seed = (uint64_t)seed};
    if (seed < 0)
        return err_set(e, "%s: record %ld: seed is missing or negative", stream_name(b->in), rec->number);
    record_init(&item->record, NULL);
    record_copy_fields(&item->record, rec);
    item->record.number = rec->number;
    const StreamTensor *t = stream_need(b->in, rec, "state", -1, 2, (const int64_t[]){-1, b->E}, e);
    if (!t || (item->S = tokens_of(b->in, rec, t, e)) < 0
        || read_text(b, rec, item->S, "state", &item->state, "pooled", &item->pooled, e))
        return -1;
    if (record_tensor(rec, "init_state")
        && read_text(b, rec, item->S, "init_state", &item->init_state, "init_pooled", &item->init_pooled, e))
        return -1;
    if (record_tensor(rec, "uncond"))
        return read_text(b, rec, item->S, "uncond", &item->uncond, "uncond_pooled", &item->uncond_pooled, e);
    return item->S == b->uncond_S ? 0 : err_set(e, "%s: record %ld: state has %d tokens and the header's uncond %d, "
                                                "expected as many, or an uncond of the record's own",
                                                stream_name(b->in), rec->number, item->S, b->uncond_S);
}

int cond_batch_next(CondBatch *b, Err *e)
{
    Record rec;
    int got = 1;
    for (int i = 0; i < b->count; i++)
        item_clear(&b->item[i]);
    b->count = 0;
    while (b->count < b->capacity && (got = stream_next(b->in, &rec, e)) > 0) {
        CondItem *item = &b->item[b->count];
        const int failed = read_item(b, &rec, item, e);
        item->place = b->count++;
        if (failed)
            return -1;
    }
    return got < 0 ? -1 : b->count > 0;
}

bool cond_batch_retold(const CondBatch *b)
{
    int i = 0;
    while (i < b->count && !b->item[i].init_state)
        i++;
    return i < b->count;
}

void cond_batch_free(CondBatch *b)
{
    if (!b)
        return;
    for (int i = 0; i < b->count; i++)
        item_clear(&b->item[i]);
    free(b->item);
    free(b->uncond);
    free(b->uncond_pooled);
    free(b);
}
