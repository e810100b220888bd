/* SPDX-License-Identifier: MIT */
/* tokenizer_text.c -- Unicode for the tokenizer, by utf8proc: what the Hugging Face tokenizers library does with CLIP's
 * normalizers NFC, Replace (spaces) and Lowercase, and its Split pattern (transformers
 * models/clip/tokenization_clip.py). */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "src/models/tokenizer_text.h"
#include "src/models/tokenizer_unicode.h"

typedef enum { SPACE, LETTER, NUMBER, OTHER } Class;

int32_t text_code(const char *text, size_t n, size_t at, size_t *next)
{
    utf8proc_int32_t code;
    const utf8proc_ssize_t length =
        utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(n - at), &code);
    *next = at + (length > 0 ? (size_t)length : 1);
    return length > 0 ? code : -1;
}

static const CodeRange *in_range(const CodeRange *list, int32_t code)
{
    for (; list->first; list++)
        if (code >= list->first && code <= list->last)
            return list;
    return NULL;
}

static int32_t lower_of(int32_t code)
{
    const CodeRange *young = code >= young_capitals[0].first ? in_range(young_capitals, code) : NULL;
    return young ? young->to + code - young->first : utf8proc_tolower(code);
}

bool text_is_space(int32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a)
        || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Lower case is one character but for U+0130, which is i and a dot above (Unicode SpecialCasing). Spaces in a row are
 * one. */
static char *lower(const char *text, size_t n)
{
    char *y = malloc(3 * n + 4);            /* U+0130 has 2 bytes and becomes 3; no simple mapping adds more than one */
    size_t used = 0, next;
    bool space = false;
    for (size_t at = 0; y && at < n; at = next) {
        const int32_t code = text_code(text, n, at, &next);
        const bool after = space;
        space = text_is_space(code);
        if (space && after)
            continue;
        used += (size_t)utf8proc_encode_char(space ? ' ' : code == 0x130 ? 'i' : lower_of(code),
                                             (utf8proc_uint8_t *)y + used);
        if (code == 0x130)
            used += (size_t)utf8proc_encode_char(0x307, (utf8proc_uint8_t *)y + used);
    }
    if (y)
        y[used] = '\0';
    return y;
}

/* Whether the character stays as it is. */
static bool is_inert(int32_t code)
{
    return code >= inert[0].first && in_range(inert, code);
}

/* The combining class by which a mark is put in order; 0: none is. */
static int mark_class(int32_t code)
{
    return code < 0x300 || is_inert(code) ? 0 : utf8proc_get_property(code)->combining_class;
}

/* Marks [from, to) of text, stably by class, through scratch of their size. */
static void sort_run(char *text, size_t from, size_t to, char *scratch)
{
    size_t place[257] = {0}, next;
    for (size_t at = from; at < to; at = next)
        place[mark_class(text_code(text, to, at, &next)) + 1] += next - at;
    for (int class = 1; class < 257; class++)
        place[class] += place[class - 1];
    for (size_t at = from; at < to; at = next) {
        size_t *to_here = &place[mark_class(text_code(text, to, at, &next))];
        memcpy(scratch + *to_here, text + at, next - at);
        *to_here += next - at;
    }
    memcpy(text + from, scratch, to - from);
}

/* Puts long runs of marks in canonical order, as any normal form has them: utf8proc exchanges neighbours, which takes
 * the square of a run's length. */
static void sort_marks(char *text, size_t n, char *scratch)
{
    enum { LONG = 64 };
    size_t from = 0, next;
    for (size_t at = 0; at < n; at = next) {
        if (mark_class(text_code(text, n, at, &next)) > 0)
            continue;
        if (at - from > LONG)
            sort_run(text, from, at, scratch);
        from = next;
    }
    if (n - from > LONG)
        sort_run(text, from, n, scratch);
}

/* Appends the NFC of n bytes, which never are more than three times as many. Returns -1 when out of memory. */
static int append_nfc(char *y, size_t *used, const char *text, size_t n)
{
    utf8proc_uint8_t *composed = NULL;
    const utf8proc_ssize_t length = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &composed,
                                                 UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (length < 0)
        return -1;
    memcpy(y + *used, composed, (size_t)length);
    *used += (size_t)length;
    free(composed);
    return 0;
}

/* NFC of what lies between inert characters; these stay as they are. */
static char *compose(const char *text, size_t n, size_t *length)
{
    char *y = malloc(3 * n + 1), *sorted = malloc(n + 1);
    size_t from = 0, next;
    int failed = !y || !sorted;
    *length = 0;
    if (!failed) {
        memcpy(sorted, text, n);
        sort_marks(sorted, n, y);
        text = sorted;
    }
    for (size_t at = 0; !failed && at < n; at = next) {
        const int32_t code = text_code(text, n, at, &next);
        if (!is_inert(code))
            continue;
        failed = append_nfc(y, length, text + from, at - from);
        memcpy(y + *length, text + at, next - at);
        *length += next - at;
        from = next;
    }
    if (failed || append_nfc(y, length, text + from, n - from)) {
        free(y);
        y = NULL;
    }
    free(sorted);
    return y;
}

int text_valid(const char *text, size_t n, Err *e)
{
    size_t next;
    for (size_t at = 0; at < n; at = next)
        if (text_code(text, n, at, &next) < 0)
            return err_set(e, "byte %zu of the text (0x%02x) is not valid UTF-8", at + 1, (unsigned char)text[at]);
    return 0;
}

char *text_normalise(const char *text, size_t n, Err *e)
{
    size_t length;
    if (text_valid(text, n, e))
        return NULL;
    char *composed = compose(text, n, &length);
    char *y = composed ? lower(composed, length) : NULL;
    free(composed);
    if (!y)
        err_set(e, "a text of %zu bytes cannot be normalised: out of memory", n);
    return y;
}

static Class class_of(int32_t code)
{
    if (text_is_space(code))
        return SPACE;
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    default:
        return in_range(young_letters, code) ? LETTER : in_range(young_numbers, code) ? NUMBER : OTHER;
    }
}

/* Length of the fixed string that the pattern has here, 0 for none. */
static size_t fixed(const char *text, size_t n)
{
    static const char *const strings[] = {
        "<|startoftext|>", "<|endoftext|>", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        const size_t length = strlen(strings[i]);
        if (length <= n && memcmp(text, strings[i], length) == 0)
            return length;
    }
    return 0;
}

int text_word(const char *text, size_t n, size_t from, size_t *start, size_t *end)
{
    size_t next;
    Class class = SPACE;
    for (*start = from; *start < n; *start = next)
        if ((class = class_of(text_code(text, n, *start, &next))) != SPACE)
            break;
    if (*start >= n)
        return 0;
    const size_t length = fixed(text + *start, n - *start);
    if (length > 0) {
        *end = *start + length;
        return 1;
    }
    for (*end = next; *end < n && class != NUMBER; *end = next)
        if (class_of(text_code(text, n, *end, &next)) != class)
            break;
    return 1;
}
