/* SPDX-License-Identifier: MIT */
/* charsmap.c -- rules "these characters become those", compiled into a double array.
 *
 *   u32 bytes of the array   u32 units of it (Darts, Yata et al. 2007)   replacements, each with a NUL at its end
 *
 *   unit: bits 0-7 the byte that leads here, 8 whether a rule ends here, 9 and 10-31 the offset of what follows, times
 *   256 where bit 9 is set; at the offset itself lies the rule's value: bit 31, and the place of its replacement
 *
 * A grapheme cluster of less than six bytes becomes the replacement of the shortest rule that it begins with, and all
 * the rest of it is gone; without such a rule, and of a longer cluster, so does each character. SentencePiece itself
 * takes the longest rule at each place; ids are those of tokenizers' spm_precompiled (src/lib.rs) with the clusters of
 * Unicode 17, but that a consonant which a virama joins to the next ends a cluster here. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "formats/little.h"
#include "src/models/charsmap.h"
#include "src/models/tokenizer_text.h"

enum { BLOCK = 256, MOST = 1 << 24, CLUSTER_MOST = 5, REPLACEMENT_MOST = 1024 };

struct Charsmap {
    uint32_t *unit, units;          /* units: a multiple of BLOCK, so that what a byte leads to is among them */
    char *text;                     /* replacements */
};

static uint32_t offset_of(uint32_t unit)
{
    return unit >> 10 << ((unit & 1u << 9) >> 6);
}

/* Every unit that could be a node leads to others of the array, every rule to a whole replacement. */
static int check(const Charsmap *c, size_t length, const char *where, Err *e)
{
    for (uint32_t i = 0; i < c->units; i++) {
        const uint32_t unit = c->unit[i], next = i ^ offset_of(unit);
        if (i > 0 && unit >> 31)                    /* a value: no byte leads to it */
            continue;
        if (next >= c->units)
            return err_set(e, "%s: unit %u leads to unit %u of %u", where, i, next, c->units);
        if (!(unit >> 8 & 1))
            continue;
        const uint32_t at = c->unit[next] & ~(1u << 31);
        if (at >= length || ((unsigned char)c->text[at] & 0xc0) == 0x80
            || strnlen(c->text + at, REPLACEMENT_MOST + 1) > REPLACEMENT_MOST)
            return err_set(e, "%s: no text of at most %d bytes at byte %u of %zu, where a rule expects it", where,
                           REPLACEMENT_MOST, at, length);
    }
    return 0;
}

int charsmap_create(Charsmap **out, const uint8_t *data, size_t n, const char *where, Err *e)
{
    *out = NULL;
    const size_t bytes = n < 4 ? 0 : little(data, 4);
    if (bytes == 0 || bytes % (4 * BLOCK) != 0 || bytes > n - 4 || n > MOST)
        return err_set(e, "%s: %zu bytes with an array of %zu, expected at most %d, and whole blocks of %d within them",
                       where, n, bytes, MOST, 4 * BLOCK);
    const size_t length = n - 4 - bytes;
    const char *text = (const char *)data + 4 + bytes;
    if (length == 0 || text[length - 1] != '\0' || text_valid(text, length, &(Err){0}))
        return err_set(e, "%s: its replacements are no UTF-8 with a NUL at the end", where);
    Charsmap *c = calloc(1, sizeof *c);
    if (c) {
        c->units = (uint32_t)(bytes / 4);
        c->unit = malloc(bytes);
        c->text = malloc(length);
    }
    if (!c || !c->unit || !c->text) {
        charsmap_free(c);
        return err_set(e, "%s: out of memory", where);
    }
    for (uint32_t i = 0; i < c->units; i++)
        c->unit[i] = (uint32_t)little(data + 4 + 4 * (size_t)i, 4);
    memcpy(c->text, text, length);
    if (check(c, length, where, e)) {
        charsmap_free(c);
        return -1;
    }
    *out = c;
    return 0;
}

void charsmap_free(Charsmap *c)
{
    if (!c)
        return;
    free(c->unit);
    free(c->text);
    free(c);
}

/* The replacement of the shortest rule that n bytes begin with; NULL: there is none. */
static const char *replacement(const Charsmap *c, const char *text, size_t n)
{
    uint32_t at = offset_of(c->unit[0]);
    for (size_t i = 0; i < n; i++) {
        const uint8_t byte = (uint8_t)text[i];
        at ^= byte;
        const uint32_t unit = c->unit[at];
        if ((unit & (1u << 31 | 0xff)) != byte)
            return NULL;
        at ^= offset_of(unit);
        if (unit >> 8 & 1)
            return c->text + (c->unit[at] & ~(1u << 31));
    }
    return NULL;
}

typedef struct Range { int32_t first, last; } Range;

/* A code point whose clusters utf8proc knows, of those that utf8proc 2.8 (Unicode 15.0) is too old for: marks younger
 * than it, which join what is before them, and two letters. Found by comparing every code point with tokenizers
 * 0.23. */
static int32_t known(int32_t code)
{
    static const Range young[] = {
        {0x897, 0x897},     {0x1acf, 0x1add},   {0x1ae0, 0x1aeb},   {0x10d69, 0x10d6d}, {0x10efa, 0x10efc},
        {0x113b8, 0x113c0}, {0x113c2, 0x113c2}, {0x113c5, 0x113c5}, {0x113c7, 0x113ca}, {0x113cc, 0x113d0},
        {0x113d2, 0x113d2}, {0x113e1, 0x113e2}, {0x11b60, 0x11b67}, {0x11f5a, 0x11f5a}, {0x1611e, 0x1612f},
        {0x1e5ee, 0x1e5ef}, {0x1e6e3, 0x1e6e3}, {0x1e6e6, 0x1e6e6}, {0x1e6ee, 0x1e6ef}, {0x1e6f5, 0x1e6f5},
    };
    if (code == 0x113d1)            /* a sign before its letter, as U+0D4E is */
        return 0xd4e;
    if (code == 0x11a3a)            /* is no such sign any more */
        return 'a';
    for (size_t i = 0; code >= young[0].first && i < sizeof young / sizeof young[0]; i++)
        if (code >= young[i].first && code <= young[i].last)
            return 0x300;
    return code;
}

/* The byte behind the grapheme cluster that begins at `at`. */
static size_t cluster_end(const char *text, size_t n, size_t at)
{
    utf8proc_int32_t state = 0;
    size_t next;
    int32_t code = known(text_code(text, n, at, &next));
    while (next < n) {
        const size_t end = next;
        const int32_t before = code;
        code = known(text_code(text, n, end, &next));
        if (utf8proc_grapheme_break_stateful(before, code, &state))
            return end;
    }
    return n;
}

typedef struct Text { char *data; size_t n, room; } Text;

static int append(Text *y, const char *text, size_t n, Err *e)
{
    if (n >= y->room - y->n) {
        const size_t room = 2 * y->room + n;
        char *grown = realloc(y->data, room);
        if (!grown)
            return err_set(e, "out of memory for the normal form of a text");
        y->data = grown;
        y->room = room;
    }
    memcpy(y->data + y->n, text, n);
    y->n += n;
    return 0;
}

/* A cluster, or a character of one. Returns 1 where it has a rule, 0 where not, -1 on error. */
static int append_replaced(Text *y, const Charsmap *c, const char *text, size_t n, Err *e)
{
    const char *instead = replacement(c, text, n);
    return !instead ? 0 : append(y, instead, strlen(instead), e) ? -1 : 1;
}

static int append_cluster(Text *y, const Charsmap *c, const char *text, size_t n, Err *e)
{
    const int whole = n <= CLUSTER_MOST ? append_replaced(y, c, text, n, e) : 0;
    size_t next;
    for (size_t at = 0; whole == 0 && at < n; at = next) {
        text_code(text, n, at, &next);
        const int done = append_replaced(y, c, text + at, next - at, e);
        if (done < 0 || (done == 0 && append(y, text + at, next - at, e)))
            return -1;
    }
    return whole < 0 ? -1 : 0;
}

char *charsmap_normalise(const Charsmap *c, const char *text, size_t n, size_t *length, Err *e)
{
    Text y = {malloc(n + 1), 0, n + 1};
    int failed = y.data ? 0 : err_set(e, "out of memory for a text of %zu bytes", n);
    if (!failed && !c)
        failed = append(&y, text, n, e);
    for (size_t at = 0, end; c && !failed && at < n; at = end) {
        end = cluster_end(text, n, at);
        failed = append_cluster(&y, c, text + at, end - at, e);
    }
    if (failed) {
        free(y.data);
        return NULL;
    }
    y.data[y.n] = '\0';
    *length = y.n;
    return y.data;
}
