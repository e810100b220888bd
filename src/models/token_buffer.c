/* SPDX-License-Identifier: MIT */
/* token_buffer.c -- units of tokens in fixed slots, and an array of slot numbers that is shuffled in their stead
 * (Fisher and Yates). The order is read from the end of what is held, so that dropping its front frees slots there.
 *
 *   slot:   | held: the order's last ... its first | free ...... |
 *           0                                      held          slots
 *
 * Late units take the slots of the order's first, from its very first on; the drop turns that part of the array
 * round, and they stand behind the others in the order of their coming, as if they had come after it. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "src/models/splitmix.h"
#include "src/models/token_buffer.h"

struct TokenBuffer {
    BufferOptions options;
    int64_t slots, held, peak;      /* units; peak: most that were ever held */
    int64_t spare, late;            /* units of the order's front that may be overwritten, and that have been */
    size_t size;                    /* bytes of a unit */
    uint64_t random;
    int32_t *slot, *tag;            /* tag: by slot */
    char *data;
};

/* Memory that is walked in random order: with pages of 2 MB where the system gives them, each address is found
 * sooner. */
static void *large_pages(size_t bytes)
{
    const size_t page = (size_t)2 << 20, whole = (bytes + page - 1)/page*page;
    if (bytes < page)
        return malloc(bytes);
    void *data = aligned_alloc(page, whole);
    if (data)
        madvise(data, whole, MADV_HUGEPAGE);
    return data;
}

int token_buffer_create(TokenBuffer **out, const BufferOptions *options, Err *e)
{
    *out = NULL;
    TokenBuffer *b = calloc(1, sizeof *b);
    if (!b)
        return err_set(e, "out of memory");
    const int64_t slots = options->capacity < options->unit ? 1 : options->capacity/options->unit;
    *b = (TokenBuffer){.options = *options, .slots = slots, .random = options->seed,
                       .size = (size_t)options->unit*(size_t)options->D*dtype_size(options->type)};
    b->slot = malloc(sizeof *b->slot*(size_t)slots);
    b->tag = malloc(sizeof *b->tag*(size_t)slots);
    b->data = large_pages(b->size*(size_t)slots);
    if (!b->slot || !b->tag || !b->data) {
        token_buffer_free(b);
        return err_set(e, "out of memory for a buffer of %lld tokens of width %d; try a smaller --buffer",
                       (long long)options->capacity, options->D);
    }
    for (int64_t j = 0; j < slots; j++)
        b->slot[j] = (int32_t)j;
    *out = b;
    return 0;
}

void token_buffer_free(TokenBuffer *b)
{
    if (!b)
        return;
    free(b->slot);
    free(b->tag);
    free(b->data);
    free(b);
}

int64_t token_buffer_held(const TokenBuffer *b)
{
    return b->held*b->options.unit;
}

int64_t token_buffer_room(const TokenBuffer *b)
{
    return (b->slots - b->held + b->spare - b->late)*b->options.unit;
}

void token_buffer_spare(TokenBuffer *b, int64_t n)
{
    b->spare = n/b->options.unit;
}

void token_buffer_add(TokenBuffer *b, const void *tokens, int32_t tag, int64_t n)
{
    const int64_t units = n/b->options.unit;
    for (int64_t j = 0; j < units; j++) {
        const int32_t s = b->held < b->slots ? b->slot[b->held++] : b->slot[b->held - 1 - b->late++];
        memcpy(b->data + (size_t)s*b->size, (const char *)tokens + (size_t)j*b->size, b->size);
        b->tag[s] = tag;
    }
    b->peak = b->held > b->peak ? b->held : b->peak;
}

static uint64_t next_random(TokenBuffer *b)
{
    return splitmix(b->random += SPLITMIX_STEP);
}

void token_buffer_shuffle(TokenBuffer *b)
{
    for (int64_t j = b->held - 1; j > 0; j--) {
        const int64_t other = (int64_t)((next_random(b) >> 32)*(uint64_t)(j + 1) >> 32);
        const int32_t s = b->slot[j];
        b->slot[j] = b->slot[other];
        b->slot[other] = s;
    }
}

int64_t token_buffer_read(const TokenBuffer *b, int64_t from, float *x, int32_t *tag, int64_t n)
{
    const int64_t first = from/b->options.unit, left = b->held - first, unit = b->options.unit;
    const int64_t wanted = n/unit, units = wanted < left ? wanted : left > 0 ? left : 0;
    for (int64_t j = 0; j < units; j++) {
        const int32_t s = b->slot[b->held - 1 - first - j];
        dtype_to_f32(x + j*unit*b->options.D, b->data + (size_t)s*b->size, b->options.type,
                     (size_t)(unit*b->options.D));
        for (int64_t k = 0; tag && k < unit; k++)
            tag[j*unit + k] = b->tag[s];
    }
    return units*unit;
}

int64_t token_buffer_drop(TokenBuffer *b, int64_t n)
{
    const int64_t units = n/b->options.unit < b->held ? n/b->options.unit : b->held, late = b->late;
    for (int64_t low = b->held - units, high = b->held - 1; low < high; low++, high--) {
        const int32_t s = b->slot[low];
        b->slot[low] = b->slot[high];
        b->slot[high] = s;
    }
    b->held += late - units;
    b->spare = b->late = 0;
    return late*b->options.unit;
}

int token_buffer_store(const TokenBuffer *b, Checkpoint *c, const char *part, Err *e)
{
    const int64_t place[] = {b->held, b->peak, (int64_t)b->random};
    return checkpoint_put(c, part, "buffer.place", I64, place, 3, false, e)
        || checkpoint_put(c, part, "buffer.slot", I32, b->slot, (size_t)b->peak, false, e)
        || checkpoint_put(c, part, "buffer.tag", I32, b->tag, (size_t)b->peak, false, e)
        || checkpoint_put(c, part, "buffer.data", U8, b->data, (size_t)b->peak*b->size, false, e);
}

/* Value j of a list stands for one of `most` things. */
static int check_place(const char *part, const char *name, int64_t j, int32_t value, int64_t most, Err *e)
{
    return value >= 0 && value < most ? 0
        : err_set(e, "checkpoint: %s: %s: value %lld is %d, expected 0 to %lld", part, name, (long long)j, value,
                  (long long)most - 1);
}

int token_buffer_restore(TokenBuffer *b, Checkpoint *c, const char *part, int32_t tags, Err *e)
{
    int64_t place[3];
    if (checkpoint_get(c, part, "buffer.place", I64, place, 3, false, e))
        return -1;
    const int64_t held = place[0], peak = place[1];
    if (held < 0 || peak < held || peak > b->slots)
        return err_set(e, "checkpoint: %s: a buffer of %lld units cannot hold %lld of %lld", part,
                       (long long)b->slots, (long long)held, (long long)peak);
    if (checkpoint_get(c, part, "buffer.slot", I32, b->slot, (size_t)peak, false, e)
        || checkpoint_get(c, part, "buffer.tag", I32, b->tag, (size_t)peak, false, e)
        || checkpoint_get(c, part, "buffer.data", U8, b->data, (size_t)peak*b->size, false, e))
        return -1;
    for (int64_t j = 0; j < peak; j++)
        if (check_place(part, "buffer.slot", j, b->slot[j], peak, e)
            || check_place(part, "buffer.tag", j, b->tag[j], tags, e))
            return -1;
    if (!dtype_finite(b->data, b->options.type, (size_t)peak*b->size/dtype_size(b->options.type)))
        return err_set(e, "checkpoint: %s: buffer.data holds values that are no numbers", part);
    b->held = held;
    b->peak = peak;
    b->random = (uint64_t)place[2];
    return 0;
}
