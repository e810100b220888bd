/* SPDX-License-Identifier: MIT */
/* unigram.c -- T5's tokenizer: added tokens cut out of the text, the rest normalised, in words, in pieces.
 *
 *   text --added tokens--> parts --normal form, added tokens marked "normalized"--> parts
 *        --white space--> words, U+2581 before each --U+2581--> parts of a word --best path--> ids
 *
 *   best[j] = max over pieces [i,j) of best[i] + score(piece)     a character that is no piece: <unk>, least score - 10
 *
 * Unknown characters in a row are one <unk>; of paths as good the one stays that was found first, from the left.
 * transformers models/t5/tokenization_t5.py (5.x), which takes Metaspace and WhitespaceSplit whatever tokenizer.json
 * has; tokenizers' models/unigram/model.rs, encode_optimized, and added_vocabulary.rs. */
#include <stdlib.h>
#include <string.h>
#include "src/models/tokenizer_text.h"
#include "src/models/unigram_parts.h"

static const char space[] = "\xe2\x96\x81";            /* U+2581, which stands for a space */
enum { SPACE_BYTES = sizeof space - 1, UNKNOWN_PENALTY = 10, NOTHING = -1 };

typedef struct Sink {               /* where ids go: the first `room` are kept, all are counted */
    int32_t *ids;
    long room, count;
} Sink;

typedef struct Best {               /* the best path that ends at a byte: its last piece, and where that begins */
    double score;
    size_t from;
    int32_t id;                     /* NOTHING: no path ends here */
} Best;

static void emit(Sink *sink, int32_t id)
{
    if (sink->count < sink->room)
        sink->ids[sink->count] = id;
    sink->count++;
}

static void offer(Best *end, size_t from, int32_t id, double score)
{
    if (end->id == NOTHING || score > end->score)
        *end = (Best){score, from, id};
}

/* Ids of the best path over n bytes; best has room for n + 1. */
static void encode_pieces(const Unigram *u, const char *text, size_t n, Best *best, Sink *sink)
{
    size_t next;
    best[0].score = 0;
    for (size_t i = 1; i <= n; i++)
        best[i].id = NOTHING;
    for (size_t at = 0; at < n; at = next) {
        bool known = false;                         /* this character is a piece */
        uint32_t node = 0;
        text_code(text, n, at, &next);
        for (size_t i = at; i < n && (node = trie_below(&u->piece, node, (uint8_t)text[i])); i++) {
            const int32_t id = trie_value(&u->piece, node);
            if (id < 0)
                continue;
            offer(&best[i + 1], at, id, u->score[id] + best[at].score);
            known |= i + 1 == next;
        }
        if (!known)
            offer(&best[next], at, UNIGRAM_UNKNOWN, u->least - UNKNOWN_PENALTY + best[at].score);
    }
    /* From the last piece back. The k-th from the end goes to best[n - k], which has been read: each has a byte. */
    size_t first = n + 1;
    for (size_t end = n, from; end > 0; end = from) {
        const int32_t id = best[end].id;
        from = best[end].from;
        if (id != UNIGRAM_UNKNOWN || first > n || best[first].id != UNIGRAM_UNKNOWN)
            best[--first].id = id;
    }
    for (; first <= n; first++)
        emit(sink, best[first].id);
}

/* A word of n bytes behind a space, cut before each further one that it has. */
static void encode_word(const Unigram *u, const char *word, size_t n, Best *best, Sink *sink)
{
    size_t from = 0;
    for (size_t at = SPACE_BYTES; at + SPACE_BYTES <= n; at++)
        if (memcmp(word + at, space, SPACE_BYTES) == 0) {
            encode_pieces(u, word + from, at - from, best, sink);
            from = at;
        }
    encode_pieces(u, word + from, n - from, best, sink);
}

static int encode_words(const Unigram *u, const char *text, size_t n, Sink *sink, Err *e)
{
    char *word = malloc(SPACE_BYTES + n + 1);
    Best *best = malloc((SPACE_BYTES + n + 1) * sizeof *best);
    size_t next, end;
    for (size_t at = 0; word && best && at < n; at = next) {
        if (text_is_space(text_code(text, n, at, &next)))
            continue;
        for (end = next; end < n && !text_is_space(text_code(text, n, end, &next)); end = next)
            ;
        const bool has = end - at >= SPACE_BYTES && memcmp(text + at, space, SPACE_BYTES) == 0;
        const size_t before = has ? 0 : SPACE_BYTES;
        memcpy(word, space, SPACE_BYTES);
        memcpy(word + before, text + at, end - at);
        encode_word(u, word, before + end - at, best, sink);
    }
    const int failed = !word || !best ? err_set(e, "out of memory for a text of %zu bytes", n) : 0;
    free(word);
    free(best);
    return failed;
}

static int encode_part(const Unigram *u, const ByteTrie *tokens, const char *text, size_t n, Sink *sink, Err *e);

static int encode_between(const Unigram *u, const ByteTrie *tokens, const char *text, size_t n, Sink *sink, Err *e)
{
    if (n == 0)
        return 0;
    if (tokens == &u->normal)
        return encode_words(u, text, n, sink, e);
    size_t length;
    char *form = charsmap_normalise(u->charsmap, text, n, &length, e);
    const int failed = form ? encode_part(u, &u->normal, form, length, sink, e) : -1;
    free(form);
    return failed;
}

static bool space_before(const char *text, size_t from, size_t *at)
{
    size_t i = *at, next;
    do
        if (i-- == from)
            return false;
    while (((unsigned char)text[i] & 0xc0) == 0x80);
    if (!text_is_space(text_code(text, *at, i, &next)))
        return false;
    *at = i;
    return true;
}

/* Text before normalisation, or after: cut at the added tokens that are looked for there, the longest of those that
 * begin first. */
static int encode_part(const Unigram *u, const ByteTrie *tokens, const char *text, size_t n, Sink *sink, Err *e)
{
    size_t from = 0, at = 0, length = 0, next;
    while (at < n) {
        const int32_t found = trie_longest(tokens, text + at, n - at, &length);
        if (found < 0) {
            at++;
            continue;
        }
        const AddedToken *token = &u->added[found];
        size_t start = at, end = at + length;
        while (token->lstrip && space_before(text, from, &start))
            ;
        while (token->rstrip && end < n && text_is_space(text_code(text, n, end, &next)))
            end = next;
        if (encode_between(u, tokens, text + from, start - from, sink, e))
            return -1;
        emit(sink, token->id);
        from = at = end;
    }
    return encode_between(u, tokens, text + from, n - from, sink, e);
}

int unigram_encode(const Unigram *u, const char *text, int32_t *ids, int S, long *left, Err *e)
{
    Sink sink = {ids, S - 1, 0};
    const size_t n = strlen(text);
    if (text_valid(text, n, e) || encode_part(u, &u->raw, text, n, &sink, e))
        return -1;
    const long kept = sink.count < sink.room ? sink.count : sink.room;
    *left = sink.count - kept;
    ids[kept] = u->end;
    for (long i = kept + 1; i < S; i++)
        ids[i] = u->pad;
    return 0;
}
