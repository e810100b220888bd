/* SPDX-License-Identifier: MIT */
/* thumbs.c -- small copies of pictures, in the order of their keys. */
#include <stdlib.h>
#include <string.h>
#include "formats/fnv.h"
#include "formats/html.h"
#include "formats/image.h"
#include "src/models/thumbs.h"

static void thumb_free(Thumb *x)
{
    free(x->key);
    free(x->png);
    free(x);
}

void thumbs_free(Thumbs *t)
{
    for (size_t i = 0; i < t->count; i++)
        thumb_free(t->item[i]);
    free(t->item);
    *t = (Thumbs){0};
}

/* The place of key, or where it would come. */
static size_t place(const Thumbs *t, const char *key, bool *there)
{
    size_t low = 0, high = t->count;
    *there = false;
    while (low < high && !*there) {
        const size_t middle = low + (high - low)/2;
        const int order = strcmp(t->item[middle]->key, key);
        *there = order == 0;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return high;
}

Thumb *thumbs_find(const Thumbs *t, const char *key)
{
    bool there;
    const size_t i = place(t, key, &there);
    return there ? t->item[i] : NULL;
}

static int fill(Thumb *x, const char *key, int side, const uint8_t *rgb, int W, int H, Err *e)
{
    const int longer = W > H ? W : H;
    x->W = longer > side ? (int)((int64_t)W*side/longer) : W;
    x->H = longer > side ? (int)((int64_t)H*side/longer) : H;
    x->W = x->W ? x->W : 1;
    x->H = x->H ? x->H : 1;
    x->hash = fnv_bytes(FNV_BASIS ^ (uint64_t)W << 32 ^ (uint64_t)H, rgb, (size_t)W*(size_t)H*3);
    x->key = strdup(key);
    uint8_t *small = malloc((size_t)x->W*(size_t)x->H*3);
    if (!x->key || !small) {
        free(small);
        return err_set(e, "out of memory for pictures");
    }
    image_resize(small, x->W, x->H, rgb, W, H);
    const int failed = image_encode(&x->png, &x->bytes, x->W, x->H, 3, small, e);
    free(small);
    return failed;
}

int thumbs_add(Thumbs *t, const char *key, const uint8_t *rgb, int W, int H, Err *e)
{
    bool there;
    const size_t i = place(t, key, &there);
    if (there)
        return 0;
    if (t->count == t->room) {
        const size_t room = t->room ? 2*t->room : 64;
        Thumb **more = realloc(t->item, room*sizeof *more);
        if (!more)
            return err_set(e, "out of memory for pictures");
        t->item = more;
        t->room = room;
    }
    Thumb *x = calloc(1, sizeof *x);
    if (!x || fill(x, key, t->side, rgb, W, H, e)) {
        if (x)
            thumb_free(x);
        return err_set(e, "out of memory for pictures");
    }
    memmove(t->item + i + 1, t->item + i, (t->count - i)*sizeof *t->item);
    t->item[i] = x;
    t->count++;
    return 0;
}

void thumbs_drop(Thumbs *t, const char *key)
{
    bool there;
    const size_t i = place(t, key, &there);
    if (!there)
        return;
    thumb_free(t->item[i]);
    t->count--;
    memmove(t->item + i, t->item + i + 1, (t->count - i)*sizeof *t->item);
}

void thumbs_draw(Thumbs *t, Thumb *x)
{
    if (!x || x->number)
        return;
    const size_t bytes = (x->bytes + 2)/3*4;
    if (t->taken + bytes > t->limit) {
        t->left_out++;
        x->number = -1;
        return;
    }
    t->taken += bytes;
    x->number = ++t->drawn;
}

void thumb_write(FILE *f, Thumb *x)
{
    if (!x || x->number < 1)
        return;
    if (x->written) {
        html(f, "<use href=\"#i%d\"/>", x->number);
        return;
    }
    html(f, "<image id=i%d width=%d height=%d href=\"", x->number, x->W, x->H);
    html_data(f, "image/png", x->png, x->bytes);
    fputs("\"/>", f);
    x->written = true;
}
