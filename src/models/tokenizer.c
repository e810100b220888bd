/* SPDX-License-Identifier: MIT */
/* tokenizer.c -- CLIP's tokenizer: special tokens cut out of the text, the rest normalised, in words, in byte pairs.
 *
 *   text --special tokens--> parts --NFC, spaces, lower case, special tokens marked "normalized"--> parts
 *                                  --pattern--> words --BPE--> ids
 *
 * transformers models/clip/tokenization_clip.py (5.x); tokenizers' added_vocabulary.rs. */
#include <stdlib.h>
#include <string.h>
#include "src/models/tokenizer_parts.h"
#include "src/models/tokenizer_text.h"

typedef struct Sink {               /* where ids go: the first `room` are kept, all are counted */
    int32_t *ids;
    int room, count;
} Sink;

int tokenizer_length(const Tokenizer *t)
{
    return t->length;
}

static void emit(Sink *sink, int32_t id)
{
    if (sink->count < sink->room)
        sink->ids[sink->count] = id;
    sink->count++;
}

static int encode_word(const Tokenizer *t, const char *word, size_t n, int32_t *scratch, Sink *sink, Err *e)
{
    const long count = bpe_word(t->bpe, word, n, scratch, e);
    for (long i = 0; i < count; i++)
        emit(sink, scratch[i]);
    return count < 0 ? -1 : 0;
}

/* A word that spells a special token without being one is cut in three by the byte level: "<|", "endoftext", "|>". */
static int encode_words(const Tokenizer *t, const char *text, size_t n, Sink *sink, Err *e)
{
    int32_t *scratch = malloc((n + 1) * sizeof *scratch);
    if (!scratch)
        return err_set(e, "out of memory for a text of %zu bytes", n);
    int failed = 0;
    size_t start, end;
    for (size_t at = 0; !failed && text_word(text, n, at, &start, &end); at = end) {
        const char *word = text + start;
        const size_t length = end - start;
        if (length > 4 && word[0] == '<' && word[1] == '|' && word[2] >= 'a' && word[2] <= 'z')
            failed = encode_word(t, word, 2, scratch, sink, e) || encode_word(t, word + 2, length - 4, scratch, sink, e)
                  || encode_word(t, word + length - 2, 2, scratch, sink, e);
        else
            failed = encode_word(t, word, length, scratch, sink, e);
    }
    free(scratch);
    return failed ? -1 : 0;
}

/* The first special token of the kind in the text, the longest where several begin; NULL when there is none. */
static const Special *find_special(const Tokenizer *t, bool normalized, const char *text, size_t n, size_t *at)
{
    for (size_t i = 0; i < n; i++) {
        const Special *longest = NULL;
        for (int k = 0; k < t->specials; k++) {
            const Special *s = &t->special[k];
            if (s->normalized == normalized && s->length <= n - i && memcmp(s->text, text + i, s->length) == 0
                && (!longest || s->length > longest->length))
                longest = s;
        }
        if (longest) {
            *at = i;
            return longest;
        }
    }
    return NULL;
}

static int encode_part(const Tokenizer *t, bool normalized, const char *text, size_t n, Sink *sink, Err *e);

static int encode_between(const Tokenizer *t, bool normalized, const char *text, size_t n, Sink *sink, Err *e)
{
    if (normalized)
        return encode_words(t, text, n, sink, e);
    char *form = text_normalise(text, n, e);
    const int failed = form ? encode_part(t, true, form, strlen(form), sink, e) : -1;
    free(form);
    return failed;
}

/* Text before normalisation, or after: cut at the special tokens that are looked for there. */
static int encode_part(const Tokenizer *t, bool normalized, const char *text, size_t n, Sink *sink, Err *e)
{
    size_t at;
    const Special *s;
    while ((s = find_special(t, normalized, text, n, &at))) {
        if (encode_between(t, normalized, text, at, sink, e))
            return -1;
        for (int i = 0; i < s->count; i++)
            emit(sink, s->id + i);
        text += at + s->length;
        n -= at + s->length;
    }
    return encode_between(t, normalized, text, n, sink, e);
}

int tokenizer_tokens(const Tokenizer *t, const char *text, size_t n, int32_t *ids, int room, Err *e)
{
    Sink sink = {ids, room, 0};
    return encode_part(t, false, text, n, &sink, e) ? -1 : sink.count;
}

void tokenizer_frame(const Tokenizer *t, int32_t *ids, int count)
{
    ids[0] = t->begin;
    ids[1 + count] = t->end;
    for (int i = count + 2; i < t->length; i++)
        ids[i] = t->pad;
}

int tokenizer_encode(const Tokenizer *t, const char *text, int32_t *ids, Err *e)
{
    const int room = t->length - 2, count = tokenizer_tokens(t, text, strlen(text), ids + 1, room, e);
    if (count >= 0)
        tokenizer_frame(t, ids, count < room ? count : room);
    return count;
}
