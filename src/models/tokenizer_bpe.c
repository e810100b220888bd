/* SPDX-License-Identifier: MIT */
/* tokenizer_bpe.c -- byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) over bytes, as GPT-2 and CLIP have it.
 *
 * A byte is written in vocab.json as a printable character: itself where Latin-1 prints it, else 256 + its place among
 * those that Latin-1 does not print. While a word has neighbours that merges.txt lists, the pair listed first is
 * joined, on a tie the leftmost. Candidates wait in a heap ordered by (rank, place); one that no longer stands is
 * dropped when it comes up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "formats/affix.h"
#include "formats/lines.h"
#include "src/models/tokenizer_bpe.h"

enum { NONE = -1 };

typedef struct Merge {
    uint64_t pair;                  /* left id << 32 | right id */
    int32_t rank, id;               /* id NONE: an empty slot */
} Merge;

struct Bpe {
    Merge *merge;                   /* hash table, open addressing, at most half full */
    size_t mask;                    /* slots - 1, a power of two less one */
    int32_t inner[256], last[256];  /* id of a byte inside a word, and at its end */
};

typedef struct Candidate { int32_t rank, place, id; } Candidate;

typedef struct Work {               /* one word: symbols as a doubly linked list in the order of its bytes */
    int32_t *id, *next, *previous;
    Candidate *heap;
    size_t waiting;
} Work;

/* ---- merges ---- */

static size_t slot_of(const Bpe *b, uint64_t pair)
{
    size_t slot = (size_t)((pair * 0x9e3779b97f4a7c15ULL) >> 32) & b->mask;
    while (b->merge[slot].id != NONE && b->merge[slot].pair != pair)
        slot = (slot + 1) & b->mask;
    return slot;
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static const Merge *find_merge(const Bpe *b, int32_t left, int32_t right)
{
    const Merge *m = &b->merge[slot_of(b, pair_of(left, right))];
    return m->id == NONE ? NULL : m;
}

static int32_t vocab_id(const json_t *vocab, const char *token, int32_t fallback)
{
    int32_t id;
    return token_id(json_object_get(vocab, token), &id) ? id : fallback;
}

/* line: "left right", written over */
static int add_merge(Bpe *b, const json_t *vocab, char *line, int32_t rank, Err *e)
{
    if ((size_t)rank > b->mask / 2)
        return err_set(e, "more merges than the vocabulary has tokens");
    char *right = strchr(line, ' ');
    if (!right || right == line || !right[1] || strchr(right + 1, ' '))
        return err_set(e, "'%s' is not a pair of tokens with a space between", line);
    *right++ = '\0';
    const size_t length = strlen(line);
    const int32_t left_id = vocab_id(vocab, line, NONE), right_id = vocab_id(vocab, right, NONE);
    if (left_id == NONE || right_id == NONE)
        return err_set(e, "'%s' is not in the vocabulary", left_id == NONE ? line : right);
    memmove(line + length, right, strlen(right) + 1);
    const int32_t id = vocab_id(vocab, line, NONE);
    if (id == NONE)
        return err_set(e, "'%s' is not in the vocabulary", line);
    const uint64_t pair = pair_of(left_id, right_id);
    b->merge[slot_of(b, pair)] = (Merge){pair, rank, id};
    return 0;
}

static int read_merges(Bpe *b, const json_t *vocab, const char *path, Err *e)
{
    Lines *in;
    char *line;
    int32_t rank = 0;
    int got = lines_open(&in, path, e) ? -1 : 1;
    while (got > 0 && (got = lines_next(in, &line, e)) > 0) {
        Err reason = {0};
        if (*line && !starts_with(line, "#version") && add_merge(b, vocab, line, rank++, &reason))
            got = err_set(e, "%s: line %ld: %s", path, lines_number(in), reason.text);
    }
    lines_close(in);
    return got;
}

static int take_merges(Bpe *b, const json_t *vocab, const json_t *merges, const char *path, Err *e)
{
    size_t i;
    const json_t *one;
    json_array_foreach(merges, i, one) {
        const char *whole = json_string_value(one), *left = json_string_value(json_array_get(one, 0)),
            *right = json_string_value(json_array_get(one, 1));
        char line[1024];
        Err reason = {0};
        const int n = whole ? snprintf(line, sizeof line, "%s", whole)
                    : left && right ? snprintf(line, sizeof line, "%s %s", left, right) : -1;
        if (n < 0 || n >= (int)sizeof line)
            return err_set(e, "%s: merge %zu is not a pair of tokens", path, i);
        if (add_merge(b, vocab, line, (int32_t)i, &reason))
            return err_set(e, "%s: merge %zu: %s", path, i, reason.text);
    }
    return 0;
}

static int is_printed(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

static void byte_symbols(Bpe *b, const json_t *vocab, int32_t unknown)
{
    for (int byte = 0, beyond = 256; byte < 256; byte++) {
        char symbol[16] = "";
        const long n = utf8proc_encode_char(is_printed(byte) ? byte : beyond++, (utf8proc_uint8_t *)symbol);
        b->inner[byte] = vocab_id(vocab, symbol, unknown);
        strcpy(symbol + n, "</w>");
        b->last[byte] = vocab_id(vocab, symbol, unknown);
    }
}

int bpe_create(Bpe **out, const json_t *vocab, const char *path, const json_t *merges, int32_t unknown, Err *e)
{
    *out = NULL;
    size_t slots = 1024;
    while (slots < 2 * json_object_size(vocab))
        slots *= 2;
    Bpe *b = calloc(1, sizeof *b);
    if (b)
        b->merge = malloc(slots * sizeof *b->merge);
    int failed;
    if (!b || !b->merge) {
        failed = err_set(e, "out of memory");
    } else {
        b->mask = slots - 1;
        for (size_t i = 0; i < slots; i++)
            b->merge[i] = (Merge){0, 0, NONE};
        byte_symbols(b, vocab, unknown);
        failed = merges ? take_merges(b, vocab, merges, path, e) : read_merges(b, vocab, path, e);
    }
    if (failed)
        bpe_free(b);
    else
        *out = b;
    return failed;
}

void bpe_free(Bpe *b)
{
    if (b)
        free(b->merge);
    free(b);
}

/* ---- a word ---- */

static int before(const Candidate *a, const Candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->place < b->place;
}

static void push(Work *w, Candidate c)
{
    size_t i = w->waiting++;
    for (; i > 0 && before(&c, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static Candidate pop(Work *w)
{
    const Candidate first = w->heap[0], c = w->heap[--w->waiting];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < w->waiting) {
        if (child + 1 < w->waiting && before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!before(&w->heap[child], &c))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = c;
    return first;
}

/* The merge of the symbol at `place` with the one after it joins the candidates, if there is one. */
static void propose(const Bpe *b, Work *w, int32_t place)
{
    if (place == NONE || w->next[place] == NONE)
        return;
    const Merge *m = find_merge(b, w->id[place], w->id[w->next[place]]);
    if (m)
        push(w, (Candidate){m->rank, place, m->id});
}

static int stands(const Bpe *b, const Work *w, const Candidate *c)
{
    if (w->id[c->place] == NONE || w->next[c->place] == NONE)
        return 0;
    const Merge *m = find_merge(b, w->id[c->place], w->id[w->next[c->place]]);
    return m && m->id == c->id;
}

static void join(const Bpe *b, Work *w, const Candidate *c)
{
    const int32_t gone = w->next[c->place], after = w->next[gone];
    w->id[c->place] = c->id;
    w->id[gone] = NONE;
    w->next[c->place] = after;
    if (after != NONE)
        w->previous[after] = c->place;
    propose(b, w, w->previous[c->place]);
    propose(b, w, c->place);
}

long bpe_word(const Bpe *b, const char *word, size_t n, int32_t *ids, Err *e)
{
    Work w = {0};
    /* three lists, and a heap that each join adds at most two to, having taken one */
    int32_t *memory = n < INT32_MAX / 8 ? malloc(n * (3 * sizeof *memory + 2 * sizeof *w.heap)) : NULL;
    if (!memory)
        return err_set(e, "out of memory for a word of %zu bytes", n);
    w.id = memory;
    w.next = memory + n;
    w.previous = memory + 2 * n;
    w.heap = (Candidate *)(memory + 3 * n);
    for (size_t i = 0; i < n; i++) {
        const unsigned char byte = (unsigned char)word[i];
        w.id[i] = i + 1 < n ? b->inner[byte] : b->last[byte];
        w.next[i] = i + 1 < n ? (int32_t)i + 1 : NONE;
        w.previous[i] = (int32_t)i - 1;
    }
    for (size_t i = 0; i < n; i++)
        propose(b, &w, (int32_t)i);
    while (w.waiting > 0) {
        const Candidate c = pop(&w);
        if (stands(b, &w, &c))
            join(b, &w, &c);
    }
    long count = 0;
    for (int32_t i = 0; i != NONE; i = w.next[i])
        ids[count++] = w.id[i];
    free(memory);
    return count;
}
