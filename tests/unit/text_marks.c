/* SPDX-License-Identifier: MIT */
/* text_marks.c -- normal form of long runs of combining marks: what utf8proc makes of them by itself, and of a run as
 * long as a line in no more time than of short ones. */
#include <stdbool.h>
#include <utf8proc.h>
#include "src/models/tokenizer_text.h"
#include "tests/unit/test.h"

/* Of classes 1, 220, 228, 230, 230 (two marks), 9, 232, 240; a Hangul part and a vowel sign, of class 0 both. */
static const int32_t marks[] = {0x334, 0x316, 0x5ae, 0x301, 0x344, 0x94d, 0x315, 0x345, 0x1161, 0x903};

static size_t put(char *text, size_t at, int32_t code)
{
    return at + (size_t)utf8proc_encode_char(code, (utf8proc_uint8_t *)text + at);
}

/* A letter and `many` marks, the first `kinds` of them in no order; then the same again. */
static size_t make(char *text, int many, unsigned kinds, uint32_t seed)
{
    size_t n = 0;
    for (int half = 0; half < 2; half++) {
        n = put(text, n, half ? 0xea : 'e');
        for (int i = 0; i < many; i++) {
            seed = seed*1664525u + 1013904223u;
            n = put(text, n, marks[(seed >> 16) % kinds]);
        }
    }
    return n;
}

static int test_run(int many, unsigned kinds)
{
    static char text[1 << 16];
    char name[64];
    utf8proc_uint8_t *want = NULL;
    Err e = {0};
    const size_t n = make(text, many, kinds, (uint32_t)many);
    utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &want, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    char *got = text_normalise(text, n, &e);
    snprintf(name, sizeof name, "%d marks of %u kinds", many, kinds);
    const int failed = test_ok(name, got && want && strcmp(got, (const char *)want) == 0);
    free(got);
    free(want);
    return failed;
}

/* Class 220 behind as many of class 230: the order that takes most exchanges. */
static int test_line(void)
{
    enum { MANY = 250000 };
    char *text = malloc(1 + 4*MANY + 8);
    size_t n = put(text, 0, 'e');
    Err e = {0};
    for (int i = 0; i < 2*MANY; i++)
        n = put(text, n, i < MANY ? 0x301 : 0x316);
    char *got = text_normalise(text, n, &e);
    /* e and the first U+0301 are U+00E9, behind which all of class 220 come */
    const bool good = got && strlen(got) == n - 1 && memcmp(got, "\xc3\xa9\xcc\x96\xcc\x96", 6) == 0
                      && memcmp(got + 2 + 2*MANY - 2, "\xcc\x96\xcc\x81", 4) == 0;
    free(text);
    free(got);
    return test_ok("a line of marks", good);
}

int main(void)
{
    int failed = 0;
    for (unsigned kinds = 1; kinds <= sizeof marks/sizeof *marks; kinds++)
        for (int many = 1; many < 3000; many = many*3 + 1)
            failed += test_run(many, kinds);
    return (failed + test_line()) != 0;
}
